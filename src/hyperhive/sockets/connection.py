"""One peer of one socket: what its lines are, in which order they are answered, and what its end undoes.

A connection is one of four things, by its first line or by a request: commands (default), an MCP session, the frames
of a stream, the line of an attached harness. Requests without `req` run one after the other and are answered in that
order; those with `req` run at once, but of one kind one at a time where the peer is an agent's: what a peer that reads
nothing makes us hold is bounded. It knows no request but the two that change what the connection is.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Coroutine
from typing import Any, Literal, Protocol

import msgspec

from hyperhive.errors import BadRequest, Closed, HiveError, LimitReached, NotAvailable
from hyperhive.protocol import codec
from hyperhive.protocol.dispatch import Answer, Dispatcher
from hyperhive.protocol.policy import Actor, authorize
from hyperhive.protocol.replies import Ok, Reply
from hyperhive.protocol.requests import Attach, Request, Subscribe
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES
from hyperhive.sockets.limits import Limits
from hyperhive.sockets.line import AttachedLine
from hyperhive.sockets.tools import SessionOpener, SocketToolSession
from hyperhive.sockets.wire import Wire, peer_of

log = logging.getLogger(__name__)

Mode = Literal["new", "commands", "tools", "frames", "line"]


class _First(msgspec.Struct):
    cmd: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    jsonrpc: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_FIRST = msgspec.json.Decoder(_First)


class Owner(Protocol):
    """What a connection needs of the server it belongs to."""

    dispatcher: Dispatcher
    tools: SessionOpener | None

    def adopt(self, task: "asyncio.Task[None]") -> None: ...

    def attach(self, line: AttachedLine) -> None: ...

    def event(self, line: AttachedLine, event: bytes) -> None: ...

    def detach(self, line: AttachedLine) -> None: ...


class Peers(set["Connection"]):
    """The connections of one socket. `closed`: the socket is no longer served, and who still comes is cut off."""

    closed = False


class Connection(Wire):
    """One accepted connection of a socket that belongs to `actor`; it enters itself among the socket's `peers`."""

    def __init__(self, owner: Owner, actor: Actor, peers: Peers, limits: Limits) -> None:
        super().__init__(limits)
        self.owner = owner
        self.actor = actor
        self.peers = peers
        self.mode: Mode = "new"
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_order: deque[Request | Answer] = deque()
        self._alone: defaultdict[type[Request], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._serving = False
        self._more: asyncio.Future[None] | None = None
        self._session: SocketToolSession | None = None
        self._early: list[bytes] = []
        self._line: AttachedLine | None = None

    # --- Wire -------------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        if log.isEnabledFor(logging.DEBUG):
            who = (self.actor.name, self.actor.channel, *peer_of(self.transport))
            log.debug("peer_connected agent=%s channel=%s pid=%s uid=%s gid=%s", *who)
        most = self.limits.host_connections if self.actor.channel == "host" else self.limits.connections
        full = len(self.peers) >= most
        self.peers.add(self)
        if self.peers.closed:
            self.transport.abort()
        elif full:
            self.refuse(LimitReached("too many connections to this socket", hint="close one first"))

    def busy(self) -> bool:
        if self.mode in {"frames", "line"}:
            return False
        return len(self._tasks) + len(self._in_order) + len(self._early) >= self.limits.in_flight

    def drained(self) -> bool:
        return not (self._in_order or self._serving) and len(self._tasks) == (self._more is not None)

    def take(self, line: bytes) -> None:
        if self.mode == "new":
            self.mode = "tools" if _opens_mcp(line) else "commands"
        match self.mode:
            case "commands":
                self._take_command(line)
            case "tools":
                self._take_tool_line(line)
            case "line":
                self._take_line(line)
            case _:
                pass  # the connection carries frames now; what the peer says goes unread

    def refusal(self, error: HiveError) -> bytes:
        if self.mode == "tools":
            fault = {"code": -32600, "message": str(error)}
            return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": fault})
        return self._encode(codec.error_reply(error))

    def gone(self) -> None:
        for task in self._tasks:
            task.cancel()
            self.owner.adopt(task)
        self._in_order.clear()
        if self._line is not None:
            self._line.lost()
            self.owner.detach(self._line)
        if self._session is not None:
            self.owner.adopt(self.loop.create_task(self._session.aclose(), name="close tool session"))
        self.peers.discard(self)

    # --- commands ---------------------------------------------------------------------------------------------------

    def _take_command(self, line: bytes) -> None:
        try:
            request = codec.decode_request(line)
        except BadRequest as error:
            req = codec.request_id(line)
            reply = codec.error_reply(error, req)
            if req is not None:
                self.send_now(self._encode(reply))
            else:
                self._take_in_order(Answer(reply=reply))
            return
        if request.req is None:
            self._take_in_order(request)
        else:
            self._start(self._answer_numbered(request), "request")

    def _take_in_order(self, item: Request | Answer) -> None:
        self._in_order.append(item)
        if self._more is None:
            self._more = self.loop.create_future()
            self._start(self._answer_in_order(), "requests in order")
        elif not self._more.done():
            self._more.set_result(None)

    async def _answer_in_order(self) -> None:
        """One task answers all requests without a number, for as long as the connection lives."""
        while True:
            while self._in_order:
                self._serving = True
                item = self._in_order.popleft()
                await (self._deliver(item) if isinstance(item, Answer) else self._answer(item))
                self._serving = False
                self.go_on()
            self._more = self.loop.create_future()
            await self._more

    async def _answer_numbered(self, request: Request) -> None:
        if self.actor.channel == "host":
            await self._answer(request)
            return
        async with self._alone[type(request)]:
            await self._answer(request)

    async def _answer(self, request: Request) -> None:
        if isinstance(request, Subscribe):
            await self._carry_frames(request)
        elif isinstance(request, Attach):
            await self._become_line(request)
        else:
            await self._deliver(await self.owner.dispatcher.dispatch(self.actor, request))

    async def _deliver(self, answer: Answer) -> None:
        """Send a reply, and let its maker know whether it got out."""
        try:
            await self.drain()  # of the replies that wait, none is encoded before its turn
            line = self._encode(answer.reply)
            if len(line) > REPLY_LINE_MAX_BYTES:
                raise LimitReached(
                    f"the reply is longer than {REPLY_LINE_MAX_BYTES} bytes", hint="ask for fewer rows"
                )
            if self.blocked or self.lost or answer.written is not None:
                await self.send(line, flushed=answer.written is not None)
            else:
                self.send_now(line)
        except LimitReached as error:
            if answer.undo is not None:
                answer.undo()
            await self._deliver(Answer(reply=codec.error_reply(error, answer.reply.req)))
        except BaseException:
            if answer.undo is not None:
                answer.undo()
            raise
        else:
            if answer.written is not None:
                answer.written()

    def _encode(self, reply: Reply) -> bytes:
        return codec.encode_host(reply) if self.actor.channel == "host" else codec.encode(reply)

    # --- the frames of a stream -------------------------------------------------------------------------------------

    async def _carry_frames(self, request: Subscribe) -> None:
        try:
            async with self.owner.dispatcher.stream(self.actor, request) as frames:
                self.mode, self.patient = "frames", True
                async for frame in frames:
                    await self.send(frame)
        except HiveError as error:
            if self.mode == "frames":
                self.finish(self._encode(codec.error_reply(error)))
            else:
                await self._deliver(Answer(reply=codec.error_reply(error, request.req)))
        else:
            self.finish()

    # --- the line of a harness --------------------------------------------------------------------------------------

    async def _become_line(self, request: Attach) -> None:
        try:
            authorize(self.actor, Attach)
        except HiveError as error:
            await self._deliver(Answer(reply=codec.error_reply(error, request.req)))
            return
        await self._deliver(Answer(reply=Ok(req=request.req)))
        self.mode = "line"
        self._line = AttachedLine(self.actor.name, self.send_now, self.finish)
        self.owner.attach(self._line)

    def _take_line(self, line: bytes) -> None:
        if self._line is None:
            return
        try:
            event = self._line.take(line)
        except BadRequest as error:
            self.send_now(self._encode(codec.error_reply(error, codec.request_id(line))))
            return
        if event is not None:
            self.owner.event(self._line, event)

    # --- an MCP session ---------------------------------------------------------------------------------------------

    def _take_tool_line(self, line: bytes) -> None:
        if self._session is not None:
            self._start(self._session.serve(line, self._send_tool_line), "tool message")
            return
        self._early.append(line)
        if len(self._early) == 1:
            self._start(self._open_session(), "open tool session")

    async def _open_session(self) -> None:
        try:
            if self.owner.tools is None:
                raise NotAvailable("this hive serves no tools")
            self._session = await self.owner.tools.open_for(self.actor)
        except HiveError as error:
            self.refuse(error)
            return
        early, self._early = self._early, []
        for line in early:
            self._take_tool_line(line)

    async def _send_tool_line(self, line: bytes) -> None:
        await self.send(line, flushed=True)

    # --- tasks ------------------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None or isinstance(error, Closed):
            self.go_on()
        else:  # a bug: it takes this connection and no other
            log.error("connection_task_failed task=%s", task.get_name(), exc_info=error)
            self.transport.abort()


def _opens_mcp(line: bytes) -> bool:
    try:
        first = codec.decode(line, _FIRST, "request")
    except BadRequest:
        return False
    return first.jsonrpc is not msgspec.UNSET and first.cmd is msgspec.UNSET
