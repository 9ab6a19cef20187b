"""`agent serve`: one agent's harness in a process of its own, put together as the core does it for embedded ones.

It dials the hive's harness socket and works on through restarts of the core. The hive serves that socket for agents
whose settings say `harness = "own"`. The first SIGTERM or SIGINT lets the running turn end, a second one ends it.
SIGHUP reads hive.toml again, for the next turn.
"""

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from hyperhive import __version__
from hyperhive.accounts import Accounts
from hyperhive.agent_cli import AgentClis
from hyperhive.client.attached import AttachedHarness
from hyperhive.client.core import SocketCore
from hyperhive.clock import SYSTEM_CLOCK
from hyperhive.config import HiveConfig, read_file
from hyperhive.desk import PROTOCOL
from hyperhive.errors import Conflict, HiveError
from hyperhive.eventlog import EventLogs
from hyperhive.harness import Harness
from hyperhive.harness.display import Display
from hyperhive.harness.drivers.claude import Profile
from hyperhive.harness.drivers.mcp_servers import EXTRA_MCP
from hyperhive.harness.harness import HarnessSettings
from hyperhive.harness.model_gate import ModelRoutes
from hyperhive.harness.slots import Slots
from hyperhive.harness.socket_probe import SocketProbe
from hyperhive.lifecycle.deploy.handing import Handed
from hyperhive.lifecycle.launching import AgentLauncher
from hyperhive.lifecycle.networks import network_in_force
from hyperhive.lifecycle.runtimes import ResourceLimits, pick_runtime
from hyperhive.lifecycle.runtimes.inside import INSIDE, InsidePaths
from hyperhive.mcp.remote import RemoteToolServer
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.ports import Launcher
from hyperhive.protocol.events import (
    AnyLiveEvent,
    ModelChanged,
    StatusChanged,
    TokenUsageChanged,
    TurnStateChanged,
)
from hyperhive.protocol.harness_line import HarnessCommand, Probe, Reread
from hyperhive.protocol.live import encode_live
from hyperhive.protocol.replies import Ok, Reply
from hyperhive.protocol.requests import Hello

log = logging.getLogger("hyperhive.agent_serve")

SWEEP_SECONDS = 3600.0
LOOK_SECONDS = 0.2
"""How often a harness that was drained looks whether its agent is served again."""
LAST_WORD_SECONDS = 2.0
"""How long a harness that was told twice to end may take to hand in what its turn came to."""


async def run_harness(
    agent: AgentName, config: HiveConfig, environ: Mapping[str, str], *, socket: Path | None = None
) -> int:
    """Serves one agent until it is told to stop, or a newer harness of this agent takes its place.

    Drained by the core, it waits until the core serves the agent again, reads everything anew, and goes on: so restarts
    and deploys need nobody who starts this process again.

    Raises:
        Conflict: by its settings the hive runs this agent itself.
        MissingPart: the runtime or the agent CLI is not there.
        Closed: a newer harness of this agent reported for duty.
    """
    if socket is None and config.agent(agent).harness != "own":
        raise Conflict(
            f"the hive runs {agent} itself",
            hint=f'put `harness = "own"` under [agents.{agent}] in {config.source}, and restart {agent}',
        )
    paths = _places(config, environ)
    at = socket or paths.harness_socket(agent)
    while True:
        served = await anyio.to_thread.run_sync(_identity, at)
        if await _serve(agent, config, paths, at, environ) or not await _served_again(at, served):
            log.info("harness_stopped agent=%s", agent)
            return 0
        log.info("harness_begins_again agent=%s", agent)


