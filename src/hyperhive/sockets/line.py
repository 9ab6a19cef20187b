"""The core's end of an attached harness: commands go down with a number, replies and live events come up.

A reply and an event are told apart by their kind: no event has a kind of a reply's, and only replies carry `req`.
Keeps no history and knows no command.
"""

import asyncio
from collections.abc import Callable
from itertools import count

import msgspec

from hyperhive.errors import BadRequest, Closed, TimedOut
from hyperhive.names import AgentName
from hyperhive.protocol.codec import decode, decode_reply, encode, error_from
from hyperhive.protocol.harness_line import HarnessCommand
from hyperhive.protocol.replies import REPLIES, Err, Reply

REPLY_KINDS = frozenset(str(reply.__struct_config__.tag) for reply in REPLIES)


class _Head(msgspec.Struct):
    kind: str
    req: str | int | None = None


_HEAD = msgspec.json.Decoder(_Head)


class AttachedLine:
    """Implements `protocol.line.HarnessLine` on one connection."""

    def __init__(self, agent: AgentName, send: Callable[[bytes], None], end: Callable[[bytes], None]) -> None:
        self.agent = agent
        self._send = send
        self._end = end
        self._numbers = count(1)
        self._waiting: dict[str | int, asyncio.Future[Reply]] = {}
        self._closed = False

    async def ask(self, command: HarnessCommand, *, within: float = 30.0) -> Reply:
        """See `HarnessLine`."""
        if self._closed:
            raise Closed(f"the harness of {self.agent} is not attached")
        number = next(self._numbers)
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiter
        try:
            self._send(encode(msgspec.structs.replace(command, req=number)))
            async with asyncio.timeout(within):
                reply = await waiter
        except TimeoutError:
            raise TimedOut(f"the harness of {self.agent} gave no answer within {within:g} seconds") from None
        finally:
            del self._waiting[number]
        if isinstance(reply, Err):
            raise error_from(reply.code, reply.message, reply.hint)
        return reply

    def close(self, reason: str) -> None:
        """See `HarnessLine`."""
        self._end(encode(Err(message=reason, code="superseded")))

    def take(self, line: bytes) -> bytes | None:
        """One line from the harness: a reply wakes its asker, an event is given back.

        Raises:
            BadRequest: neither.
        """
        head = decode(line, _HEAD, "reply or event")
        if head.kind not in REPLY_KINDS:
            return line
        if head.req is None:
            raise BadRequest("no valid reply: the field `req` is missing")
        waiter = self._waiting.get(head.req)
        if waiter is not None and not waiter.done():
            waiter.set_result(msgspec.structs.replace(decode_reply(line), req=None))
        return None

    def lost(self) -> None:
        """The connection is gone."""
        self._closed = True
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(Closed(f"the harness of {self.agent} went away"))
