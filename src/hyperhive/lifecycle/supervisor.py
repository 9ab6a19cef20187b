"""Starting, stopping and watching the agents' loops: the crash watch.

A loop that ends unasked is told of at once, and started again by the rules of `crashes.py`. Writes no row: whether an
agent should run at all is the lifecycle's affair.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import anyio
import anyio.to_thread

from hyperhive.background import Background
from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import Conflict, HiveError
from hyperhive.lifecycle.actions import Actions
from hyperhive.lifecycle.harnesses import HarnessFactory, drain
from hyperhive.lifecycle.lodgings import Lodgings
from hyperhive.lifecycle.roster import Agent
from hyperhive.lifecycle.runtimes import Runtime
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.events import AnyHelperEvent, ContainerCrash

log = logging.getLogger(__name__)

Tell = Callable[[AnyHelperEvent, str], Awaitable[None]]
"""Hears what has happened. The key says the same event again after a crash; to raise HiveError loses the event only."""


async def tell_nobody(event: AnyHelperEvent, key: str) -> None:
    """For a lifecycle that is used alone."""
    del event, key


Provision = Callable[[AgentName], Awaitable[None]]
"""Makes what an agent needs beside its directories, where it is missing; called at each of its starts."""


async def provide_nothing(agent: AgentName) -> None:
    """For a lifecycle that is used alone."""
    del agent


LogTail = Callable[[AgentName], Awaitable[Sequence[str]]]
"""The last lines of an agent's log, oldest first; may be asked while nothing of the agent runs."""

LOG_LINES: Final = 20
LOG_WIDTH: Final = 200
LOG_SECONDS = 2.0
"""How much of a log is told with a crash, and how long it is waited for: the crash itself is the news."""


async def no_log(agent: AgentName) -> Sequence[str]:
    """For a lifecycle that is used alone."""
    del agent
    return ()


