"""The streams over HTTP: a browser's one `/stream` and what it carries, and the original's streams of one name.

`Last-Event-ID` says where a reader was; fetch-based readers send it themselves. Who may read at all is decided before.
"""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from litestar import Request, Router, get, post
from litestar.connection import ASGIConnection
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from litestar.response.base import ASGIResponse
from msgspec import Meta

from hyperhive.clock import Clock
from hyperhive.streams import HIVE
from hyperhive.web.streaming.hub import Hub
from hyperhive.web.streaming.response import EventStream

AnyConnection = ASGIConnection[Any, Any, Any, Any]
Owner = Callable[[AnyConnection], str]
"""Whose request this is: the same for one login, another for each other."""

AnyRequest = Request[Any, Any, Any]
Name = Annotated[str, Meta(min_length=1, max_length=63)]
LastId = Annotated[str | None, HeaderParameter(name="Last-Event-ID", max_length=100)]


class Subscriptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stream shall carry, and what no more."""

    add: tuple[Name, ...] = ()
    remove: tuple[Name, ...] = ()


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream carries, and where each of these stands: what comes after these numbers comes on the stream."""

    streams: dict[str, int]


def stream_routes(hub: Hub, clock: Clock, owner: Owner) -> list[Router]:
    """The handlers, for one hub."""

    @get("/stream", operation_id="openStream", media_type="text/event-stream")
    async def stream(
        request: AnyRequest,
        streams: Annotated[list[Name] | None, QueryParameter(max_items=512)] = None,
        last_id: LastId = None,
    ) -> ASGIResponse:
        """One browser's stream: `resume` first, which names it (`id`), then the frames of all that it carries.

        `streams`: what it shall carry at least. Each frame has `stream`, and `seq` in that stream; `lagged` has a
        `stream` where that one alone is meant.
        """
        return EventStream(hub, await hub.open(owner(request), last_id, streams or ()), clock)

    @post("/stream/{stream_id:str}/subscriptions", operation_id="changeSubscriptions", status_code=200)
    async def subscriptions(
        request: AnyRequest, stream_id: FromPath[str], data: JSONBody[Subscriptions]
    ) -> Carried:
        """Changes what a stream carries."""
        return Carried(streams=await hub.subscribe(owner(request), stream_id, data.add, data.remove))

    @get("/dashboard/stream", operation_id="openHiveStream", media_type="text/event-stream")
    async def hive(request: AnyRequest, last_id: LastId = None) -> ASGIResponse:
        """The hive's stream alone, its ids numbered as the stream is."""
        return EventStream(hub, await hub.open_one(owner(request), HIVE, last_id), clock)

    @get("/agents/{name:str}/events/stream", operation_id="openAgentStream", media_type="text/event-stream")
    async def agent(request: AnyRequest, name: FromPath[str], last_id: LastId = None) -> ASGIResponse:
        """One agent's stream alone, its ids numbered as the stream is."""
        return EventStream(hub, await hub.open_one(owner(request), name, last_id), clock)

    return [Router("/", route_handlers=[stream, subscriptions, hive, agent], tags=["streams"])]
