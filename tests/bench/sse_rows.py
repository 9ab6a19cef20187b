"""The streams' rows: 200 browsers on real sockets, 100 events a second, the server in another process.

A reader takes the time at which an event came out of the event itself; both processes read one monotonic clock. The
floor beside it writes frames that were encoded before, without hub, ids or replay.
"""

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.hive_rows import fixed
from tests.bench.sse_server import EVENTS, PER_SECOND
from tests.bench.table import Goal, Group, Sample

CLIENTS, STUCK = 200, 20
ROOT = Path(__file__).resolve().parents[2]
_NOTE = b'"note":"'


class Reader(asyncio.Protocol):
    """One browser; remembers how late each event was, in milliseconds."""

    def __init__(self, late: list[float]) -> None:
        self._late = late
        self._rest = b""
        self.seen = 0
        self.whole = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"GET /stream?streams=hive HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            at = block.find(_NOTE)
            if at >= 0:
                begun = int(block[at + len(_NOTE) :].split(b" ", 1)[0])
                self._late.append((now - begun) / 1e6)
                self.seen += 1
        if self.seen >= EVENTS and not self.whole.done():
            self.whole.set_result(None)


class Runs:
    """One run of each kind, for all figures."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], tuple[float, float]] = {}

    def look(self, mode: str, stuck: int = 0) -> tuple[float, float]:
        """The p99 of how late events are, in milliseconds; the server's share of one core."""
        if (mode, stuck) not in self._seen:
            self._seen[mode, stuck] = _run(mode, stuck)
        return self._seen[mode, stuck]


def _run(mode: str, stuck: int) -> tuple[float, float]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.sse_server", mode],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = json.loads(server.stdout.readline())["port"]
            sleepers = [_sleeper(port) for _ in range(stuck)]
            late = asyncio.run(_read(port, server, stuck))
            used = json.loads(server.stdout.readline())["cpu"]
            for sleeper in sleepers:
                sleeper.close()
        finally:
            server.kill()
    late.sort()
    return late[int(len(late) * 0.99)], used / (EVENTS / PER_SECOND + 0.5)


def _sleeper(port: int) -> socket.socket:
    """A client that asks and never reads."""
    sleeper = socket.create_connection(("127.0.0.1", port))
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.sendall(b"GET /stream?streams=hive HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return sleeper


async def _read(port: int, server: "subprocess.Popen[str]", stuck: int) -> list[float]:
    late: list[float] = []
    loop = asyncio.get_running_loop()
    readers = [
        (await loop.create_connection(lambda: Reader(late), "127.0.0.1", port))[1] for _ in range(CLIENTS)
    ]
    assert server.stdin is not None
    server.stdin.write(f"{CLIENTS + stuck}\n")
    server.stdin.flush()
    await asyncio.wait_for(asyncio.gather(*(reader.whole for reader in readers)), 60)
    if len(late) != CLIENTS * EVENTS:
        raise RuntimeError(f"{CLIENTS * EVENTS - len(late)} frames were lost")
    return late


def groups() -> list[Group]:
    """How late, and how much of a core."""
    runs = Runs()
    return [
        Group(
            f"SSE, {CLIENTS} clients x {PER_SECOND} events/s: p99 of how late an event is",
            " ms",
            {
                "goal": fixed(100),
                "frames written as they are": lambda _: Sample(runs.look("bare")[0]),
                "hyperhive": lambda _: Sample(runs.look("hub")[0]),
                f"hyperhive, {STUCK} more clients never read": lambda _: Sample(runs.look("hub", STUCK)[0]),
            },
            [
                Goal("hyperhive", "goal", 1.0, at_most=True),
                Goal(f"hyperhive, {STUCK} more clients never read", "goal", 1.0, at_most=True),
            ],
            count_flushes=False,
            rounds=1,
        ),
        Group(
            f"SSE, {CLIENTS} clients x {PER_SECOND} events/s: of a core",
            "",
            {
                "goal": fixed(1),
                "frames written as they are": lambda _: Sample(runs.look("bare")[1]),
                "hyperhive": lambda _: Sample(runs.look("hub")[1]),
                f"hyperhive, {STUCK} more clients never read": lambda _: Sample(runs.look("hub", STUCK)[1]),
            },
            [Goal("hyperhive", "goal", 1.0, at_most=True)],
            count_flushes=False,
            rounds=1,
        ),
    ]