async def _serve(
    agent: AgentName, config: HiveConfig, paths: Paths, at: Path, environ: Mapping[str, str]
) -> bool:
    """One life. Whether it was told by a signal to end; else the core drained it."""
    told = False
    async with AsyncExitStack() as stack:
        settings = _Settings(agent, config, paths)
        await settings.reread()
        settings.inside = bool(environ.get(INSIDE))
        accounts = await Accounts.open(paths.accounts, environ, handed=settings.inside)
        harness, slots, core = await _build(stack, settings, accounts, paths, at, environ)

        async def answer(command: HarnessCommand) -> Reply:
            if not isinstance(command, Reread | Probe):  # what is probed is what is in force now
                return await harness.handle(command)
            await settings.reread()
            if settings.inside:
                await accounts.reread()
            harness.changed()
            return Ok() if isinstance(command, Reread) else await harness.handle(command)

        line = AttachedHarness(at, answer, on_attached=lambda: _tell_state(harness.display, line))
        refused: list[HiveError] = []
        async with anyio.create_task_group() as tasks:

            async def keep_line() -> None:
                try:
                    await line.run()
                except HiveError as error:  # at once: what this harness holds is the newer one's now
                    refused.append(error)
                    tasks.cancel_scope.cancel()

            async def stop_when_told() -> None:
                nonlocal told
                with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    await anext(signals)
                    told = True
                    await _stop(harness, signals, tasks.cancel_scope.cancel)

            tasks.start_soon(slots.run)
            tasks.start_soon(_tell_events, harness, line)
            tasks.start_soon(keep_line)
            tasks.start_soon(stop_when_told)
            tasks.start_soon(_reread_when_told, harness, settings)
            tasks.start_soon(_sweep, harness)
            log.info("harness_started agent=%s socket=%s pid=%d", agent, at, os.getpid())
            await harness.run()
            tasks.cancel_scope.cancel()
        await core.aclose()
    if refused:
        raise refused[0]
    return told


def _identity(socket: Path) -> tuple[int, int] | None:
    """Which file lies there; None where none does."""
    try:
        found = socket.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


async def _served_again(at: Path, served: tuple[int, int] | None) -> bool:
    """Returns when another socket lies there than the one that was served; False: it was told to end before that.

    The core takes the old one away when the agent has stopped. Until there is a new one nothing is made, as the agent
    may have been destroyed.
    """
    again = False
    async with anyio.create_task_group() as tasks:

        async def look() -> None:
            nonlocal again
            while (now := await anyio.to_thread.run_sync(_identity, at)) in (None, served):
                await SYSTEM_CLOCK.sleep(LOOK_SECONDS)
            again = now is not None
            tasks.cancel_scope.cancel()

        async def stop() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await anext(signals)
            tasks.cancel_scope.cancel()

        tasks.start_soon(look)
        tasks.start_soon(stop)
    return again


def _places(config: HiveConfig, environ: Mapping[str, str]) -> Paths:
    """In a container of the hive's everything has its fixed place."""
    kind = InsidePaths if environ.get(INSIDE) else Paths
    return kind.of(config.state_dir, config.run_dir)


class _Settings:
    """One agent's settings as they were read last. Mounts, limits and the runtime are those of the start."""

    def __init__(self, agent: AgentName, config: HiveConfig, paths: Paths) -> None:
        self.agent = agent
        self.inside = False
        """In a container of the hive's: what the core hands over is all there is."""
        self._handed = Handed(paths.agent_harness(agent))
        self.config = msgspec.structs.replace(config, overlay=self._handed.overlay)

    def profile(self) -> Profile:
        """Who the agent is, for its next turn."""
        return Profile(
            name=self.agent,
            role="manager" if self.agent == MANAGER else "agent",
            config=self.config.agent(self.agent),
            pronouns=self.config.pronouns,
        )

    async def reread(self) -> None:
        """Raises BadConfig where the file is invalid; what was read last stays in force."""
        await anyio.to_thread.run_sync(self._handed.reread)
        if self.config.source is not None:
            file = await anyio.to_thread.run_sync(read_file, self.config.source)
            self.config = msgspec.structs.replace(self.config, file=file)


