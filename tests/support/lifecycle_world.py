"""A host for lifecycle tests: what stays when the hive's process dies, and loops that do what the test says.

Real store, real directories, runtime `process`; only the agents' loops are stand-ins.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from hyperhive.bus import Bus
from hyperhive.config import AgentConfig
from hyperhive.errors import MissingPart, StoreFailed
from hyperhive.lifecycle import MIGRATIONS, Lifecycle
from hyperhive.lifecycle.harnesses import Ended, Harness
from hyperhive.lifecycle.runtimes import ProcessRuntime
from hyperhive.lifecycle.supervisor import LogTail, no_log
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.events import AnyDashboardEvent, AnyHelperEvent
from hyperhive.store import Store
from hyperhive.testing import FakeClock


class Loop:
    """A stand-in for a harness: its turn ends when the test (or `now`) says so."""

    def __init__(self, agent: AgentName, ended: Ended) -> None:
        self.agent = agent
        self.crash = ended
        self.stopped: list[bool] = []
        self.at_home = False
        self.idle = anyio.Event()
        self.idle.set()

    def moved_in(self) -> None:
        self.at_home = True

    async def stop(self, *, now: bool) -> None:
        self.stopped.append(now)
        if now:
            self.idle.set()
        await self.idle.wait()


class Loops:
    """Makes loops, and remembers them."""

    def __init__(self) -> None:
        self.made: list[Loop] = []
        self.broken: str | None = None
        self.gate: anyio.Event | None = None

    async def start(self, agent: AgentName, ended: Ended) -> Harness:
        if self.gate is not None:
            await self.gate.wait()
        if self.broken is not None:
            raise MissingPart(self.broken)
        self.made.append(Loop(agent, ended))
        return self.made[-1]

    def __getitem__(self, name: str) -> Loop:
        return next(loop for loop in reversed(self.made) if loop.agent == name)

    def count(self, name: str) -> int:
        return sum(loop.agent == name for loop in self.made)


@dataclass
class World:
    """A host: what stays when the hive's process dies, and what is told in the hive's life."""

    paths: Paths
    clock: FakeClock = field(default_factory=FakeClock)
    loops: Loops = field(default_factory=Loops)
    told: list[tuple[AnyHelperEvent, str]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    config: Callable[[AgentName], AgentConfig] = lambda _: AgentConfig()
    log_tail: LogTail = no_log
    tell_fails: bool = False
    forget_fails: bool = False
    runtime: type[ProcessRuntime] = ProcessRuntime

    async def tell(self, event: AnyHelperEvent, key: str) -> None:
        if self.tell_fails:
            raise StoreFailed("the disk is full")
        self.told.append((event, key))

    async def forget(self, name: AgentName) -> None:
        if self.forget_fails:
            raise StoreFailed("the disk is full")
        self.forgotten.append(name)

    @property
    def events(self) -> list[AnyHelperEvent]:
        return [event for event, _ in self.told]

    def sleeping_for(self, seconds: float) -> bool:
        """Somebody sleeps for exactly this long from now."""
        now = self.clock.monotonic()
        return any(due - now == seconds for due, _, _ in self.clock._sleepers)

    @asynccontextmanager
    async def hive(self, *, start: bool = True) -> AsyncIterator[Lifecycle]:
        """One life of the hive."""
        await anyio.to_thread.run_sync(self.paths.make_hive)
        runtime = self.runtime(self.paths, {"PATH": "/usr/bin:/bin"})
        await runtime.check()
        async with Store.open(self.paths.database, migrations=[MIGRATIONS], clock=self.clock) as store:
            bus: Bus[AnyDashboardEvent] = Bus()
            lifecycle = Lifecycle(
                store=store,
                paths=self.paths,
                runtime=runtime,
                harnesses=self.loops,
                bus=bus,
                clock=self.clock,
                config_of=self.config,
                tell=lambda event, key: self.tell(event, key),  # looked up late: a test may cut it
                forget=lambda name, _: self.forget(name),
                log_tail=lambda name: self.log_tail(name),
                stay=True,
            )
            try:
                await lifecycle.start_up()
                if start:
                    await lifecycle.start_all()
                yield lifecycle
            finally:
                await lifecycle.aclose()
                await runtime.aclose()


async def until(condition: Callable[[], bool]) -> None:
    """Lets everything run until this is so; worker threads included."""
    with anyio.fail_after(20):
        while not condition():
            await anyio.to_thread.run_sync(lambda: None)