class Supervisor:
    """The loops of all agents."""

    def __init__(
        self,
        *,
        paths: Paths,
        runtime: Runtime,
        harnesses: HarnessFactory,
        actions: Actions,
        background: Background,
        clock: Clock,
        touch: Callable[[AgentName], None],
        tell: Tell,
        log_tail: LogTail,
        drain_seconds: float,
        provision: Provision,
        lodgings: Lodgings,
    ) -> None:
        self._paths = paths
        self._runtime = runtime
        self._harnesses = harnesses
        self._actions = actions
        self._background = background
        self._clock = clock
        self._touch = touch
        self._tell = tell
        self._log_tail = log_tail
        self._drain_seconds = drain_seconds
        self._provision = provision
        self._lodgings = lodgings

    # --- starting ---------------------------------------------------------------------------------------------------

    async def start(self, agent: Agent, *, afresh: bool = False) -> None:
        """Starts an agent's loop. `afresh`: somebody asked for it, so earlier crashes do not count any more.

        Raises:
            HiveError: it cannot be started; the agent is `failed` and tried again later.
        """
        self._forget_retry(agent)
        agent.stopped = False
        if afresh:
            agent.crashes = type(agent.crashes)()
            agent.reason = None
        agent.life += 1
        life = agent.life
        try:
            await anyio.to_thread.run_sync(self._paths.make_agent, agent.name)
            await self._provision(agent.name)
            agent.harness = await self._harnesses.start(
                agent.name, lambda reason: self._ended(agent, life, reason)
            )
            await self._move_in(agent)
        except HiveError as error:
            agent.crashes, pause = agent.crashes.failed()
            self._fail(agent, str(error), pause)
            raise
        agent.started = self._clock.monotonic()
        agent.failed = False
        self._touch(agent.name)

    async def _move_in(self, agent: Agent) -> None:
        try:
            await self._lodgings.up(agent.name)
        except BaseException:
            harness, agent.harness = agent.harness, None
            with anyio.CancelScope(shield=True), suppress(HiveError):
                if harness is not None:
                    await harness.stop(now=True)
            raise
        if self._lodgings.there_are and agent.harness is not None:
            agent.harness.moved_in()

    async def try_start(self, agent: Agent) -> bool:
        """As `start`, for when nobody waits for the answer. False: it could not be started, or is being acted on."""
        try:
            await self._actions.run(agent.name, "starting", lambda: self.start(agent))
        except Conflict:
            return agent.running
        except HiveError as error:
            log.warning("agent_start_failed agent=%s error=%s", agent.name, error)
            return False
        return True

    # --- stopping ---------------------------------------------------------------------------------------------------

    async def halt(self, agent: Agent, *, now: bool, leaving: bool = False) -> None:
        """Ends an agent's loop, and whatever of it still runs after that. Idempotent.

        `leaving`: only the core stops; a container that outlives it is left running.
        """
        self._forget_retry(agent)
        agent.failed = False
        agent.life += 1  # its end is no crash, and a crash that is being dealt with does not bring it back
        harness = agent.harness
        if harness is not None:
            agent.draining = True
            try:
                await drain(harness, self._clock, self._drain_seconds, now=now or agent.hurried)
            finally:  # what a loop that fails to stop still runs is ended all the same
                agent.draining = False
                agent.harness = None
                self._touch(agent.name)
                if not (leaving and self._lodgings.outlive_the_core):
                    with anyio.CancelScope(shield=True):
                        await self._runtime.release(agent.name)
        else:
            await self._runtime.release(agent.name)
        self._touch(agent.name)

    async def hurried(self, agent: Agent, *, ends: bool) -> None:
        """Returns when the action that is going on has ended; it waits for no turn any more.

        `ends`: whoever hurries it wants the agent stopped, and its loop is, at once.
        """
        agent.hurried = True
        try:
            with suppress(HiveError):  # the same loop fails the action that waits for it, or that comes next
                if agent.draining and agent.harness is not None:
                    await agent.harness.stop(now=True)
                elif ends:
                    agent.stopped = True
                    await self.halt(agent, now=True)
            await self._actions.wait(agent.name)
        finally:
            agent.hurried = False

    async def halt_all(self, agents: Sequence[Agent], *, now: bool) -> None:
        """Ends every loop, side by side."""
        async with anyio.create_task_group() as tasks:
            for agent in agents:
                if agent.harness is not None:
                    tasks.start_soon(self._halt_quietly, agent, now)

    async def _halt_quietly(self, agent: Agent, now: bool) -> None:
        try:
            await self.halt(agent, now=now, leaving=True)
        except HiveError as error:
            log.warning("agent_stop_failed agent=%s error=%s", agent.name, error)

    # --- watching ---------------------------------------------------------------------------------------------------

    def _ended(self, agent: Agent, life: int, reason: str | None) -> None:
        if life != agent.life or agent.harness is None:
            return
        agent.harness = None
        agent.reason = reason or "its loop ended without a reason"
        self._touch(agent.name)
        self._background.spawn(lambda: self._crashed(agent, life), f"crash of {agent.name}")

    async def _crashed(self, agent: Agent, life: int) -> None:
        now = self._clock.monotonic()
        agent.crashes, pause = agent.crashes.crashed(now, agent.started)
        note = agent.reason or ""
        log.warning("agent_crashed agent=%s retry_seconds=%s reason=%s", agent.name, pause, note)
        if pause and agent.life == life:  # nobody acted on it since
            self._fail(agent, note, pause)
            note = f"{note} (too often: it is tried again in {pause:.0f} s)"
        try:
            await self._runtime.release(agent.name)
        except (
            HiveError
        ) as error:  # what hangs in the kernel is no reason to leave the agent lying, or to say nothing
            log.warning("remains_not_ended agent=%s error=%s", agent.name, error)
        await self._report(agent, life, note)
        if not pause:
            await self._again(agent, life)  # looks whether somebody acted on it meanwhile

    async def _report(self, agent: Agent, life: int, note: str) -> None:
        key = f"crash:{agent.name}:{unix_seconds(self._clock)}:{life}"
        note += await self._last_lines(agent.name)
        try:
            await self._tell(ContainerCrash(agent=agent.name, note=note), key)
        except HiveError as error:
            log.warning("crash_not_told agent=%s error=%s", agent.name, error)

    async def _last_lines(self, name: AgentName) -> str:
        """What the agent's log ends with. Its words may be the agent's: each line says that it is a quotation."""
        lines: Sequence[str] = ()
        try:
            with anyio.move_on_after(LOG_SECONDS):
                lines = await self._log_tail(name)
                if own := await self._lodgings.log_tail(
                    name, LOG_LINES // 2
                ):  # why a harness ended stands there alone
                    lines = [*lines[-(LOG_LINES - len(own)) :], *own]
        except HiveError as error:
            log.warning("log_not_read agent=%s error=%s", name, error)
        quoted = [f"| {' '.join(line.split())[:LOG_WIDTH]}" for line in lines[-LOG_LINES:]]
        return "\n".join(["\nlast lines of its log:", *quoted]) if quoted else ""

    def _fail(self, agent: Agent, reason: str, pause: float) -> None:
        agent.failed = True
        agent.reason = reason
        life = agent.life
        self._touch(agent.name)

        async def retry() -> None:
            await self._clock.sleep(pause)
            agent.retry = None
            await self._again(agent, life)

        agent.retry = self._background.spawn(retry, f"retry {agent.name}")

    async def _again(self, agent: Agent, life: int) -> None:
        """Starts it, unless somebody acted on it since."""
        await self._actions.wait(agent.name)
        if agent.life == life and agent.harness is None and agent.row.phase == "alive" and not agent.row.held:
            await self.try_start(agent)

    def _forget_retry(self, agent: Agent) -> None:
        if agent.retry is not None:
            agent.retry.cancel()
            agent.retry = None
