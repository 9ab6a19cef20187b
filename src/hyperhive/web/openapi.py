"""The OpenAPI 3.1 document of the web server, made from the same tables as the routes.

Committed as `frontend/openapi.json` (docs/generate.py writes it, a test fails where it is stale): the pages' TypeScript
types come from it. Beside what routes use it holds every request, reply and event of the protocol as schemas.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

import hyperhive
from hyperhive.protocol import requests as r
from hyperhive.protocol.answers import ANSWERS
from hyperhive.web.problems import Problem
from hyperhive.web.routes.agent_pages import PREFIX, AgentRoute
from hyperhive.web.routes.agent_pages import ROUTES as AGENT_ROUTES
from hyperhive.web.routes.many import MEDIA_TYPE as LINES
from hyperhive.web.routes.many import REQUESTS_MAX, Outcome
from hyperhive.web.routes.requests import SPELLINGS, Spelling
from hyperhive.web.routes.session import LoggedIn, LogIn
from hyperhive.web.routes.streams import Carried, Subscriptions
from hyperhive.web.schemas import REF, protocol_schemas

Json = dict[str, Any]

_DESCRIPTION: Final = """\
The operator's requests over HTTP. Log in at `/session` with the token of a link that `hyperhive open` prints; send \
the cookie and `X-Hive-Secret` with everything else. Errors are problem+json."""
_PART: Final = re.compile(r"\{(\w+):(\w+)\}")
_OWN: Final = (LogIn, LoggedIn, Subscriptions, Carried, Outcome, Problem)
_STREAM: Final = {"text/event-stream": {"schema": {"$ref": REF.format(name="StreamFrame")}}}
_REQUESTS: Final[Json] = {
    "type": "array",
    "items": {"$ref": REF.format(name="Request")},
    "minItems": 1,
    "maxItems": REQUESTS_MAX,
}
_OK: Final[Json] = {"type": "object", "properties": {"ok": {"const": True}}, "required": ["ok"]}


def document() -> Json:
    """The whole document."""
    schemas = protocol_schemas()
    _, own = msgspec.json.schema_components(_OWN, ref_template=REF)
    paths: dict[str, Json] = {}
    for path, method, operation in _operations(schemas):
        paths.setdefault(_PART.sub(r"{\1}", path), {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HyperHive",
            "version": hyperhive.__version__,
            "description": _DESCRIPTION,
        },
        "security": [{"cookie": [], "secret": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "cookie": {"type": "apiKey", "in": "cookie", "name": "hive_session"},
                "secret": {"type": "apiKey", "in": "header", "name": "X-Hive-Secret"},
            },
            "schemas": dict(sorted((schemas | own).items())),
        },
    }


def as_text() -> str:
    """The document as it is committed."""
    return (
        msgspec.json.format(msgspec.json.encode(document(), order="deterministic"), indent=1).decode() + "\n"
    )


def _operations(schemas: dict[str, Json]) -> Iterator[tuple[str, str, Json]]:
    yield (
        "/api/request",
        "POST",
        _operation("request", "Any request of the operator's; its reply is the one of its `cmd`.")
        | {"requestBody": _json({"$ref": REF.format(name="Request")})}
        | _answers(_json({"oneOf": [{"$ref": REF.format(name=name)} for name in _replies()]})["content"]),
    )
    body = {
        "type": "object",
        "properties": {"requests": _REQUESTS},
        "required": ["requests"],
        "additionalProperties": False,
    }
    yield (
        "/api/requests",
        "POST",
        _operation("requests", "Many requests at one go; a line for each, as soon as it is done.")
        | {"requestBody": _json(body)}
        | _answers({LINES: {"schema": {"$ref": REF.format(name="Outcome")}}}),
    )
    for each in SPELLINGS:
        said = {"cmd", "req", *(name for name, _ in each.fixed)}
        yield each.path, each.method, _spelled(each, each.path, said, schemas)
    for route in AGENT_ROUTES:
        path = PREFIX + route.path
        yield path, route.method, _spelled(route, path, {"cmd", "req", route.field}, schemas)
    yield (
        "/session",
        "POST",
        _operation("logIn", "Begin a session with a login link's token.")
        | {
            "security": [],
            "requestBody": _json({"$ref": REF.format(name="LogIn")}),
        }
        | _answers(_json({"$ref": REF.format(name="LoggedIn")})["content"]),
    )
    for path, method, name in (("/session", "DELETE", "logOut"), ("/session/end", "POST", "endSession")):
        yield path, method, _operation(name, "End this session.") | _answers(_json(_OK)["content"])
    yield (
        "/stream",
        "GET",
        _operation("openStream", "This browser's stream; what it carries is set by POST.")
        | {"parameters": [_query("streams", {"type": "array", "items": {"type": "string"}}), _LAST_ID]}
        | _answers(_STREAM),
    )
    path = "/stream/{stream:str}/subscriptions"
    yield (
        path,
        "POST",
        _operation("changeSubscriptions", "Change what a stream carries.")
        | {
            "parameters": _path_parameters(path),
            "requestBody": _json({"$ref": REF.format(name="Subscriptions")}),
        }
        | _answers(_json({"$ref": REF.format(name="Carried")})["content"]),
    )
    for path, name in (
        ("/dashboard/stream", "openHiveStream"),
        ("/agents/{name:str}/events/stream", "openAgentStream"),
    ):
        parameters = [*_path_parameters(path), _LAST_ID]
        yield path, "GET", _operation(name, "One stream.") | {"parameters": parameters} | _answers(_STREAM)


def _spelled(each: Spelling | AgentRoute, path: str, said: set[str], schemas: dict[str, Json]) -> Json:
    """A route that stands for a request: what the path does not say is in the query or the body."""
    schema = schemas[each.request.__name__]
    rest = {name: kind for name, kind in schema["properties"].items() if name not in said}
    parts = _path_parameters(path)
    for part in parts:
        rest.pop(part["name"], None)
    required = [name for name in schema.get("required", ()) if name in rest]
    operation = _operation(each.operation_id, schema.get("description", ""))
    if each.method == "GET":
        parts += [_query(name, kind, required=name in required) for name, kind in rest.items()]
    else:
        body: Json = {"type": "object", "properties": rest, "additionalProperties": False}
        operation["requestBody"] = _json(body | ({"required": required} if required else {}))
    if parts:
        operation["parameters"] = parts
    return operation | _answers(_json({"$ref": REF.format(name=ANSWERS[each.request].__name__)})["content"])


def _replies() -> list[str]:
    """What an operator's request can be answered with."""
    return sorted({ANSWERS[request].__name__ for request in r.REQUESTS})


def _operation(operation_id: str, summary: str) -> Json:
    return {"operationId": operation_id, "summary": summary}


def _answers(content: Json) -> Json:
    told = {"application/problem+json": {"schema": {"$ref": REF.format(name="Problem")}}}
    return {
        "responses": {
            "200": {"description": "Done.", "content": content},
            "default": {"description": "An error.", "content": told},
        }
    }


def _json(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


def _path_parameters(path: str) -> list[Json]:
    kinds = {"int": "integer", "str": "string"}
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": kinds[kind]}}
        for name, kind in _PART.findall(path)
    ]


def _query(name: str, schema: Json, *, required: bool = False) -> Json:
    return {"name": name, "in": "query", "required": required, "schema": schema}


_LAST_ID: Final[Json] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
}
