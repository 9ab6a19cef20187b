"""`/api/requests`: many requests of the operator's at one go, each answered by a line of its own as soon as it is done.

A browser has six connections to us, and an answer to "stop this agent" may take as long as its turn: two hundred such
requests, one connection each, would wait for each other, and so would everything else that the page asks.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import anyio
import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send
from msgspec import Meta, Raw

from hyperhive.errors import HiveError
from hyperhive.protocol import codec
from hyperhive.protocol import requests as r
from hyperhive.web.front import Answered, Front, Http, answered, body_as

MEDIA_TYPE: Final = "application/x-ndjson"
REQUESTS_MAX: Final = 1000
AT_ONCE: Final = 8
"""So many side by side of whatever begins something: a start or an update costs the machine more than a stop."""

_ENDING: Final = (r.Kill, r.Destroy)
"""These wait for a turn to end, and nobody's end for somebody else's: from the first line on no new turn begins."""


class Many(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked, by requests of any kind."""

    requests: Annotated[tuple[Raw, ...], Meta(min_length=1, max_length=REQUESTS_MAX)]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the request at this place, from 0: status and body as `/api/request` would answer it."""

    at: int
    status: int
    body: Raw


_MANY = msgspec.json.Decoder(Many)
_ENCODE = msgspec.json.Encoder().encode


def many_route(front: Front) -> HTTPRouteHandler:
    """POST /api/requests. Where one of them is no valid request none is carried out."""

    async def many(request: Http) -> ASGIResponse:
        asked = (await body_as(request, _MANY, "list of requests")).requests
        return Outcomes(front, request, [codec.decode_request(bytes(each)) for each in asked])

    return HTTPRouteHandler("/api/requests", http_method="POST", status_code=200, name="requests")(many)


class Outcomes(ASGIResponse):
    """A line of each request's. What was asked is carried out also where nobody stays to hear of it."""

    _should_set_content_length = False

    def __init__(self, front: Front, http: Http, requests: Sequence[r.Request]) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        self._front = front
        self._http = http
        self._requests = requests
        self._slots = anyio.CapacityLimiter(AT_ONCE)
        self._line = anyio.Lock()

    async def send_body(self, send: Send, receive: Receive) -> None:
        """See `ASGIResponse`."""
        del receive
        async with anyio.create_task_group() as group:
            for at, request in enumerate(self._requests):
                group.start_soon(self._one, send, at, request)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _one(self, send: Send, at: int, request: r.Request) -> None:
        if isinstance(request, _ENDING):
            answer = await self._answer(request)
        else:
            async with self._slots:
                answer = await self._answer(request)
        line = _ENCODE(Outcome(at=at, status=answer.status_code or 200, body=Raw(answer.content)))
        async with self._line:
            await send({"type": "http.response.body", "body": line + b"\n", "more_body": True})

    async def _answer(self, request: r.Request) -> Answered:
        try:
            return await self._front.ask(self._http, request)
        except HiveError as error:
            return answered(self._http, codec.error_reply(error, None))
