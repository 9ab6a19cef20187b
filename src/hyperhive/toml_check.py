"""TOML files checked against structs: every fault at once, each with its line and its reason.

For `hive.toml` and `agent.toml`. A line number is good enough to point at, and nothing is decided by it. No file is
opened here.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import TypeVar, get_args, get_origin

import msgspec

from hyperhive.errors import BadConfig
from hyperhive.wording import in_words

T = TypeVar("T", bound=msgspec.Struct)

Fault = tuple[tuple[str, ...], str]
"""Where in the file, and what is wrong there."""


def parse(
    text: str,
    kind: type[T],
    source: str,
    *,
    semantic: Callable[[Mapping[str, object]], list[Fault]],
    withheld: Mapping[str, str] | None = None,
) -> T:
    """The file, checked.

    Args:
        semantic: finds what a value's type does not say; has to look at the types itself.
        withheld: keys at the top that this file may not have, each with the reason.

    Raises:
        BadConfig: with every fault, each as `FILE:LINE: KEY: reason`.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadConfig([f"{source}: {str(error) or 'nested too deeply'}"]) from error
    reasons = withheld or {}
    faults: list[Fault] = [((key,), reasons[key]) for key in data if key in reasons]
    data = {key: value for key, value in data.items() if key not in reasons}
    values = _check(data, kind, (), faults)
    faults += semantic(data)
    if not faults:
        return msgspec.convert(values, kind)
    lines = _key_lines(text)
    raise BadConfig([_at(source, lines, path, reason) for path, reason in faults])


def _check(value: object, kind: object, path: tuple[str, ...], faults: list[Fault]) -> object:
    """`value` as plain data of the shape `kind`, adding a fault for every place where it is not."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _check_table(value, kind, path, faults)
    if get_origin(kind) is dict and isinstance(value, dict):
        inner = get_args(kind)[1]
        return {key: _check(item, inner, (*path, key), faults) for key, item in value.items()}
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        faults.append((path, in_words(str(error), kind)))
    return value


def _check_table(
    value: object, kind: type[msgspec.Struct], path: tuple[str, ...], faults: list[Fault]
) -> object:
    if not isinstance(value, dict):
        faults.append((path, "expected a table"))
        return value
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in value:
        if key not in fields:
            faults.append(((*path, key), f"unknown key; known here: {', '.join(sorted(fields))}"))
    for key, field in fields.items():
        if key not in value and field.required:
            faults.append(((*path, key), "missing"))
    return {
        key: _check(item, fields[key].type, (*path, key), faults)
        for key, item in value.items()
        if key in fields
    }


def _key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of every plainly written key and table header: good enough to point at, never to decide by."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?", line):
            table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            lines.setdefault(table, number)
        elif key := re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line):
            lines.setdefault((*table, *(part.strip("\"'") for part in key[1].split("."))), number)
    return lines


def _at(source: str, lines: dict[tuple[str, ...], int], path: tuple[str, ...], reason: str) -> str:
    known = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    place = f"{source}:{known}" if known else source
    return f"{place}: {'.'.join(path)}: {reason}" if path else f"{place}: {reason}"
