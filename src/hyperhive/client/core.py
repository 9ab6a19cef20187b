"""The core, as a harness in a process of its own asks it: over its harness socket, through restarts of the core.

A request that was under way when the core went away is asked again. All that a harness asks is safe to repeat: a
requeue that blames its messages carries an id, so that it counts once.
Receiving has a connection of its own, so that giving up a `recv` is hanging up, which gives its messages back. It
implements `harness.core.Core`, and composes with nothing: who serves turns is the entry point's business.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

import msgspec

from hyperhive.client.lines import Lines, dial
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.errors import BadRequest, Closed, HiveUnreachable
from hyperhive.protocol.codec import decode, decode_reply, encode, error_from
from hyperhive.protocol.replies import Err, Messages, Reply
from hyperhive.protocol.requests import AckTurn, Hello, Recv, Request, RequeueInflight

DIAL_AGAIN_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class _Number(msgspec.Struct):
    req: int | None = None


_NUMBER = msgspec.json.Decoder(_Number)


class SocketCore:
    """Implements `harness.core.Core`.

    Args:
        path: the harness socket of this agent.
        hello: what this harness reports when it (again) reaches a core.
        clock: paces the dialling.
        new_id: gives ids that never repeat.

    Before anything else is asked on a fresh connection it says `hello`, with the messages that it still holds: what
    the core handed out and this harness never saw goes back to the inbox then.
    """

    def __init__(
        self,
        path: Path,
        hello: Hello,
        *,
        clock: Clock = SYSTEM_CLOCK,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._hello = hello
        self._new_id = new_id
        self._clock = clock
        self._held: set[int] = set()
        self._took: set[int] = set()
        self._unsure = True
        self._reporting = asyncio.Lock()
        self._asking = _Numbered(path, clock, self._doubt)
        self._receiving = _Numbered(path, clock, self._doubt)

    async def ask(self, request: Request) -> Reply:
        """See `Core`."""
        if isinstance(request, AckTurn) and request.taken and request.ids is not None:
            request = msgspec.structs.replace(request, ids=sorted({*request.ids, *self._took}))
        if isinstance(request, RequeueInflight) and request.blame is not None and request.call_id is None:
            request = msgspec.structs.replace(request, call_id=self._new_id())
        while True:
            try:
                reply = await self._ask_once(request)
            except Closed:
                if self._asking.closed:
                    raise
                await self._clock.sleep(
                    DIAL_AGAIN_SECONDS[0]
                )  # a core that takes us and drops us is no reason to spin
                continue
            self._note(request, reply)
            return _checked(reply)

    def took(self, ids: Iterable[int]) -> None:
        """Tool calls inside the running turn took these messages (`mcp.remote` tells): they are held, too.

        The core knows that as well, but forgets it in a restart.
        """
        self._took.update(ids)
        self._held.update(ids)

    async def aclose(self) -> None:
        """Hangs up; the core takes it as the end of this harness's requests. Idempotent."""
        await self._asking.aclose()
        await self._receiving.aclose()

    async def _ask_once(self, request: Request) -> Reply:
        await self._asking.reach()
        if self._unsure:
            await self._report()
        if not isinstance(request, Recv):
            return await self._asking.ask(request)
        try:
            return await self._receiving.ask(request)
        except asyncio.CancelledError:
            self._unsure = True  # the messages may have been on their way to us just now
            self._receiving.hang_up()
            raise

    async def _report(self) -> None:
        async with self._reporting:
            if not self._unsure:
                return
            # A recv that is under way might be answered while the core reads what we hold: it is asked anew, after.
            await self._receiving.drop()
            hello = msgspec.structs.replace(self._hello, holding=sorted(self._held))
            _checked(await self._asking.ask(hello))
            self._unsure = False

    def _doubt(self) -> None:
        self._unsure = True

    def _note(self, request: Request, reply: Reply) -> None:
        """Keep the list of messages that this harness holds."""
        if isinstance(reply, Messages):
            self._held.update(message.id for message in reply.messages)
        elif isinstance(request, AckTurn | RequeueInflight) and not isinstance(reply, Err):
            gone = set(self._held) if request.ids is None else set(request.ids)
            self._held -= gone
            self._took -= gone


def _checked(reply: Reply) -> Reply:
    if isinstance(reply, Err):
        raise error_from(reply.code, reply.message, reply.hint)
    return reply


class _Numbered:
    """Numbered requests on one connection that is dialled when it is needed."""

    def __init__(self, path: Path, clock: Clock, on_lost: Callable[[], None]) -> None:
        self._path = path
        self._clock = clock
        self._told_lost = on_lost
        self._lines: Lines | None = None
        self._dialling = asyncio.Lock()
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self.closed = False

    async def ask(self, request: Request) -> Reply:
        """One request. Raises `Closed` when the connection went away before the reply came."""
        lines = await self.reach()
        number = next(self._numbers)
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiter
        try:
            await lines.send(encode(msgspec.structs.replace(request, req=number)))
            return await waiter
        finally:
            del self._waiting[number]

    async def reach(self) -> Lines:
        """The connection; dials for as long as it takes. Raises `Closed` after `close`."""
        async with self._dialling:
            attempts = 0
            while self._lines is None:
                if self.closed:
                    raise Closed("this harness has hung up")
                try:
                    self._lines = await dial(self._path, self._on_line, self._on_lost)
                except HiveUnreachable:
                    pause = DIAL_AGAIN_SECONDS[min(attempts, len(DIAL_AGAIN_SECONDS) - 1)]
                    attempts += 1
                    await self._clock.sleep(pause)
            return self._lines

    def hang_up(self) -> None:
        """Ends the connection; the next request dials again."""
        if self._lines is not None:
            self._lines.close()

    async def drop(self) -> None:
        """Ends the connection, and returns when nothing more can come by it; the next request dials again."""
        if self._lines is not None:
            await self._lines.aclose()

    async def aclose(self) -> None:
        """Ends it for good."""
        self.closed = True
        await self.drop()

    def _on_line(self, line: bytes) -> None:
        try:
            number, reply = decode(line, _NUMBER, "reply").req, decode_reply(line)
        except BadRequest:
            self.hang_up()
            return
        waiter = self._waiting.get(number) if number is not None else None
        if waiter is not None and not waiter.done():
            waiter.set_result(msgspec.structs.replace(reply, req=None))

    def _on_lost(self) -> None:
        self._lines = None
        self._told_lost()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(Closed("the core went away"))
