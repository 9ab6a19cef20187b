"""A hive without agents: a real broker and bus behind real sockets and real tool sessions, with the shipped handlers.

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
from hyperhive.broker import Limits as MailLimits
from hyperhive.bus import Frame
from hyperhive.handlers import request_table
from hyperhive.mcp.server import McpServer
from hyperhive.names import AgentName
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import Answer, Dispatcher, Handler
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


class Neighbours:
    """What the shipped request table needs beside a broker: a `Desk` and, as far as they are served, `Agents`."""

    def names(self) -> list[str]:
        return ["alice", "bob"]

    def identity(self, caller: Caller) -> a.Identity:
        return a.Identity(name=caller.name, role=caller.label, pronouns="they/them", hyperhive_rev="abc")

    def hello(self, caller: Caller, request: r.Hello) -> a.Ok:
        del caller, request
        return a.Ok()

    def in_turn(self, name: str) -> bool:
        del name
        return True


SERVED = (
    r.Send, r.Recv, r.Status, r.Recent, r.AckTurn, r.RequeueInflight, r.Hello, r.Inbox, r.Whoami, r.List,
)  # fmt: skip


def table(broker: Broker, begun: "asyncio.Event") -> dict[type[r.Request], Handler]:
    """The shipped handlers of mail, `whoami` and `list`. `begun` is set whenever a `recv` has begun."""
    neighbours = Neighbours()
    shipped = request_table(broker, neighbours, neighbours, neighbours)  # type: ignore[arg-type]

    async def recv(caller: Caller, request: r.Recv) -> a.Reply | Answer:
        asyncio.get_running_loop().call_soon(begun.set)
        return await shipped[r.Recv](caller, request)

    async def status(caller: Caller, request: r.Status) -> a.Reply | Answer:
        if caller.any:  # a hive's own look at itself needs a hive
            return a.Unread(unread=broker.pending_now(request.name or caller.name))
        return await shipped[r.Status](caller, request)

    return {**{request: shipped[request] for request in SERVED}, r.Recv: recv, r.Status: status}


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
    mail: MailLimits | None = None,
) -> AsyncIterator[SmallHive]:
    """Starts a core on the files under `root` (which must be short: sockets lie there). `handlers` replace rows.

    `limits` are the sockets', `mail` the broker's.
    """
    broker = await Broker.open(root / "hive.sqlite", limits=mail)
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
