"""What a parser says of a wrong value, in words: for people who know the field, and not the library that checks it.

Pure, and never in the way: what it does not know stays as it is. Decides nothing.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, get_args, get_origin

import msgspec

_TYPES: Final = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "array": "a list",
    "object": "a table of keys", "null": "nothing",
}  # fmt: skip
_PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?(?P<place>[^`]*)`\Z", re.DOTALL)
_EXPECTED: Final = re.compile(
    r"Expected `(?P<type>[a-z0-9 |]+)`(?P<length> of length)?(?: (?P<bound>>=|<=|>|<) (?P<limit>-?[\d.e+]+))?"
    r"(?: matching regex (?P<regex>'.*'|\".*\"))?(?:, got `(?P<got>[^`]*)`)?\Z",
    re.DOTALL,
)
_BOUNDS: Final = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}
_FIXED: Final = (
    (re.compile(r"Object contains unknown field `(.*)`\Z", re.DOTALL), r"there is no field \1 here"),
    (re.compile(r"Object missing required field `(.*)`\Z", re.DOTALL), r"the field \1 is missing"),
)


def in_words(complaint: str, kind: object = None) -> str:
    """`PLACE: what is wrong there`, or without the place where it is the value itself.

    Args:
        complaint: what msgspec says.
        kind: the type that was expected there, where it is known: its choices and examples are named. A struct stands
            for its fields' types.
    """
    place = _PLACE.search(complaint)
    fault = _PLACE.sub("", complaint)
    where = place["place"] if place else ""
    said = _said(fault, _of_field(kind, where))
    return f"{where}: {said}" if where else said


def _of_field(kind: object, name: str) -> object:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return next((one.type for one in msgspec.structs.fields(kind) if one.encode_name == name), None)
    return kind


def _said(fault: str, kind: object) -> str:
    if (choice := re.fullmatch(r"Invalid enum value (.*)", fault, re.DOTALL)) is not None:
        choices = ", ".join(str(one) for one in _literals(kind))
        return f"{choice[1]} is none of {choices}" if choices else f"{choice[1]} is none of the choices"
    for pattern, words in _FIXED:
        if pattern.fullmatch(fault):
            return pattern.sub(words, fault)
    found = _EXPECTED.fullmatch(fault)
    if found is None:
        return fault
    wanted = [_TYPES.get(one, one) for one in found["type"].split(" | ") if one != "null"] or ["nothing"]
    said = f"expected {' or '.join(wanted)}"
    if found["bound"]:
        said += f" {_BOUNDS[found['bound']]} {found['limit']}"
        if found["length"]:
            said += " entries" if "array" in found["type"] else " characters"
    if found["regex"]:
        examples = [str(one) for one in _examples(kind)]
        said += f" such as {' or '.join(examples)}" if examples else f" of the form {found['regex'][1:-1]}"
    return f"{said}, not {_TYPES.get(found['got'], found['got'])}" if found["got"] else said


def _literals(kind: object) -> Iterator[object]:
    if get_origin(kind) is Literal:
        yield from get_args(kind)
        return
    for part in get_args(kind):
        yield from _literals(part)


def _examples(kind: object) -> Iterator[object]:
    if get_origin(kind) is Annotated:
        for note in get_args(kind)[1:]:
            if isinstance(note, msgspec.Meta) and note.pattern is not None:
                yield from note.examples or ()
    for part in get_args(kind):
        yield from _examples(part)
