"""`Lifecycle`: which agents there are, and when each of them runs.

Each action is a method here; what is common to them (rows, starting again, finishing what was cut short) is in
`upkeep`. Reads no mail, decides no approval, and knows no turn.
"""

import builtins
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from hyperhive.clock import SYSTEM_CLOCK, Clock, unix_seconds
from hyperhive.config import RuntimeName
from hyperhive.errors import Conflict, Forbidden, HiveError, NotFound
from hyperhive.lifecycle.harnesses import HarnessFactory
from hyperhive.lifecycle.mounts import check_mounts
from hyperhive.lifecycle.redeploying import Redeploying, check_not_self
from hyperhive.lifecycle.roster import Agent
from hyperhive.lifecycle.rows import MIGRATIONS, AgentRow
from hyperhive.lifecycle.runtimes import pick_runtime
from hyperhive.names import MANAGER, OPERATOR, AgentName, parse_agent_name, parse_resident
from hyperhive.opening import Opening
from hyperhive.paths import Paths
from hyperhive.protocol.events import (
    Killed,
    TombstonesChanged,
)
from hyperhive.protocol.types import Mount, TransientName
from hyperhive.store import Store

_DRAINING: Final[tuple[TransientName, ...]] = ("stopping", "restarting", "destroying", "rebuilding")
"""Actions that may wait for a turn to end."""


