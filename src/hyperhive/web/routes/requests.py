"""`/api/request`, and the original's spellings of the same requests, as one table.

A spelling is a method, a path, and the request that it stands for: the path's parts are fields of it, the rest comes
from the body (POST) or the query (GET).
"""

from dataclasses import dataclass
from typing import Final, Literal

from litestar.handlers import HTTPRouteHandler

from hyperhive.protocol import codec
from hyperhive.protocol import requests as r
from hyperhive.web.front import Answered, Front, Http, body_of, from_body, from_query


@dataclass(frozen=True, slots=True)
class Spelling:
    """One route that stands for a request. `fixed`: fields that the route itself says."""

    method: Literal["GET", "POST"]
    path: str
    request: type[r.Request]
    operation_id: str
    fixed: tuple[tuple[str, object], ...] = ()


def _get(path: str, request: type[r.Request], operation_id: str) -> Spelling:
    return Spelling("GET", path, request, operation_id)


def _post(path: str, request: type[r.Request], operation_id: str, **fixed: object) -> Spelling:
    return Spelling("POST", path, request, operation_id, tuple(fixed.items()))


SPELLINGS: Final[tuple[Spelling, ...]] = (
    _get("/api/state", r.State, "getState"),
    _get("/dashboard/history", r.History, "getHistory"),
    _get("/api/approvals/{id:int}", r.Show, "getApproval"),
    _get("/api/state-file/check", r.StateFileCheck, "checkStateFile"),
    _get("/api/state-file/read", r.StateFileRead, "readStateFile"),
    _get("/api/agent-config/{name:str}", r.AgentConfig, "getAgentConfig"),
    _get("/api/journal/{name:str}", r.Logs, "getJournal"),
    _post("/op-send", r.Send, "opSend"),
    _post("/approve/{id:int}", r.Approve, "approve"),
    _post("/deny/{id:int}", r.Deny, "deny"),
    _post("/answer-question/{id:int}", r.Answer, "answerQuestion"),
    _post("/cancel-question/{id:int}", r.CancelQuestion, "cancelQuestion"),
    _post("/spawn", r.Spawn, "spawn"),
    _post("/request-spawn", r.RequestSpawn, "requestSpawn"),
    _post("/rollback/{name:str}", r.Rollback, "rollback"),
    _post("/start/{name:str}", r.Start, "start"),
    _post("/kill/{name:str}", r.Kill, "kill"),
    _post("/restart/{name:str}", r.Restart, "restart"),
    _post("/rebuild/{name:str}", r.Rebuild, "rebuild"),
    _post("/update/{name:str}", r.Update, "update"),
    _post("/destroy/{name:str}", r.Destroy, "destroy"),
    _post("/update-all", r.UpdateAll, "updateAll"),
    _post("/meta-update", r.MetaUpdate, "metaUpdate"),
    _post("/purge-tombstone/{name:str}", r.Destroy, "purgeTombstone", purge=True),
)


def request_routes(front: Front) -> list[HTTPRouteHandler]:
    """All of them."""

    async def any_request(request: Http) -> Answered:
        return await front.ask(request, codec.decode_request(await body_of(request)))

    return [
        HTTPRouteHandler("/api/request", http_method="POST", status_code=200, name="request")(any_request),
        *(_route(front, each) for each in SPELLINGS),
    ]


def _route(front: Front, spelling: Spelling) -> HTTPRouteHandler:
    async def spelled(request: Http) -> Answered:
        if spelling.method == "GET":
            return await front.ask(request, from_query(request, spelling.request))
        return await front.ask(request, await from_body(request, spelling.request, dict(spelling.fixed)))

    return HTTPRouteHandler(
        spelling.path, http_method=spelling.method, status_code=200, name=spelling.operation_id
    )(spelled)
