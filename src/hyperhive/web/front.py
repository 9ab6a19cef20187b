"""What every route needs of the hive: asking it as the operator, and the answer as HTTP.

A route builds a HostRequest, asks, and returns; it decides nothing. Policy is the dispatcher's, here as everywhere.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request as HttpRequest
from litestar import Response
from litestar.exceptions import InternalServerException

from hyperhive.errors import BadRequest, NotAvailable
from hyperhive.protocol import codec
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.replies import Err, Reply
from hyperhive.protocol.requests import Request, Subscribe, tag_of
from hyperhive.web.guards import REQUEST_ID
from hyperhive.web.problems import MEDIA_TYPE, problem
from hyperhive.web_access import WebAccess

JSON: Final = "application/json"
WEB: Final = Actor.operator("web")

Http = HttpRequest[Any, Any, Any]
Answered = Response[bytes]
T = TypeVar("T")

_FIELDS = msgspec.json.Decoder(dict[str, Any])
_ENCODE = msgspec.json.Encoder().encode


class Front:
    """The hive as the routes see it.

    Attributes:
        dispatcher: answers requests, and opens streams (as `WEB`).
        access: who is logged in.
    """

    def __init__(self, dispatcher: Dispatcher, access: WebAccess) -> None:
        self.dispatcher = dispatcher
        self.access = access

    async def ask(self, http: Http, request: Request) -> Answered:
        """The operator's request, and its reply: `ok` beside the reply's own fields, or the error as problem+json."""
        if isinstance(request, Subscribe):
            raise NotAvailable("streams are opened at /stream", hint="GET /stream, /dashboard/stream")
        answer = await self.dispatcher.dispatch(WEB, request)
        if answer.written is not None:
            answer.written()
        return answered(http, answer.reply)

    async def reply(self, request: Request) -> Reply:
        """The operator's request, for a route that makes something else of its reply.

        Raises:
            HiveError: what the hive answered.
        """
        answer = await self.dispatcher.dispatch(WEB, request)
        if answer.written is not None:
            answer.written()
        if isinstance(answer.reply, Err):
            raise codec.error_from(answer.reply.code, answer.reply.message, answer.reply.hint)
        return answer.reply


def answered(http: Http, reply: Reply) -> Answered:
    """A reply as HTTP answers it."""
    if isinstance(reply, Err):
        told = problem(reply.code, reply.message, request_id(http), reply.hint)
        return Response(_ENCODE(told), media_type=MEDIA_TYPE, status_code=told.status)
    # In both dialects at once: its `kind` tells a program which reply it is, `ok` is HostResponse's.
    return Response(b'{"ok":true,' + codec.encode(reply)[1:], media_type=JSON, status_code=200)


def json(value: msgspec.Struct | Mapping[str, object]) -> Answered:
    """Any other object as HTTP answers it."""
    return Response(_ENCODE(value), media_type=JSON, status_code=200)


def request_id(http: Http) -> str:
    """The id by which the hive's log knows this request."""
    return str(http.scope["state"].get(REQUEST_ID, ""))


async def body_of(http: Http) -> bytes:
    """The body.

    Raises:
        BadRequest: its sender left in the middle of it.
    """
    try:
        return await http.body()
    except InternalServerException as error:  # what Litestar makes of a disconnect
        raise BadRequest("the connection ended in the middle of the body") from error


async def body_as(http: Http, decoder: "msgspec.json.Decoder[T]", what: str) -> T:
    """The body, strictly.

    Raises:
        BadRequest: it is something else.
    """
    return codec.decode(await body_of(http) or b"{}", decoder, what)


async def from_body(
    http: Http, request: type[Request], fixed: Mapping[str, object] = MappingProxyType({})
) -> Request:
    """The request that the path's and the body's fields make together, strictly. `fixed`: what the route says.

    Raises:
        BadRequest: an unknown or missing field, a wrong type, or a field that the path has already.
    """
    fields = await body_as(http, _FIELDS, "JSON object")
    said = {"cmd": tag_of(request), **fixed, **http.path_params}
    if twice := fields.keys() & said.keys():
        raise BadRequest(f"`{min(twice)}` is said by the path and has no place in the body")
    return codec.decode_request(_ENCODE({**fields, **said}))


def from_query(http: Http, request: type[Request]) -> Request:
    """The request that the path's and the query's fields make together. Numbers are what they say.

    Raises:
        BadRequest: an unknown, missing or repeated field, or a wrong value.
    """
    fields: dict[str, object] = dict(http.path_params)
    for key, value in http.query_params.multi_items():
        if key in fields:
            raise BadRequest(f"`{key[:80]}` is said twice")
        fields[key] = value
    return codec.convert_request(fields, request)
