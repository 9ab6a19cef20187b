"""The streams over HTTP: a browser's one `/stream` and what it carries, and the original's streams of one name.

`Last-Event-ID` says where a reader was; fetch-based readers send it themselves. Who may read at all is decided before.
"""

from typing import Annotated, Final

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from msgspec import Meta

from hyperhive.clock import Clock
from hyperhive.errors import BadRequest
from hyperhive.streams import HIVE
from hyperhive.web.front import Answered, Http, body_as, json
from hyperhive.web.streaming.hub import Hub
from hyperhive.web.streaming.response import EventStream

ID_MAX: Final = 100
"""Characters of a `Last-Event-ID`."""

Name = Annotated[str, Meta(min_length=1, max_length=63)]


class Subscriptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stream shall carry, and what no more."""

    add: tuple[Name, ...] = ()
    remove: tuple[Name, ...] = ()


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream carries, and where each of these stands: what comes after these numbers comes on the stream."""

    streams: dict[str, int]


_SUBSCRIPTIONS = msgspec.json.Decoder(Subscriptions)


def stream_routes(hub: Hub, clock: Clock) -> list[HTTPRouteHandler]:
    """GET /stream, POST /stream/STREAM/subscriptions, GET /dashboard/stream, GET /agents/NAME/events/stream."""

    async def stream(request: Http) -> ASGIResponse:
        names = request.query_params.getall("streams", [])
        return EventStream(hub, await hub.open(_owner(request), _last_id(request), names), clock)

    async def subscriptions(request: Http) -> Answered:
        change = await body_as(request, _SUBSCRIPTIONS, "change of subscriptions")
        which = str(request.path_params["stream"])
        return json(Carried(streams=await hub.subscribe(_owner(request), which, change.add, change.remove)))

    async def one(request: Http) -> ASGIResponse:
        name = str(request.path_params.get("name", HIVE))
        return EventStream(hub, await hub.open_one(_owner(request), name, _last_id(request)), clock)

    return [
        HTTPRouteHandler("/stream", http_method="GET", status_code=200, name="openStream")(stream),
        HTTPRouteHandler(
            "/stream/{stream:str}/subscriptions",
            http_method="POST",
            status_code=200,
            name="changeSubscriptions",
        )(subscriptions),
        HTTPRouteHandler("/dashboard/stream", http_method="GET", status_code=200, name="openHiveStream")(one),
        HTTPRouteHandler(
            "/agents/{name:str}/events/stream", http_method="GET", status_code=200, name="openAgentStream"
        )(one),
    ]


def _owner(request: Http) -> str:
    """Whose request this is: the login's."""
    return str(request.scope.get("auth", ""))


def _last_id(request: Http) -> str | None:
    last_id = request.headers.get("last-event-id")
    if last_id is not None and len(last_id) > ID_MAX:
        raise BadRequest(f"`Last-Event-ID` is longer than {ID_MAX} characters")
    return last_id or None
