"""The socket's rows: round trips through the unix socket, against a bare anyio echo server in the same run.

Servers run in a process of their own, clients in this one, on anyio and msgspec for all contenders alike.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import msgspec
from anyio.abc import SocketStream
from tests.bench.baselines import BODY
from tests.bench.table import Goal, Group, Sample

from hyperhive.broker import Broker
from hyperhive.sockets import Limits
from small_hive import small_hive

ROOT = Path(__file__).resolve().parents[2]
TRIPS, SERIAL = 400, 400
SLACK_MS = 0.25
SEND = msgspec.json.encode({"cmd": "send", "to": "bob", "body": BODY}) + b"\n"
STATUS = b'{"cmd":"status"}\n'
RECV = b'{"cmd":"recv","wait_seconds":0}\n'


# --- servers ----------------------------------------------------------------------------------------------------------


async def _echo(path: Path) -> None:
    async def answer(stream: SocketStream) -> None:
        async with stream:
            try:
                while True:
                    await stream.send(await stream.receive())
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    listener = await anyio.create_unix_listener(path / "echo.sock")
    print("ready", flush=True)
    await listener.serve(answer)


async def _hive(path: Path) -> None:
    async with small_hive(path, limits=Limits(connections=32)) as hive:
        async with anyio.create_task_group() as group:
            for _ in range(32 * TRIPS):
                group.start_soon(hive.broker.send, "alice", "bob", BODY)
        print("ready", flush=True)
        await anyio.sleep_forever()


@contextmanager
def _server(kind: str, path: Path) -> Iterator[None]:
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests/support"}
    argv = [sys.executable, "-m", "tests.bench.socket_rows", kind, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environ, cwd=ROOT) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"ready\n"
            yield
        finally:
            child.kill()


# --- clients ----------------------------------------------------------------------------------------------------------


async def _talk(path: Path, line: bytes, trips: int, took: list[float]) -> None:
    async with await anyio.connect_unix(path) as stream:
        for _ in range(trips):
            begun = time.perf_counter()
            await stream.send(line)
            reply = await stream.receive()
            while not reply.endswith(b"\n"):
                reply += await stream.receive()
            msgspec.json.decode(reply)
            took.append(time.perf_counter() - begun)


async def _many(path: Path, line: bytes) -> Sample:
    took: list[float] = []
    begun = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(32):
            group.start_soon(_talk, path, line, TRIPS, took)
    return Sample(32 * TRIPS / (time.perf_counter() - begun), 32 * TRIPS)


async def _one(path: Path, line: bytes) -> Sample:
    took: list[float] = []
    await _talk(path, line, SERIAL, took)
    return Sample(statistics.median(took) * 1000, SERIAL)


async def _in_process(path: Path) -> Sample:
    took: list[float] = []
    async with Broker.open(path / "hive.sqlite") as broker:
        for _ in range(SERIAL):
            begun = time.perf_counter()
            await broker.send("alice", "bob", BODY)
            took.append(time.perf_counter() - begun)
    return Sample(statistics.median(took) * 1000 + SLACK_MS, SERIAL)


def _echoed(line: bytes) -> Callable[[Path], Sample]:
    def work(path: Path) -> Sample:
        with _server("echo", path):
            return anyio.run(_many, path / "echo.sock", line)

    return work


def _asked(socket: str, line: bytes, *, alone: bool = False) -> Callable[[Path], Sample]:
    def work(path: Path) -> Sample:
        with _server("hive", path):
            return anyio.run(_one if alone else _many, path / "run" / socket, line)

    return work


def groups() -> list[Group]:
    """The socket's rows."""
    alice, bob = "agents/alice/mcp.sock", "harness/bob/harness.sock"
    return [
        Group(
            "unix socket, 32 connections, 100-byte bodies",
            "/s",
            {
                "echo server": _echoed(SEND),
                "durable send": _asked(alice, SEND),
                "status": _asked(bob, STATUS),
                "recv of what is there": _asked(bob, RECV),
            },
            [
                Goal("durable send", "echo server", 0.65),
                Goal("status", "echo server", 0.70),
                Goal("recv of what is there", "echo server", 0.70),
            ],
            count_flushes=False,
        ),
        Group(
            f"unix socket, 1 connection: a send's p50 (the baseline has {SLACK_MS} ms added)",
            "ms",
            {
                "in the process": lambda path: anyio.run(_in_process, path),
                "by the socket": _asked(alice, SEND, alone=True),
            },
            [Goal("by the socket", "in the process", 1.0, at_most=True)],
            count_flushes=False,
        ),
    ]


if __name__ == "__main__":
    anyio.run(partial({"echo": _echo, "hive": _hive}[sys.argv[1]], Path(sys.argv[2])))
