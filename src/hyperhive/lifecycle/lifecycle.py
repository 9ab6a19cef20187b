"""`Lifecycle`: which agents there are, and when each of them runs.

The rows are the truth: an action writes what it is about to do, does it, and writes that it is done, so that the next
start can finish what a crash cut short. Reads no mail, decides no approval, and knows no turn.
"""

import builtins
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from hyperhive.bus import Bus
from hyperhive.clock import SYSTEM_CLOCK, Clock, unix_seconds
from hyperhive.config import AgentConfig, RuntimeName
from hyperhive.errors import Conflict, Forbidden, HiveError, NotAvailable, NotFound
from hyperhive.lifecycle.fleet import Fleet
from hyperhive.lifecycle.harnesses import HarnessFactory, NoHarnesses
from hyperhive.lifecycle.mounts import check_mounts
from hyperhive.lifecycle.removal import purge_files
from hyperhive.lifecycle.roster import Agent
from hyperhive.lifecycle.rows import MIGRATIONS, AgentRow
from hyperhive.lifecycle.runtimes import Runtime, pick_runtime
from hyperhive.lifecycle.supervisor import Supervisor, Tell, tell_nobody
from hyperhive.lifecycle.views import Facts, FactsOf
from hyperhive.names import MANAGER, OPERATOR, AgentName, parse_agent_name
from hyperhive.opening import Opening
from hyperhive.paths import Paths
from hyperhive.protocol.events import (
    AnyDashboardEvent,
    ContainerRemoved,
    Destroyed,
    Killed,
    Spawned,
    TombstonesChanged,
)
from hyperhive.protocol.types import Mount
from hyperhive.store import Store

START_AT_ONCE = 16
"""How many agents are started side by side when the hive comes up."""


