"""The protocol's types as JSON schemas: the components of the OpenAPI document, and so the pages' TypeScript types.

Says what is on the wire, which is more exact than what Python reads: an unset optional field is left out rather than
null, and a field that the wire promises is required even where Python has a default. No routes here.
"""

from typing import Any

import msgspec

from hyperhive.protocol import answers, events, replies, requests

REF = "#/components/schemas/{name}"


def protocol_schemas() -> dict[str, dict[str, Any]]:
    """Component schemas by class name, of every request an operator may send, its reply, and every event.

    `Request` is the union of the requests; `Answers` says which reply belongs to which `cmd`; `DashboardEvent`,
    `LiveEvent` and `StreamFrame` are the unions of what streams carry (a `stream` event's own fields are the agent
    CLI's and not described).
    """
    unions: dict[str, tuple[type[msgspec.Struct], ...]] = {
        "Request": requests.REQUESTS,
        "DashboardEvent": events.AnyDashboardEvent.__args__,
        "LiveEvent": events.TypedLiveEvent.__args__,
        "StreamFrame": events.StreamFrame.__args__,
        "HelperEvent": events.AnyHelperEvent.__args__,
    }
    told = [*replies.REPLIES, *(each for union in unions.values() for each in union)]
    _, schemas = msgspec.json.schema_components(told, ref_template=REF)
    structs = {each.__name__: each for each in _structs(told)}
    for name, schema in schemas.items():
        if name in structs and not issubclass(structs[name], requests.Request):
            _as_told(structs[name], schema)
    for name, members in unions.items():
        schemas[name] = {"oneOf": [{"$ref": REF.format(name=each.__name__)} for each in members]}
    schemas["Answers"] = {
        "type": "object",
        "description": "Which reply belongs to which request, by `cmd`.",
        "properties": {
            requests.tag_of(asked): {"$ref": REF.format(name=reply.__name__)}
            for asked, reply in answers.ANSWERS.items()
        },
        "required": [requests.tag_of(asked) for asked in answers.ANSWERS],
    }
    return schemas


def _structs(roots: list[type[msgspec.Struct]]) -> set[type[msgspec.Struct]]:
    """These structs and all that their fields are made of."""
    seen: set[type[msgspec.Struct]] = set()
    waiting: list[msgspec.inspect.Type] = list(msgspec.inspect.multi_type_info(roots))
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, msgspec.inspect.StructType):
            if kind.cls in seen:
                continue
            seen.add(kind.cls)
            waiting += [field.type for field in kind.fields]
        elif isinstance(kind, msgspec.inspect.UnionType):
            waiting += kind.types
        elif isinstance(kind, msgspec.inspect.DictType):
            waiting.append(kind.value_type)
        elif isinstance(kind, msgspec.inspect.TupleType):
            waiting += kind.item_types
        elif isinstance(kind, msgspec.inspect.CollectionType):
            waiting.append(kind.item_type)
    return seen


def _as_told(struct: type[msgspec.Struct], schema: dict[str, Any]) -> None:
    """Make a struct's schema say how we write it, rather than what we would read."""
    required = set(schema.get("required", ()))
    properties: dict[str, dict[str, Any]] = schema["properties"]
    if struct.__struct_config__.tag_field is not None:
        required.add(struct.__struct_config__.tag_field)
    for field in msgspec.structs.fields(struct):
        promised = field.default_factory not in {msgspec.NODEFAULT, list, dict}
        if promised or not struct.__struct_config__.omit_defaults:
            required.add(field.encode_name)
        elif field.default is None:
            properties[field.encode_name] = _without_null(properties[field.encode_name])
    schema["required"] = sorted(required)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kinds) == 1:
        return {**rest, **kinds[0]}
    if kinds:
        return {**rest, "anyOf": kinds}
    if None in schema.get("enum", ()):
        return {**rest, "enum": [each for each in schema["enum"] if each is not None]}
    return rest
