"""An agent's own routes under `/agents/NAME`, in the original's spellings: each is a request of the operator's.

What its harness knows comes through the core, wherever that harness runs, and as data only. The stream is in `streams`,
the page itself in `pages`. The same routes, without the prefix, are what a port of the agent's own serves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from litestar.handlers import HTTPRouteHandler

from hyperhive.errors import BadRequest
from hyperhive.protocol import codec
from hyperhive.protocol import requests as r
from hyperhive.web.front import Answered, Front, Http, body_as

PREFIX: Final = "/agents/{name:str}"

_FIELDS = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class AgentRoute:
    """One route. `field`: where the request says the agent's name."""

    method: Literal["GET", "POST"]
    path: str
    request: type[r.Request]
    operation_id: str
    field: str = "name"


ROUTES: Final = (
    AgentRoute("GET", "/api/state", r.AgentState, "getAgentState"),
    AgentRoute("GET", "/api/loose-ends", r.AgentLooseEnds, "getAgentLooseEnds"),
    AgentRoute("GET", "/api/stats", r.Stats, "getAgentStats"),
    AgentRoute("GET", "/events/history", r.Events, "getAgentEvents"),
    AgentRoute("POST", "/send", r.Send, "sendToAgent", field="to"),
    AgentRoute("POST", "/login/start", r.LoginStart, "startLogin"),
    AgentRoute("POST", "/login/code", r.LoginCode, "giveLoginCode"),
    AgentRoute("POST", "/login/cancel", r.LoginCancel, "cancelLogin"),
    AgentRoute("POST", "/api/cancel", r.Cancel, "cancelTurn"),
    AgentRoute("POST", "/api/compact", r.Compact, "compactSession"),
    AgentRoute("POST", "/api/model", r.Model, "setModel"),
    AgentRoute("POST", "/api/new-session", r.NewSession, "newSession"),
)


def agent_routes(front: Front, agent: str | None = None) -> list[HTTPRouteHandler]:
    """All of them: under `/agents/NAME`, or at the root for this one agent."""
    return [_route(front, each, agent) for each in ROUTES]


def _route(front: Front, route: AgentRoute, agent: str | None) -> HTTPRouteHandler:
    async def spelled(request: Http) -> Answered:
        name = agent if agent is not None else request.path_params["name"]
        if route.method == "GET":
            said = list(request.query_params.multi_items())
            fields = dict(said)
            if len(fields) < len(said):
                raise BadRequest("a field of the query is said twice")
            return await front.ask(request, codec.convert_request(_with(fields, route, name), route.request))
        body = await body_as(request, _FIELDS, "JSON object")
        whole = {**_with(body, route, name), "cmd": r.tag_of(route.request)}
        return await front.ask(request, codec.decode_request(msgspec.json.encode(whole)))

    path = route.path if agent is not None else PREFIX + route.path
    return HTTPRouteHandler(path, http_method=route.method, status_code=200, name=route.operation_id)(spelled)


def _with(fields: Mapping[str, object], route: AgentRoute, name: object) -> dict[str, object]:
    """The fields, with the agent's name where the request has it."""
    if twice := fields.keys() & {route.field, "cmd"}:
        raise BadRequest(f"`{min(twice)}` is said by the path and has no place here")
    return {**fields, route.field: name}