async def _build(
    stack: AsyncExitStack,
    own: _Settings,
    accounts: Accounts,
    paths: Paths,
    at: Path,
    environ: Mapping[str, str],
) -> tuple[Harness, Slots, SocketCore]:
    """The harness and what it stands on; the stack ends what must be ended."""
    agent, config = own.agent, own.config
    await anyio.to_thread.run_sync(paths.make_agent, agent)
    # A mark of its own: the core's sweep must not end this harness's CLI, nor this one's sweep the core's.
    runtime = await pick_runtime(
        config.runtime, paths, environ, owner=f"harness/{agent}", nspawn_base=config.file.nspawn_base
    )
    stack.push_async_callback(runtime.aclose)
    await runtime.sweep()
    clis = AgentClis(environ, paths.state_dir)
    hello = Hello(protocol=PROTOCOL, hyperhive_rev=__version__, cli_version=(await clis.find()).version)
    core = SocketCore(at, hello)
    logs = EventLogs()
    stack.push_async_callback(logs.aclose)
    settings, file = config.agent(agent), config.file
    slots = Slots(max_turns=1, max_warm=1, idle_seconds=file.idle_seconds, clock=SYSTEM_CLOCK)

    def make_launcher() -> Launcher:
        """The network is what the core's gateway leaves it to be, as it told before this launch."""
        network = network_in_force(settings, isolated=runtime.isolated, behind_gateway=routes.served)
        limits = ResourceLimits.of(settings.limits)
        return runtime.launcher(agent, mounts=settings.mounts, limits=limits, network=network)

    routes = ModelRoutes(SocketProbe(), environ)
    harness = Harness(
        name=agent,
        core=core,
        launcher=AgentLauncher(make_launcher, lambda: "as it was at the start"),
        tools=RemoteToolServer(at, on_took=core.took),
        directory=paths.agent_harness(agent),
        profile=own.profile,
        accounts=accounts,
        clis=clis,
        slots=slots,
        routes=routes,
        logs=logs,
        environ=environ,
        settings=HarnessSettings(
            stuck_seconds=file.stuck_seconds,
            result_grace=file.result_grace,
            backoff_seconds=file.backoff_seconds,
            backoff_max_seconds=file.backoff_max_seconds,
            buffer=file.buffer,
        ),
        events_db=_named(environ, "HYPERHIVE_EVENTS_DB"),
        model_file=_named(environ, "HYPERHIVE_MODEL_FILE"),
        extra_mcp=EXTRA_MCP,
    )
    return harness, slots, core


def _named(environ: Mapping[str, str], variable: str) -> Path | None:
    return Path(environ[variable]) if environ.get(variable) else None


async def _tell_events(harness: Harness, line: AttachedHarness) -> None:
    """Live events go up as they happen; what the core does not read is dropped, never waited for."""
    async with harness.bus.subscribe() as events:
        async for item in events:
            event = getattr(item, "event", None)
            if event is not None:
                line.publish(encode_live(event))


def _tell_state(display: Display, line: AttachedHarness) -> None:
    """A core that has just taken the line knows nothing of this agent's turns yet."""
    told: list[AnyLiveEvent] = [
        TurnStateChanged(state=display.state, since_unix=display.since, reason=display.reason),
        StatusChanged(status=display.status),
        ModelChanged(model=display.model),
    ]
    if display.ctx is not None or display.cost is not None:
        told.append(TokenUsageChanged(ctx=display.ctx, cost=display.cost))
    for event in told:
        line.publish(encode_live(event))


async def _stop(harness: Harness, signals: AsyncIterator[signal.Signals], end: Callable[[], None]) -> None:
    """The second signal ends it, also where there is no core to take what its turn came to: that turn runs again."""
    log.info("harness_draining agent=%s", harness.name)
    harness.drain(now=False)
    await anext(signals)
    harness.drain(now=True)
    await SYSTEM_CLOCK.sleep(LAST_WORD_SECONDS)
    end()


async def _reread_when_told(harness: Harness, settings: _Settings) -> None:
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            try:
                await settings.reread()
            except HiveError as error:
                log.warning("config_not_read agent=%s error=%s", harness.name, error)
                continue
            harness.changed()
            log.info("config_read agent=%s", harness.name)


async def _sweep(harness: Harness) -> None:
    while True:
        await SYSTEM_CLOCK.sleep(SWEEP_SECONDS)
        try:
            await harness.sweep()
        except HiveError as error:
            log.warning("sweep_failed agent=%s error=%s", harness.name, error)
