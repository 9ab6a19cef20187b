"""The flood's row: how soon a waiting agent has a message from the operator, while fifty others flood it and when not.

The core, the flooders and the two that are measured are three processes. The floods go over fifty tools sockets, at the
speed at which they are answered, and meet the limits that a hive has by default.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import msgspec
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from tests.bench.baselines import BODY
from tests.bench.table import Contender, Goal, Group, Sample

from hyperhive.broker import Limits
from hyperhive.config import HiveConfig, HiveFile
from small_hive import small_hive

ROOT = Path(__file__).resolve().parents[2]
FLOODERS = tuple(f"f{number}" for number in range(50))
WAKES = 600
VICTIM, OTHER = "bob", "alice"
RECV = b'{"cmd":"recv","wait_seconds":30,"max":32}\n'
ACK = b'{"cmd":"ack_turn"}\n'
MARK = b"wake up"
SEND = msgspec.json.encode({"cmd": "send", "to": VICTIM, "body": MARK.decode()}) + b"\n"


async def _core(path: Path) -> None:
    config = HiveConfig(file=HiveFile(), state_dir=path, run_dir=path)
    async with small_hive(path, agents=(VICTIM, OTHER, *FLOODERS), mail=Limits.of(lambda: config)):
        print("ready", flush=True)
        await anyio.sleep_forever()


class Talk:
    """One connection: lines go out, whole lines come in."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._lines = BufferedByteReceiveStream(stream)

    async def say(self, lines: bytes) -> None:
        await self._stream.send(lines)

    async def hear(self) -> bytes:
        return await self._lines.receive_until(b"\n", 4 << 20)

    async def ask(self, line: bytes) -> bytes:
        await self.say(line)
        return await self.hear()


@asynccontextmanager
async def _talk(socket: Path) -> AsyncIterator[Talk]:
    async with await anyio.connect_unix(socket) as stream:
        yield Talk(stream)


async def _flood(path: Path, target: str) -> None:
    """Every flooder uses up its burst; from then on all are refused, as fast as they ask."""
    line = msgspec.json.encode({"cmd": "send", "to": target, "body": BODY}) + b"\n"
    refused = 0

    async def flood(name: str) -> None:
        nonlocal refused
        told = False
        async with _talk(path / "run" / "agents" / name / "mcp.sock") as talk:
            while True:
                if b'"limit"' in await talk.ask(line) and not told:
                    told = True
                    refused += 1
                    if refused == len(FLOODERS):
                        print("ready", flush=True)

    async with anyio.create_task_group() as group:
        for name in FLOODERS:
            group.start_soon(flood, name)


@contextmanager
def _process(kind: str, path: Path, target: str = "") -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests/support"}
    argv = [sys.executable, "-m", "tests.bench.flood_rows", kind, str(path), target]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environ, cwd=ROOT) as child:
        try:
            yield child
        finally:
            child.kill()


def _ready(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"


async def _wakes(path: Path) -> Sample:
    """From the operator's send to the victim's having it, at the 99th of a hundred."""
    took: list[float] = []
    async with (
        _talk(path / "run" / "host.sock") as host,
        _talk(path / "run" / "harness" / VICTIM / "harness.sock") as victim,
    ):
        while b'"messages":[]' not in await victim.ask(b'{"cmd":"recv","wait_seconds":0,"max":32}\n'):
            await victim.ask(ACK)  # what the floods left there before they were refused
        for _ in range(WAKES):
            await victim.say(RECV)
            begun = time.perf_counter()
            await host.say(SEND)
            while MARK not in await victim.hear():  # a flooder's, as far as its rate goes
                await victim.ask(ACK)
                await victim.say(RECV)
            took.append(time.perf_counter() - begun)
            await host.hear()
            await victim.ask(ACK)
    return Sample(statistics.quantiles(took, n=100)[98] * 1000, WAKES)


def _idle(path: Path) -> Sample:
    with _process("core", path) as core:
        _ready(core)
        return anyio.run(_wakes, path)


def _flooded(target: str) -> Contender:
    def work(path: Path) -> Sample:
        with _process("core", path) as core:
            _ready(core)
            with _process("flood", path, target) as floods:
                _ready(floods)
                return anyio.run(_wakes, path)

    return work


def groups() -> list[Group]:
    """The flood's row."""
    return [
        Group(
            f"a waiting agent's wake p99 while {len(FLOODERS)} agents flood it",
            " ms",
            {"idle": _idle, "another is flooded": _flooded(OTHER), "it is flooded": _flooded(VICTIM)},
            [
                Goal("another is flooded", "idle", 2.0, at_most=True),
                Goal("it is flooded", "idle", 2.0, at_most=True),
            ],
            count_flushes=False,
        )
    ]


if __name__ == "__main__":
    kind, path, target = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if kind == "core":
        anyio.run(_core, path)
    else:
        anyio.run(_flood, path, target)
