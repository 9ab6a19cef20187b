"""A hive without agents: a real broker and bus behind real sockets and real tool sessions, with a short request table.

What the sockets, the client and the tools need of a core, and no more; a core can be stopped and started again on the
same files.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from hyperhive.broker import Broker
from hyperhive.bus import Frame
from hyperhive.mcp.server import McpServer
from hyperhive.names import AgentName
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import CALL_ID, Answer, Dispatcher, Handler
from hyperhive.protocol.events import AnyDashboardEvent
from hyperhive.protocol.line import HarnessLine
from hyperhive.protocol.policy import Actor, Caller
from hyperhive.sockets import Limits, SocketServer
from hyperhive.streams import Source, Streams

EPOCHS = itertools.count(1)


def operator() -> Actor:
    """Whoever comes by `host.sock`."""
    return Actor(name=AgentName("operator"), role="operator", channel="host")


def agent(name: str) -> Actor:
    """Whoever comes by an agent's tools socket."""
    return Actor(name=AgentName(name), role="manager" if name == "manager" else "agent", channel="tools")


def harness(name: str) -> Actor:
    """Whoever comes by an agent's harness socket."""
    return Actor(name=AgentName(name), role="harness", channel="harness")


@dataclass
class LineLog:
    """A `LineListener` that writes down what it hears."""

    heard: list[tuple[str, str]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def _say(self, what: str, text: str) -> None:
        self.heard.append((what, text))
        self.news.set()

    def attached(self, line: HarnessLine) -> None:
        self._say("attached", line.agent)

    def event(self, line: HarnessLine, event: bytes) -> None:
        del line
        self._say("event", event.decode())

    def detached(self, line: HarnessLine) -> None:
        self._say("detached", line.agent)

    async def until(self, what: str, times: int = 1) -> None:
        while sum(kind == what for kind, _ in self.heard) < times:
            self.news.clear()
            await self.news.wait()


def table(broker: Broker, begun: "asyncio.Event") -> dict[type[r.Request], Handler]:
    """Mail and `whoami`. `begun` is set whenever a `recv` has begun."""

    async def send(caller: Caller, request: r.Send) -> a.Reply:
        receipt = await broker.send(
            caller.name, request.to, request.body, dedupe_key=request.dedupe_key, call_id=CALL_ID.get()
        )
        return a.Ok(id=receipt.id, duplicate=receipt.duplicate)

    async def recv(caller: Caller, request: r.Recv) -> Answer:
        asyncio.get_running_loop().call_soon(begun.set)
        lease = await broker.take(caller.name, request.max, request.wait_seconds, request.min_urgency)
        ids = [delivery.id for delivery in lease.deliveries]

        def written() -> None:
            if caller.channel == "tools":
                broker.mark_taken(caller.name, ids)

        return Answer(reply=a.Messages(messages=lease.deliveries), written=written, undo=lease.undo)

    async def status(caller: Caller, request: r.Status) -> a.Reply:
        return a.Unread(unread=await broker.pending(request.name or caller.name))

    async def ack(caller: Caller, request: r.AckTurn) -> a.Reply:
        return a.Ok(count=await broker.ack_turn(caller.name, request.ids, taken=request.taken))

    async def requeue(caller: Caller, request: r.RequeueInflight) -> a.Reply:
        return a.Ok(count=await broker.requeue_inflight(caller.name, request.ids, blame=request.blame))

    async def hello(caller: Caller, request: r.Hello) -> a.Reply:
        if request.holding is not None:
            lost = [number for number in broker.in_flight_now(caller.name) if number not in request.holding]
            await broker.requeue_inflight(caller.name, lost)
        return a.Ok()

    async def inbox(caller: Caller, request: r.Inbox) -> a.Reply:
        del caller
        return a.InboxRows(messages=await broker.inbox(request.limit, include_done=request.all))

    async def whoami(caller: Caller, request: r.Whoami) -> a.Reply:
        del request
        return a.Identity(name=caller.name, role=caller.label, pronouns="they/them", hyperhive_rev="abc")

    async def names(caller: Caller, request: r.List) -> a.Reply:
        del caller, request
        return a.Agents(agents=["alice", "bob"])

    return {
        r.Send: send, r.Recv: recv, r.Status: status, r.AckTurn: ack, r.RequeueInflight: requeue, r.Hello: hello,
        r.Inbox: inbox, r.Whoami: whoami, r.List: names,
    }  # fmt: skip


def encode_frame(frame: Frame[AnyDashboardEvent]) -> bytes:
    """A hive event with its number."""
    return encode(msgspec.structs.replace(frame.event, seq=frame.seq))


@dataclass
class SmallHive:
    """One run of the core. `sockets` serves `host.sock`, and for each of the agents tools and harness sockets."""

    broker: Broker
    dispatcher: Dispatcher
    sockets: SocketServer
    tools: McpServer
    lines: LineLog
    run_dir: Path
    receiving: asyncio.Event

    @property
    def host(self) -> Path:
        return self.run_dir / "host.sock"

    def tools_socket(self, name: str) -> Path:
        return self.run_dir / "agents" / name / "mcp.sock"

    def harness_socket(self, name: str) -> Path:
        return self.run_dir / "harness" / name / "harness.sock"

    async def kill(self) -> None:
        """Ends it without a goodbye: whoever is connected finds the connection gone."""
        await self.sockets.aclose()
        await self.tools.aclose()
        await self.broker.aclose()


@asynccontextmanager
async def small_hive(
    root: Path,
    *,
    agents: tuple[str, ...] = ("alice", "bob"),
    limits: Limits | None = None,
    handlers: Mapping[type[r.Request], Handler] | None = None,
) -> AsyncIterator[SmallHive]:
    """Starts a core on the files under `root` (which must be short: sockets lie there). `handlers` replace rows."""
    broker = await Broker.open(root / "hive.sqlite")
    receiving = asyncio.Event()
    source = Source(broker.bus, encode_frame)
    streams = Streams(str(next(EPOCHS)), {"hive": source}.get)
    dispatcher = Dispatcher({**table(broker, receiving), **(handlers or {})}, streams.open)
    tools = McpServer(dispatcher)
    lines = LineLog()
    sockets = SocketServer(dispatcher, tools=tools, lines=lines, limits=limits)
    hive = SmallHive(broker, dispatcher, sockets, tools, lines, root / "run", receiving)
    await sockets.listen(hive.host, operator())
    for name in agents:
        await sockets.listen(hive.tools_socket(name), agent(name))
        await sockets.listen(hive.harness_socket(name), harness(name))
    try:
        yield hive
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await hive.kill()