class Lifecycle(Redeploying):
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

    _owned: Store | None = None

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

    # --- closing ---

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
            InvalidName, PathTooLong: the name cannot be used.
            Conflict: it is alive, something is going on, or the port of its own is another's.
            BadConfig: a mount is refused. WorldError: the disk is low.
            HiveError: it exists now, but could not be started; it is tried again.
        """
        del by  # the policy says who may; nothing of it depends on who did
        agent = parse_agent_name(name)
        self.paths.check_sockets(agent)
        self._actions.check_free(agent)
        self._check_not_alive(agent)
        self._admit(agent)
        await self._lodgings.admit(agent)

        async def work() -> None:
            await self._room()
            old = self._roster.get(agent)
            row = AgentRow(
                name=agent,
                role="agent",
                created_at=old.row.created_at if old is not None else unix_seconds(self._clock),
                pending="spawning",
                action=old.row.action + 1 if old is not None else int(self._clock.time() * 1000),
                mounts=tuple(mounts) if mounts is not None else old.row.mounts if old is not None else (),
            )
            mounts_now, shared = self._all_mounts(agent, row.mounts), self._shared(agent)
            await anyio.to_thread.run_sync(partial(check_mounts, mounts_now, self.paths, shared=shared))
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

    async def restore(self, name: str, *, by: AgentName = OPERATOR) -> None:
        """Brings a destroyed agent back from its tombstone.

        Raises:
            NotFound: there is no tombstone of this name. Otherwise as `spawn`.
        """
        if parse_agent_name(name) not in self.tombstones():
            raise NotFound(f"there is no tombstone named {name}")
        await self.spawn(name, by=by)

    async def start(self, name: str, *, wait: bool = False, by: AgentName = OPERATOR) -> None:
        """Starts an agent; one that runs is left alone. `wait`: after whatever is going on with it, as in `stop`.

        Raises:
            NotFound: there is none. Conflict: something is going on. Forbidden: the operator stopped it.
        """
        await self._after(name, wait=wait)
        agent = self._roster.live(name)
        self._check_may_start(agent, by)

        async def work() -> None:
            if agent.row.held:
                await self._roster.put(msgspec.structs.replace(agent.row, held=False))
            if not agent.running:
                await self._supervisor.start(agent, afresh=True)

        await self._actions.run(agent.name, "starting", work)

    async def stop(
        self, name: str, *, now: bool = False, wait: bool = False, by: AgentName = OPERATOR
    ) -> None:
        """Stops an agent after its running turn, or at once where `now`.

        The operator's stop holds: only the operator starts it again. Anybody else's lasts until the hive starts anew.
        `now` also hurries whatever drains the agent at the moment (a stop, restart or destroy), here and in the other
        actions: that one is finished first, and then this one done where anything is left to do. A loop that is to end
        ends at once, also where a deploy is still looking at its health.
        `wait` instead of a refusal: whatever is going on with the agent ends first. Who asks last has the last word.

        Raises:
            NotFound: there is none. Conflict: something else is going on. Forbidden: the manager, by itself.
        """
        check_not_self(name, by)
        found = self._roster.get(parse_resident(name))
        ran_before = found is not None and found.running
        what = await self._after(name, now=now, ends=now, wait=wait)
        if what == "destroying" and name not in self.names():
            return  # it is stopped for good
        agent = self._roster.live(name)
        ended = now and ran_before and what not in {None, "stopping"}  # by this, before its turn came

        async def work() -> None:
            ran = agent.running or ended
            await self._begin(
                agent, pending="stopping" if ran else None, held=agent.row.held or by == OPERATOR
            )
            agent.stopped = True
            await self._supervisor.halt(agent, now=now)
            if ran:
                await self._settle(agent, Killed(agent=agent.name))

        await self._actions.run(agent.name, "stopping", work)

    async def restart(self, name: str, *, now: bool = False, by: AgentName = OPERATOR) -> None:
        """Stops and starts an agent; one that is stopped is started. `now` as in `stop`.

        Raises:
            NotFound: there is none. Conflict: something is going on. Forbidden: as `start` and `stop`.
        """
        check_not_self(name, by)
        self._check_may_start(self._roster.get(parse_resident(name)), by)
        hurried = await self._after(name, now=now)
        agent = self._roster.live(name)
        self._check_may_start(agent, by)
        if hurried == "restarting" and agent.running:
            return

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
            now: do not wait for a running turn, as in `stop`.
            by: who asks.

        Raises:
            NotFound: there is none. Conflict: something is going on. Forbidden: the manager is never destroyed.
        """
        del by
        if name == MANAGER:
            raise Forbidden("the manager cannot be destroyed")
        hurried = await self._after(name, now=now, ends=now)
        agent = self._roster.get(parse_agent_name(name))
        if agent is None or (agent.row.phase == "tombstone" and not purge):
            if hurried == "destroying":
                return
            raise NotFound(f"there is no agent named {name}", hint="`hyperhive list` shows who there is")

        async def work() -> None:
            await self._begin(agent, phase="purging" if purge else "destroying")
            await self._supervisor.halt(agent, now=now)
            await self._finish_removal(agent.row)

        await self._actions.run(agent.name, "destroying", work)

    async def list(self) -> builtins.list[str]:
        """The names of all agents, the manager first; no tombstones."""
        return [*self.names()]

    # --- inside -----------------------------------------------------------------------------------------------------

    def _check_not_alive(self, name: AgentName) -> None:
        agent = self._roster.get(name)
        if agent is not None and agent.row.phase == "alive":
            raise Conflict(
                f"there is an agent named {name} already", hint=f"`hyperhive start {name}` starts it"
            )
        if agent is not None and agent.row.phase in {"destroying", "purging"}:
            flag = " --purge" if agent.row.phase == "purging" else ""
            raise Conflict(
                f"{name} is not all removed yet",
                hint=f"`hyperhive destroy {name}{flag}` goes on with it, as does the next start",
            )

    def _check_may_start(self, agent: Agent | None, by: AgentName) -> None:
        if agent is not None and agent.row.held and by != OPERATOR:
            raise Forbidden(f"the operator stopped {agent.name}: only the operator starts it again")

    async def _after(
        self, name: str, *, now: bool = False, ends: bool = False, wait: bool = False
    ) -> TransientName | None:
        """Returns what was going on with the agent, once it is done, where it is to be waited for; else at once.

        That is where `wait`, and where `now` ends the turn that it waits for; `ends` ends the agent's loop in any case.
        """
        agent = self._roster.get(parse_resident(name))
        what = self._actions.current(agent.name) if agent is not None else None
        hurried = now and what in _DRAINING
        if agent is None or what is None or not (wait or hurried):
            return None
        if hurried:
            await self._supervisor.hurried(agent, ends=ends)
        await self._actions.wait(agent.name)
        return what

    async def _begin(self, agent: Agent, **changes: object) -> None:
        row = msgspec.structs.replace(agent.row, action=agent.row.action + 1, **changes)
        await self._roster.put(row)
