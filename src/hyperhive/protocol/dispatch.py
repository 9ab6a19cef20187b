"""One request of one actor to its handler, and back.

Owns the order: authorise, run, answer. It never looks inside a request, keeps no state, and lets no error but a
cancellation out: whatever a handler raises becomes an `Err`.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any

import msgspec

from hyperhive.errors import BugError, HiveError, NotAvailable
from hyperhive.protocol.codec import error_reply
from hyperhive.protocol.policy import Actor, Caller, authorize, check_fields
from hyperhive.protocol.replies import Reply
from hyperhive.protocol.requests import Request, Subscribe, tag_of

log = logging.getLogger(__name__)


CALL_ID: ContextVar[str | None] = ContextVar("hyperhive_call_id", default=None)
"""The id of the tool call that this request stands for, while its handler runs; None for every other request.

The same call has the same id when it is replayed, also by a harness or a bridge that outlived the core. Opaque, and
unique only together with the caller's name.
"""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A reply with its two fates, for replies that hand something over.

    The edge calls exactly one of them: `written` after the reply's last byte was handed to the transport, `undo` when
    it could not be. Both return at once.
    """

    reply: Reply
    written: Callable[[], None] | None = None
    undo: Callable[[], None] | None = None


Handler = Callable[[Caller, Any], Awaitable[Reply | Answer]]
Frames = AsyncIterator[bytes]
OpenStream = Callable[[Caller, Subscribe], AbstractAsyncContextManager[Frames]]


class Dispatcher:
    """The core's front door, the same for every entry point.

    Args:
        handlers: one for each request class that this hive serves; the others are answered `not_available`.
        open_stream: gives the frames of a stream, each as one encoded line.
    """

    def __init__(self, handlers: Mapping[type[Request], Handler], open_stream: OpenStream) -> None:
        self._handlers = dict(handlers)
        self._open_stream = open_stream

    def serves(self, request: type[Request]) -> bool:
        """Whether this hive has a handler for such requests."""
        return request in self._handlers

    async def dispatch(self, actor: Actor, request: Request) -> Answer:
        """The answer to one request; errors are answers too. `req` is carried over."""
        try:
            caller = authorize(actor, type(request))
            check_fields(caller, request)
            handler = self._handlers.get(type(request))
            if handler is None:
                raise NotAvailable(f"{tag_of(type(request))} is not served by this version of the hive yet")
            result = await handler(caller, request)
        except HiveError as error:
            return Answer(reply=error_reply(error, request.req))
        except Exception:
            # Supervisor: a handler's bug must not take the connection, let alone the hive, with it
            log.exception("request_failed cmd=%s", tag_of(type(request)))
            bug = BugError(f"{tag_of(type(request))} failed by a bug in the hive; its log has the traceback")
            return Answer(reply=error_reply(bug, request.req))
        answer = result if isinstance(result, Answer) else Answer(reply=result)
        if request.req is None:
            return answer
        return msgspec.structs.replace(answer, reply=msgspec.structs.replace(answer.reply, req=request.req))

    def stream(self, actor: Actor, request: Subscribe) -> AbstractAsyncContextManager[Frames]:
        """The frames of a stream.

        Raises:
            Forbidden: the actor may not subscribe.
            NotFound: there is no such stream (on entering).
        """
        return self._open_stream(authorize(actor, Subscribe), request)
