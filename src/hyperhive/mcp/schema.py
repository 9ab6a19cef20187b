"""A tool's input schema: what msgspec says of its request, cut to the arguments that a model may set. Pure."""

import copy
from typing import Any

import msgspec

from hyperhive.mcp.tools import Tool

Schema = dict[str, Any]


def input_schema(tool: Tool) -> Schema:
    """The JSON schema of the tool's arguments, with their types, bounds, defaults and descriptions."""
    (_, whole) = msgspec.json.schema_components([tool.request], ref_template="{name}")
    struct = whole[tool.request.__name__]
    properties = {
        name: {"description": text, **_plain(copy.deepcopy(struct["properties"][name]))}
        for name, text in tool.params.items()
    }
    required = [name for name in struct.get("required", ()) if name in tool.params]
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": required} if required else schema


def _plain(field: Schema) -> Schema:
    """An optional field is one that may be left out; that it may also be null is nobody's business."""
    if field.get("default", "") is None:
        del field["default"]
    if "anyOf" in field:
        kinds = [kind for kind in field.pop("anyOf") if kind != {"type": "null"}]
        field |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return field
