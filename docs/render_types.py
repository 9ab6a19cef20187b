"""msgspec structs as Markdown: a type as a reader writes it, a struct as a table of its fields.

Pure: takes structs, gives text. What is documented, and in which order, the pages decide.
"""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import inspect as types


def doc(thing: object) -> str:
    """A docstring, unwrapped, each paragraph on one line."""
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def cell(text: str) -> str:
    """Text that may stand in a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = list(head)
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    lines += [f"| {' | '.join(cell(part) for part in row)} |" for row in rows]
    return "\n".join(lines)


def _bounds(info: Any) -> str:
    parts = []
    for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
        value = getattr(info, name, None)
        if value is not None:
            parts.append(f"{sign} {value}")
    low, high = getattr(info, "min_length", None), getattr(info, "max_length", None)
    if high is not None:
        parts.append(f"{low or 0} to {high} long")
    elif low:
        parts.append(f"at least {low} long")
    if pattern := getattr(info, "pattern", None):
        parts.append(f"matches `{pattern}`")
    return f" ({', '.join(parts)})" if parts else ""


_PLAIN: dict[type[types.Type], str] = {
    types.AnyType: "anything",
    types.NoneType: "null",
    types.BoolType: "boolean",
    types.IntType: "integer",
    types.FloatType: "number",
    types.StrType: "string",
    types.BytesType: "base64 string",
    types.RawType: "anything",
}


def type_name(info: types.Type) -> str:
    """A type in JSON's words, with its limits."""
    match info:
        case types.IntType(ge=1, le=le) if le == 2**63 - 1:
            return "id"
        case types.Metadata(type=inner):
            return type_name(inner)
        case types.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case types.UnionType(types=members):
            return " or ".join(
                type_name(member) for member in members if not isinstance(member, types.NoneType)
            )
        case types.ListType() | types.VarTupleType() | types.SetType() | types.FrozenSetType():
            return f"list of {type_name(info.item_type)}"
        case types.DictType(key_type=key, value_type=value):
            if isinstance(value, types.AnyType):
                return "object"
            return f"object of {type_name(key)} to {type_name(value)}"
        case types.StructType(cls=cls) | types.DataclassType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case types.EnumType(cls=cls):
            return " or ".join(f"`{member.value}`" for member in cls)
        case _:
            return _PLAIN.get(type(info), type(info).__name__.removesuffix("Type").lower()) + _bounds(info)


def _default(field: types.Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None:
        return "unset"
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return f"default `{text}`" if len(text) <= 60 else "has a default"


def fields(struct: type[msgspec.Struct], *, without: Iterable[str] = ()) -> list[types.Field]:
    """A struct's fields, but those named (by their names on the wire)."""
    info = types.type_info(struct)
    if not isinstance(info, types.StructType):
        raise TypeError(f"{struct.__name__} is no struct")
    skip = set(without)
    return [field for field in info.fields if field.encode_name not in skip]


def field_list(struct: type[msgspec.Struct], *, without: Iterable[str] = ()) -> str:
    """A struct's fields in one cell: name, type, default."""
    rows = fields(struct, without=without)
    return "; ".join(f"`{f.encode_name}`: {type_name(f.type)}, {_default(f)}" for f in rows) or "none"


def _notes(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What stands under each field as a string of its own: attribute docstrings, the nearest class's first."""
    notes: dict[str, str] = {}
    for cls in struct.__mro__:
        if not issubclass(cls, msgspec.Struct) or cls is msgspec.Struct:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, note in itertools.pairwise(statements):
            match field, note:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    notes.setdefault(name, " ".join(text.split()))
                case _:
                    pass
    return notes


def field_table(struct: type[msgspec.Struct], *, without: Iterable[str] = ()) -> str:
    """A struct's fields as a table."""
    notes = _notes(struct)
    rows = [
        (f"`{f.encode_name}`", type_name(f.type), ". ".join(filter(None, [_default(f), notes.get(f.name)])))
        for f in fields(struct, without=without)
    ]
    return table(("field", "type", ""), rows) if rows else "No fields."


def mentioned(structs: Iterable[type[msgspec.Struct]]) -> list[type[msgspec.Struct]]:
    """The structs that these name in their fields, and those that they name, by name; not these themselves."""
    given = list(structs)
    found: dict[str, type[msgspec.Struct]] = {}

    def visit(info: types.Type) -> None:
        match info:
            case types.StructType(cls=cls) if cls.__name__ not in found:
                found[cls.__name__] = cls
                for field in info.fields:
                    visit(field.type)
            case types.Metadata(type=inner):
                visit(inner)
            case types.UnionType(types=members):
                for member in members:
                    visit(member)
            case types.ListType() | types.VarTupleType() | types.SetType() | types.FrozenSetType():
                visit(info.item_type)
            case types.DictType(value_type=value):
                visit(value)
            case _:
                pass

    for struct in given:
        for field in fields(struct):
            visit(field.type)
    return [found[name] for name in sorted(found) if found[name] not in given]
