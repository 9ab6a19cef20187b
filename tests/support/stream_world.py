"""Browsers' streams without a hive: a bus a name, the hub, and a client that keeps the seq contract as pages do."""

import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import msgspec
import uvicorn
from litestar import Litestar, Request, Response

from hyperhive.bus import Bus
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.errors import HiveError
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.events import MessageState
from hyperhive.protocol.policy import Actor
from hyperhive.streams import AnySource, Source, Streams
from hyperhive.web.problems import problem_of
from hyperhive.web.routes.streams import stream_routes
from hyperhive.web.streaming import Connection, Hub, HubLimits

EPOCHS = itertools.count(1)
WEB = Actor.operator("web")


class Core:
    """What the hub reads: streams whose state is the newest id of each `MessageState` and its note."""

    def __init__(self, *names: str, keep: int = 2000) -> None:
        self.buses = {name: Bus[MessageState](keep=keep, buffer=keep) for name in names}
        self.state: dict[str, dict[int, str]] = {name: {} for name in names}
        streams = Streams(f"e{next(EPOCHS)}", self._find)
        self.dispatcher = Dispatcher({}, streams.open)

    def _find(self, name: str) -> AnySource | None:
        bus = self.buses.get(name)
        if bus is None:
            return None
        return Source(bus, lambda frame: encode(msgspec.structs.replace(frame.event, seq=frame.seq)))

    def hub(self, clock: Clock = SYSTEM_CLOCK, limits: HubLimits | None = None) -> Hub:
        return Hub(lambda asked: self.dispatcher.stream(WEB, asked), clock, limits=limits)

    def publish(self, name: str, key: int, note: str) -> None:
        self.state[name][key] = note
        self.buses[name].publish(MessageState(id=key, state="acked", note=note))

    def snapshot(self, name: str) -> tuple[int, dict[int, str]]:
        """As `/api/state` does it: the number first."""
        seq = self.buses[name].current_seq
        return seq, dict(self.state[name])

    def destroy(self, name: str) -> None:
        self.buses.pop(name).close()


def events_in(data: bytes) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """The whole events at the beginning of these bytes: id, and data. What is cut off is not there."""
    whole, _, _ = data.rpartition(b"\n\n")
    for block in whole.split(b"\n\n") if whole else ():
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        number = fields.get(b"id")
        yield None if number is None else number.decode(), msgspec.json.decode(fields[b"data"])


class Page:
    """A client as the contract has it: it subscribes, takes a snapshot, drops what that has, applies the rest."""

    def __init__(self, core: Core, *names: str) -> None:
        self.core = core
        self.wanted = list(names)
        self.stream_id = ""
        self.last_id: str | None = None
        self.seqs: dict[str, int] = {}
        self.state: dict[str, dict[int, str]] = {}
        self.applied: dict[str, list[int]] = {name: [] for name in names}
        self.gaps = 0
        self.ended: list[str] = []
        self.heartbeats = 0
        self._news = anyio.Event()

    async def until(self, true: Callable[[], object]) -> None:
        """Returns when this holds, as far as what somebody else reads for this page can make it so."""
        while not true():
            await self._news.wait()

    def refetch(self, *names: str) -> None:
        for name in names:
            if name in self.core.buses:
                self.seqs[name], self.state[name] = self.core.snapshot(name)

    def take(self, number: str | None, event: dict[str, Any]) -> None:
        kind = event["kind"]
        if kind == "resume":
            self.stream_id = event["id"]
            if event["resume"] != "ok":
                self.gaps += event["resume"] == "gap"
                self.refetch(*self.wanted)
        elif kind == "lagged":
            self.gaps += 1
            self.refetch(*([event["stream"]] if "stream" in event else self.wanted))
        elif kind == "ended":
            self.ended.append(event["stream"])
        elif kind == "heartbeat":
            self.heartbeats += 1
        else:
            self._apply(event)
        self.last_id = number or self.last_id
        self._news.set()
        self._news = anyio.Event()

    def _apply(self, event: dict[str, Any]) -> None:
        name, seq = event["stream"], event["seq"]
        if seq <= self.seqs.get(name, 0):
            return
        if seq != self.seqs.get(name, 0) + 1:
            self.gaps += 1
            self.refetch(name)
            return
        self.seqs[name] = seq
        self.applied.setdefault(name, []).append(seq)
        self.state.setdefault(name, {})[event["id"]] = event["note"]

    async def read(self, connection: Connection, *, until_quiet: bool = True) -> bytes:
        """Takes what there is; returns the last bytes."""
        chunk = b""
        with anyio.move_on_after(0.2 if until_quiet else 5):
            while chunk := await connection.read():
                connection.writing_since = None
                for number, event in events_in(chunk):
                    self.take(number, event)
                if not until_quiet:
                    break
        return chunk

    async def until_level(self, connection: Connection) -> None:
        """Reads until it has seen all that was published on what it carries."""
        with anyio.fail_after(30):
            while any(
                self.seqs.get(name, 0) < bus.current_seq
                for name, bus in self.core.buses.items()
                if name in self.wanted
            ):
                await self.read(connection, until_quiet=False)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served(hub: Hub) -> AsyncIterator[int]:
    """The streams' routes on a free port of this machine, one login; gives the port."""

    def failed(request: Request[Any, Any, Any], error: HiveError) -> Response[bytes]:
        del request
        told = problem_of(error, "test")
        return Response(encode(told), status_code=told.status)

    app = Litestar(
        stream_routes(hub, SYSTEM_CLOCK),
        exception_handlers={HiveError: failed},
        logging_config=None,
        openapi_config=None,
    )
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)  # whoever dials before the server runs waits
    server = _Server(
        uvicorn.Config(
            cast("Any", app), log_config=None, access_log=False, ws="none", lifespan="off", loop="none",
            timeout_graceful_shutdown=3,
        )
    )  # fmt: skip
    await hub.start()
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [sock])
        try:
            yield int(sock.getsockname()[1])
        finally:
            with anyio.CancelScope(shield=True):
                await hub.aclose()
            server.should_exit = True