class Lifecycle(Fleet):
    """The agents of one hive. Every action returns when it is done, and is durable then.

    One action per agent at a time; a second is refused with `Conflict`. `by` is who asks (the server knows, the caller
    does not say): what the operator stopped only the operator starts, and the manager cannot stop itself.

    >>> import anyio, tempfile
    >>> state_dir = tempfile.mkdtemp()
    >>> async def main() -> None:
    ...     async with Lifecycle.open(state_dir, runtime="process") as lifecycle:
    ...         await lifecycle.spawn("alice")
    ...         print(await lifecycle.list(), lifecycle.view("alice").state)
    ...         await lifecycle.stop("alice")
    ...         print(lifecycle.view("alice").state, lifecycle.view("alice").held_by_operator)
    >>> anyio.run(main)
    ['alice'] idle
    stopped True
    """

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
        tell: Tell = tell_nobody,
        forget: Callable[[AgentName], Awaitable[None]] | None = None,
        drain_seconds: float = 900.0,
    ) -> None:
        """A lifecycle on a shared store, opened with `hyperhive.lifecycle.MIGRATIONS`; await `start_up` before use.

        Args:
            runtime: checked already (`pick_runtime`).
            harnesses: makes the agents' loops.
            config_of: the operator's settings of an agent, as they are now.
            facts_of: what others know of an agent, for its view; must not wait.
            tell: hears what has happened (`HelperEvent`s), each under a key that says the same event again.
            forget: called when an agent is purged, before its row goes: mail and whatever else bears its name.
                Idempotent.
            drain_seconds: how long a running turn may go on when an agent is stopped.
        """
        super().__init__(
            store=store,
            paths=paths,
            runtime=runtime,
            bus=bus if bus is not None else Bus(),
            clock=clock,
            config_of=config_of,
            facts_of=facts_of,
        )
        self._clock = clock
        self._tell = tell
        self._forget = forget
        self._supervisor = Supervisor(
            paths=paths,
            runtime=runtime,
            harnesses=harnesses or NoHarnesses(),
            actions=self._actions,
            background=self._background,
            clock=clock,
            touch=self._views.touch,
            tell=tell,
            drain_seconds=drain_seconds,
        )
        self._owned: Store | None = None

    @classmethod
    def open(
        cls,
        state_dir: str | os.PathLike[str],
        run_dir: str | os.PathLike[str] | None = None,
        *,
        runtime: RuntimeName = "auto",
        harnesses: HarnessFactory | None = None,
        clock: Clock = SYSTEM_CLOCK,
        environ: Mapping[str, str] = os.environ,
    ) -> Opening["Lifecycle"]:
        """A lifecycle of its own, with its own database in `state_dir`. Starts the agents it knows.

        Raises:
            MissingPart: the runtime does not work here. PathTooLong: the run directory is too long for sockets.
            StoreLocked: another process owns the state directory. StoreFailed: it cannot be opened.
        """
        run = Path(run_dir) if run_dir is not None else None
        return Opening(partial(cls._open, Path(state_dir), run, runtime, harnesses, clock, environ))

    @classmethod
    async def _open(
        cls,
        state_dir: Path,
        run_dir: Path | None,
        runtime: RuntimeName,
        harnesses: HarnessFactory | None,
        clock: Clock,
        environ: Mapping[str, str],
    ) -> "Lifecycle":
        paths = await anyio.to_thread.run_sync(Paths.of, state_dir, run_dir)
        await anyio.to_thread.run_sync(paths.make_hive)
        store = await Store.open(paths.database, migrations=[MIGRATIONS], clock=clock)
        try:
            chosen = await pick_runtime(runtime, paths, environ)
            lifecycle = cls(store=store, paths=paths, runtime=chosen, harnesses=harnesses, clock=clock)
            lifecycle._owned = store
            await lifecycle.start_up()
            await lifecycle.start_all()
        except BaseException:
            await store.aclose()
            raise
        return lifecycle

    # --- coming up and going down -----------------------------------------------------------------------------------

    async def start_up(self) -> None:
        """Reads the agents, ends what an earlier run left running, and finishes what it left undone. Starts nobody."""
        await self._roster.load()
        await self._background.start()
        await self.runtime.sweep()
        self._background.spawn(self._views.run, "views")
        for agent in self._roster:
            if agent.row.phase in {"destroying", "purging"}:
                await self._finish_removal(agent.row)

    async def ensure_manager(self) -> None:
        """Makes the manager, where there is none yet. `start_all` starts it."""
        if MANAGER not in self._roster:
            await anyio.to_thread.run_sync(self.paths.make_agent, MANAGER)
            await self._roster.put(
                AgentRow(name=MANAGER, role="manager", created_at=unix_seconds(self._clock))
            )

    async def start_all(self) -> None:
        """Starts every agent that the operator did not stop. One that cannot be started is `failed`, and retried."""
        slots = anyio.CapacityLimiter(START_AT_ONCE)

        async def one(agent: Agent) -> None:
            async with slots:
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

    async def aclose(self) -> None:
        """Stops everything at once. From any task, any number of times."""
        await self.shutdown(now=True)
        await self._background.aclose()
        if self._owned is not None:
            await self.runtime.aclose()
            await self._owned.aclose()

    # --- actions ----------------------------------------------------------------------------------------------------

    async def spawn(
        self, name: str, mounts: Sequence[Mount] | None = None, *, by: AgentName = OPERATOR
    ) -> None:
        """Makes an agent and starts it. A tombstone of this name is picked up again, with its state.

        Args:
            name: an agent's name.
            mounts: directories to show it; None keeps those of a tombstone.
            by: who asks.

        Raises:
            InvalidName, PathTooLong: the name cannot be used. Conflict: it is alive, or something is going on.
            BadConfig: a mount is refused. HiveError: it exists now, but could not be started; it is tried again.
        """
        del by  # the policy says who may; nothing of it depends on who did
        agent = parse_agent_name(name)
        self.paths.check_sockets(agent)
        self._actions.check_free(agent)
        self._check_not_alive(agent)

        async def work() -> None:
            old = self._roster.get(agent)
            row = AgentRow(
                name=agent,
                role="agent",
                created_at=old.row.created_at if old is not None else unix_seconds(self._clock),
                pending="spawning",
                action=old.row.action + 1 if old is not None else 1,
                mounts=tuple(mounts) if mounts is not None else old.row.mounts if old is not None else (),
            )
            await anyio.to_thread.run_sync(check_mounts, self._all_mounts(agent, row.mounts), self.paths)
            made = await self._roster.put(row)
            if old is not None:
                self.bus.publish(TombstonesChanged())
            failure: HiveError | None = None
            try:
                await self._supervisor.start(made, afresh=True)
            except HiveError as error:
                failure = error
            await self._settle(made, self._spawned(made))
            if failure is not None:
                raise failure

        await self._actions.run(agent, "spawning", work)

    async def restore(self, name: str) -> None:
        """Brings a destroyed agent back from its tombstone.

        Raises:
            NotFound: there is no tombstone of this name. Otherwise as `spawn`.
        """
        if parse_agent_name(name) not in self.tombstones():
            raise NotFound(f"there is no tombstone named {name}")
        await self.spawn(name)

    async def start(self, name: str, *, by: AgentName = OPERATOR) -> None:
        """Starts an agent; one that runs is left alone.

        Raises:
            NotFound: there is none. Conflict: something is going on. Forbidden: the operator stopped it.
        """
        agent = self._roster.live(name)
        self._check_may_start(agent, by)

        async def work() -> None:
            if agent.row.held:
                await self._roster.put(msgspec.structs.replace(agent.row, held=False))
            if not agent.running:
                await self._supervisor.start(agent, afresh=True)

        await self._actions.run(agent.name, "starting", work)

    async def stop(self, name: str, *, now: bool = False, by: AgentName = OPERATOR) -> None:
        """Stops an agent after its running turn, or at once where `now` (which also hurries a stop under way).

        The operator's stop holds: only the operator starts it again. Anybody else's lasts until the hive starts anew.

        Raises:
            NotFound: there is none. Conflict: something is going on. Forbidden: the manager, by itself.
        """
        agent = self._roster.live(name)
        self._check_not_self(agent, by)
        if now and self._actions.current(agent.name) == "stopping":
            await self._supervisor.hurry(agent)
            await self._actions.wait(agent.name)
            return

        async def work() -> None:
            ran = agent.running
            await self._begin(
                agent, pending="stopping" if ran else None, held=agent.row.held or by == OPERATOR
            )
            await self._supervisor.halt(agent, now=now)
            if ran:
                await self._settle(agent, Killed(agent=agent.name))

        await self._actions.run(agent.name, "stopping", work)

    async def restart(self, name: str, *, now: bool = False, by: AgentName = OPERATOR) -> None:
        """Stops and starts an agent; one that is stopped is started.

        Raises:
            NotFound: there is none. Conflict: something is going on. Forbidden: as `start` and `stop`.
        """
        agent = self._roster.live(name)
        self._check_not_self(agent, by)
        self._check_may_start(agent, by)

        async def work() -> None:
            if agent.row.held:
                await self._roster.put(msgspec.structs.replace(agent.row, held=False))
            await self._supervisor.halt(agent, now=now)
            await self._supervisor.start(agent, afresh=True)

        await self._actions.run(agent.name, "restarting", work)

    async def destroy(
        self, name: str, *, purge: bool = False, now: bool = False, by: AgentName = OPERATOR
    ) -> None:
        """Stops and removes an agent. Its state stays as a tombstone, which its name picks up again.

        Args:
            name: an agent's name; with `purge` also a tombstone's.
            purge: also delete state, credentials, both repos; its mail becomes dead letters.
            now: do not wait for a running turn.
            by: who asks.

        Raises:
            NotFound: there is none. Conflict: something is going on. Forbidden: the manager is never destroyed.
        """
        del by
        if name == MANAGER:
            raise Forbidden("the manager cannot be destroyed")
        agent = self._roster.get(parse_agent_name(name))
        if agent is None or (agent.row.phase == "tombstone" and not purge):
            raise NotFound(f"there is no agent named {name}", hint="`hyperhive list` shows who there is")

        async def work() -> None:
            await self._begin(agent, phase="purging" if purge else "destroying")
            await self._supervisor.halt(agent, now=now)
            await self._finish_removal(agent.row)

        await self._actions.run(agent.name, "destroying", work)

    async def list(self) -> builtins.list[str]:
        """The names of all agents, the manager first; no tombstones."""
        return [*self.names()]

    async def rebuild(self, name: str) -> None:
        """Not served by this version: raises NotAvailable."""
        self._roster.live(name)
        raise NotAvailable("rebuild is not available in this version", hint=f"`hyperhive restart {name}`")

    async def rollback(self, name: str, to: int) -> None:
        """Not served by this version: raises NotAvailable."""
        self._roster.live(name)
        raise NotAvailable(f"rollback to {to} is not available in this version")

    # --- inside -----------------------------------------------------------------------------------------------------

    def _check_not_alive(self, name: AgentName) -> None:
        agent = self._roster.get(name)
        if agent is not None and agent.row.phase == "alive":
            raise Conflict(
                f"there is an agent named {name} already", hint=f"`hyperhive start {name}` starts it"
            )

    def _spawned(self, agent: Agent) -> Spawned:
        return Spawned(agent=agent.name, ok=agent.running, note=None if agent.running else agent.reason)

    def _check_may_start(self, agent: Agent, by: AgentName) -> None:
        if agent.row.held and by != OPERATOR:
            raise Forbidden(f"the operator stopped {agent.name}: only the operator starts it again")

    def _check_not_self(self, agent: Agent, by: AgentName) -> None:
        if agent.name == by:
            raise Forbidden(f"{by} can neither stop nor restart itself")

    async def _begin(self, agent: Agent, **changes: object) -> None:
        row = msgspec.structs.replace(agent.row, action=agent.row.action + 1, **changes)
        await self._roster.put(row)

    async def _settle(self, agent: Agent, event: Spawned | Killed) -> None:
        """Tells of an action, and then writes that it was told: a crash in between tells it again, under one key."""
        await self._tell(event, _key(agent.row))
        await self._roster.put(msgspec.structs.replace(agent.row, pending=None))

    async def _finish_removal(self, row: AgentRow) -> None:
        """The second half of `destroy`, also after a crash in it. Idempotent."""
        name = row.name
        await self.runtime.release(name)
        if row.phase == "purging":
            if self._forget is not None:
                await self._forget(name)
            await anyio.to_thread.run_sync(purge_files, self.paths, name)
        await self._tell(Destroyed(agent=name), _key(row))
        if row.phase == "purging":
            await self._roster.remove(name)
        else:
            await self._roster.put(msgspec.structs.replace(row, phase="tombstone", pending=None, held=False))
        self._views.forget(name)
        self.bus.publish(ContainerRemoved(name=name))
        self.bus.publish(TombstonesChanged())


def _key(row: AgentRow) -> str:
    return f"lifecycle:{row.name}:{row.created_at}:{row.action}"
