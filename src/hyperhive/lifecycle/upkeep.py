"""`Upkeep`: the agents of a hive across its lives: what comes back at a start, and what a crash left half done.

The rows are the truth: an action writes what it is about to do, does it, and writes that it is done; so the next start
can finish what was cut short. The actions themselves are `Lifecycle`'s.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from hyperhive.bus import Bus
from hyperhive.clock import SYSTEM_CLOCK, Clock, unix_seconds
from hyperhive.config import AgentConfig
from hyperhive.errors import HiveError, WorldError
from hyperhive.lifecycle.fleet import Fleet
from hyperhive.lifecycle.harnesses import HarnessFactory, NoHarnesses
from hyperhive.lifecycle.lodgings import Basis
from hyperhive.lifecycle.removal import purge_files, remove_sockets
from hyperhive.lifecycle.roster import Agent
from hyperhive.lifecycle.rows import AgentRow
from hyperhive.lifecycle.runtimes import Runtime
from hyperhive.lifecycle.supervisor import (
    LogTail,
    Provision,
    Supervisor,
    Tell,
    no_log,
    provide_nothing,
    tell_nobody,
)
from hyperhive.lifecycle.views import Facts, FactsOf
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.events import (
    AnyDashboardEvent,
    ContainerRemoved,
    Destroyed,
    Killed,
    Spawned,
    TombstonesChanged,
)
from hyperhive.store import Store

log = logging.getLogger(__name__)

START_AT_ONCE: Final = 16
"""How many agents are started side by side when the hive comes up."""


async def room_for_all() -> None:
    """For a lifecycle that is used alone."""


def admit_all(name: AgentName) -> None:
    """Likewise."""
    del name


class Upkeep(Fleet):
    """A fleet that comes up, goes down, and finishes what it began."""

    def __init__(
        self,
        *,
        store: Store,
        paths: Paths,
        runtime: Runtime,
        harnesses: HarnessFactory | None = None,
        bus: Bus[AnyDashboardEvent] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        config_of: Callable[[AgentName], AgentConfig] = lambda _: AgentConfig(),
        facts_of: FactsOf = lambda _: Facts(),
        behind_gateway: Callable[[AgentName], bool] = lambda _: False,
        tell: Tell = tell_nobody,
        log_tail: LogTail = no_log,
        forget: Callable[[AgentName, bool], Awaitable[None]] | None = None,
        drain_seconds: float = 900.0,
        provision: Provision = provide_nothing,
        basis: Callable[[AgentName], Basis] = lambda _: Basis(),
        room: Callable[[], Awaitable[None]] = room_for_all,
        admit: Callable[[AgentName], None] = admit_all,
        stay: bool = False,
    ) -> None:
        """A lifecycle on a shared store, opened with `hyperhive.lifecycle.MIGRATIONS`; await `start_up` before use.

        Args:
            runtime: checked already (`pick_runtime`).
            harnesses: makes the agents' loops.
            config_of: the operator's settings of an agent, as they are now.
            facts_of: what others know of an agent, for its view; must not wait.
            behind_gateway: whether the hive's model gateway serves an agent, so that its box needs no network.
            tell: hears what has happened (`HelperEvent`s), each under a key that says the same event again.
            log_tail: the last lines of an agent's log, oldest first, for the news of its crash.
            forget: called when an agent was destroyed, before its row says so, and whether it was purged: for
                questions, mail and whatever else bears its name. Called again after a crash.
                Idempotent.
            drain_seconds: how long a running turn may go on when an agent is stopped.
            provision: makes what an agent needs beside its directories, where it is missing; called at each start.
            basis: what an agent's container is made from, where the runtime has containers.
            room: raises WorldError where there is no room for one more agent.
            admit: raises Conflict where what an agent of this name is to have is another's already.
            stay: containers go on when only the core stops, where the runtime has any.
        """
        super().__init__(
            store=store,
            paths=paths,
            runtime=runtime,
            bus=bus if bus is not None else Bus(),
            clock=clock,
            config_of=config_of,
            facts_of=facts_of,
            behind_gateway=behind_gateway,
            basis=basis,
            stay=stay,
        )
        self.adopted: list[AgentName] = []
        """Whose files were found at this start, and whose rows were not: tombstones now."""
        self._clock = clock
        self._tell = tell
        self._forget = forget
        self._room = room
        self._admit = admit
        self._supervisor = Supervisor(
            paths=paths,
            runtime=runtime,
            harnesses=harnesses or NoHarnesses(),
            actions=self._actions,
            background=self._background,
            clock=clock,
            touch=self._views.touch,
            tell=tell,
            log_tail=log_tail,
            drain_seconds=drain_seconds,
            provision=provision,
            lodgings=self._lodgings,
        )

    async def start_up(self) -> None:
        """Reads the agents, ends what an earlier run left running, and finishes what it left undone. Starts nobody."""
        await self._roster.load()
        await self._adopt()
        await self._background.start()
        try:
            await self.runtime.sweep()
            await self._lodgings.keep_only(
                [agent.name for agent in self._roster.living() if not agent.row.held]
            )
        except WorldError as error:
            # They are killed, and hang in the kernel: no reason for the hive not to come up
            log.warning("orphans_hang error=%s", error)
        self._background.spawn(self._views.run, "views")
        for agent in self._roster:
            if agent.row.phase in {"destroying", "purging"}:
                with _logged("agent_removal_unfinished", agent):
                    await self._finish_removal(agent.row)

    async def _adopt(self) -> None:
        """Whose state or repo is here without a row (a database that was lost, an older hive's state) is a tombstone.

        Nobody knows any more who of them was to run: that is for the operator to say.
        """
        for name in await anyio.to_thread.run_sync(self.paths.agents_on_disk):
            if name not in self._roster and name != MANAGER:
                made = unix_seconds(self._clock)
                action = int(self._clock.time() * 1000)
                await self._roster.put(
                    AgentRow(name=name, role="agent", created_at=made, phase="tombstone", action=action)
                )
                self.adopted.append(name)
                log.warning("agent_without_row agent=%s", name)

    async def ensure_manager(self) -> None:
        """Makes the manager, where there is none yet. `start_all` starts it, and its directories come with that."""
        if MANAGER not in self._roster:
            await self._roster.put(
                AgentRow(name=MANAGER, role="manager", created_at=unix_seconds(self._clock))
            )

    async def start_all(self) -> None:
        """Starts every agent that the operator did not stop. One that cannot be started is `failed`, and retried."""
        slots = anyio.CapacityLimiter(START_AT_ONCE)

        async def one(agent: Agent) -> None:
            async with slots:
                with _logged("agent_comeback_failed", agent):
                    await self._come_back(agent)

        async with anyio.create_task_group() as tasks:
            for agent in self._roster.living():
                tasks.start_soon(one, agent, name=f"start {agent.name}")

    async def _come_back(self, agent: Agent) -> None:
        self._views.touch(agent.name)
        if agent.row.pending == "stopping":
            await self._settle(agent, Killed(agent=agent.name))
        if agent.row.held or agent.running:
            return
        await self._supervisor.try_start(agent)
        if agent.row.pending == "spawning":
            await self._settle(agent, self._spawned(agent))

    async def shutdown(self, *, now: bool = False) -> None:
        """Stops every agent's loop, after its running turn unless `now`; no row changes, all come back next time.

        A second call with `now` hurries the first.
        """
        self._actions.close()
        await self._supervisor.halt_all(self._roster.living(), now=now)
        await self._actions.wait_all()
        await self._supervisor.halt_all(self._roster.living(), now=True)  # whom an action started meanwhile

    # --- what an action leaves to be finished ---

    def _spawned(self, agent: Agent) -> Spawned:
        return Spawned(agent=agent.name, ok=agent.running, note=None if agent.running else agent.reason)

    async def _settle(self, agent: Agent, event: Spawned | Killed) -> None:
        """Tells of an action, and then writes that it was told: a crash in between tells it again, under one key."""
        await self._tell(event, _key(agent.row))
        await self._roster.put(msgspec.structs.replace(agent.row, pending=None))

    async def _finish_removal(self, row: AgentRow) -> None:
        """The second half of `destroy`, also after a crash in it. Idempotent."""
        name = row.name
        await self.runtime.release(name)
        await self._lodgings.remove(name)
        if self._forget is not None:
            await self._forget(name, row.phase == "purging")
        remove = purge_files if row.phase == "purging" else remove_sockets
        await anyio.to_thread.run_sync(remove, self.paths, name)
        await self._tell(Destroyed(agent=name), _key(row))
        if row.phase == "purging":
            await self._roster.remove(name)
        else:
            now = unix_seconds(self._clock)
            await self._roster.put(
                msgspec.structs.replace(row, phase="tombstone", pending=None, held=False, destroyed_at=now)
            )
        self._views.forget(name)
        self.bus.publish(ContainerRemoved(name=name))
        self.bus.publish(TombstonesChanged())


@contextmanager
def _logged(event: str, agent: Agent) -> Iterator[None]:
    """One agent's trouble must not keep the hive from coming up."""
    try:
        yield
    except HiveError as error:
        log.warning("%s agent=%s error=%s", event, agent.name, error)
        agent.reason = str(error)


def _key(row: AgentRow) -> str:
    return f"lifecycle:{row.name}:{row.created_at}:{row.action}"
