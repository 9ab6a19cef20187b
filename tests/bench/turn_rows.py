"""The harness's rows on the real agent CLI: a warm turn, what of it is the hive's, and the first turn of a cold agent.

The API is the stand-in, in a process of its own. By hand means: no box, no hive, a line written and lines read. The
hive runs in this process, with a stopwatch at the CLI's pipes.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from tests.bench.by_hand import TURNS, WARM_UP, alone, api, fixed, plain_by_hand, same_by_hand
from tests.bench.table import Contender, Goal, Group, Sample

from hyperhive.config import HiveConfig, HiveFile
from hyperhive.host import Hive
from hyperhive.lifecycle.runtimes import BwrapRuntime, ProcessRuntime
from hyperhive.lifecycle.runtimes.launch import BoxedProcess
from hyperhive.protocol.events import AnyDashboardEvent, MessageState
from parts import claude_path, missing

OVERHEAD_MS = 5.0


# --- by the hive ------------------------------------------------------------------------------------------------------


class Stopwatch:
    """When the prompt was written to the CLI, and when its result arrived."""

    def __init__(self) -> None:
        self.written = 0.0
        self.result = 0.0


class _Pipe:
    """One of the CLI's streams, with the stopwatch beside it."""

    def __init__(self, stream: Any, watch: Stopwatch) -> None:
        self._stream = stream
        self._watch = watch

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)
        if b'"type":"user"' in data:
            self._watch.written = time.perf_counter()

    async def receive(self, size: int = 65536) -> bytes:
        data: bytes = await self._stream.receive(size)
        if b'"type":"result"' in data:
            self._watch.result = time.perf_counter()
        return data

    def __aiter__(self) -> Any:
        return self._stream.__aiter__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _timed_pipes(watch: Stopwatch) -> Iterator[None]:
    """Every CLI that is launched meanwhile has the stopwatch at its pipes."""
    real_in, real_out = BoxedProcess.stdin, BoxedProcess.stdout
    timed: Any = BoxedProcess
    timed.stdin = property(lambda self: _Pipe(self._stdin, watch))
    timed.stdout = property(lambda self: _Pipe(self._stdout, watch))
    try:
        yield
    finally:
        timed.stdin, timed.stdout = real_in, real_out


class Turns:
    """Turns of one agent in a hive, each timed: `whole`, `to_prompt` and `to_ack`, in milliseconds."""

    def __init__(self) -> None:
        self.whole: list[float] = []
        self.to_prompt: list[float] = []
        self.to_ack: list[float] = []

    async def run(self, directory: Path, runtime: str, turns: int, environ: dict[str, str]) -> None:
        """So many turns, one after the other."""
        watch = Stopwatch()
        home = directory / "home"
        home.mkdir()
        config = HiveConfig(
            file=HiveFile(),
            state_dir=directory / "s",
            run_dir=directory / "r",
            runtime=_RUNTIMES[runtime].name,
        )
        environ = {**environ, "HOME": str(home), "HYPERHIVE_CLAUDE": str(claude_path("2.1.328"))}
        with _timed_pipes(watch):
            async with Hive.open(config=config, environ=environ) as hive:
                acks = _Acks()
                hive.bus.tap(acks.see)
                await hive.lifecycle.spawn("alice")
                await acks.of(1)  # the manager is told of alice, and works that meanwhile
                for number in range(turns):
                    begun = time.perf_counter()
                    receipt = await hive.broker.send("operator", "alice", f"hello {number}")
                    durable = time.perf_counter()
                    acked = await acks.of(receipt.id)
                    self.whole.append((acked - begun) * 1000)
                    self.to_prompt.append((watch.written - durable) * 1000)
                    self.to_ack.append((acked - watch.result) * 1000)


_RUNTIMES: dict[str, Any] = {"bwrap": BwrapRuntime, "process": ProcessRuntime}


class _Acks:
    """When messages were acked, by the hive's events."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        self._news = asyncio.Event()

    def see(self, event: AnyDashboardEvent) -> None:
        if isinstance(event, MessageState) and event.state == "acked":
            self._at[event.id] = time.perf_counter()
            self._news.set()

    async def of(self, number: int) -> float:
        with anyio.fail_after(60):
            while number not in self._at:
                self._news.clear()
                await self._news.wait()
        return self._at[number]


def _in_hive(runtime: str, turns: int, figure: Callable[[Turns], Sequence[float]]) -> Contender:
    def work(_: Path) -> Sample:
        timed = Turns()
        # Sockets lie in it: a short path, whatever directory the frame made.
        with (
            tempfile.TemporaryDirectory(prefix="hh-", dir="/tmp", ignore_cleanup_errors=True) as short,
            api() as env,
        ):
            anyio.run(timed.run, Path(short), runtime, turns, env)
        return Sample(statistics.median(figure(timed)), turns)

    return work


def _warm(figure: Callable[[Turns], list[float]], runtime: str = "bwrap") -> Contender:
    return _in_hive(runtime, WARM_UP + TURNS, lambda turns: figure(turns)[WARM_UP:])


def groups() -> list[Group]:
    """The rows; none where the agent CLI or bubblewrap is missing."""
    if missing("claude") or missing("bwrap"):
        return []
    return [
        Group(
            "a warm `hello` turn on the real CLI, p50",
            " ms",
            {
                "plain CLI by hand": plain_by_hand,
                "the same CLI by hand": same_by_hand,
                "by the hive, runtime process": _warm(lambda turns: turns.whole, "process"),
                "by the hive, runtime bwrap": _warm(lambda turns: turns.whole),
            },
            [
                Goal("by the hive, runtime process", "the same CLI by hand", 1.2, at_most=True),
                Goal("by the hive, runtime bwrap", "the same CLI by hand", 1.2, at_most=True),
            ],
            count_flushes=False,
            rounds=3,
        ),
        Group(
            "the hive's share of a warm turn, p50",
            " ms",
            {
                "goal": fixed(OVERHEAD_MS),
                "message durable to prompt written": _warm(lambda turns: turns.to_prompt),
                "turn's end to acked": _warm(lambda turns: turns.to_ack),
            },
            [
                Goal("message durable to prompt written", "goal", 1.0, at_most=True),
                Goal("turn's end to acked", "goal", 1.0, at_most=True),
            ],
            count_flushes=False,
            rounds=3,
        ),
        Group(
            "first turn of a cold agent on the real CLI",
            " ms",
            {
                "claude -p alone": alone,
                "by the hive, runtime bwrap": _in_hive("bwrap", 1, lambda turns: turns.whole),
            },
            [Goal("by the hive, runtime bwrap", "claude -p alone", 1.1, at_most=True)],
            count_flushes=False,
        ),
    ]
