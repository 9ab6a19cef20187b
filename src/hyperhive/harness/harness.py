"""`Harness`: one agent's harness, in the core or in a process of its own; it cannot tell which.

It puts the parts together (loop, runner, login, statistics, what is shown) and answers what the operator asks of an
agent's turns. When an agent runs is the lifecycle's affair: `run` is its life, `drain` its end. An agent without mail
costs a waiting task: no process, no thread, no open database.
"""

import logging
import random as random_module
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from hyperhive.accounts import Accounts, AccountState, BoundAccount
from hyperhive.agent_cli import AgentCli, AgentClis
from hyperhive.bus import BUFFER, Bus
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.config import DEFAULT_MODEL
from hyperhive.errors import HiveError
from hyperhive.eventlog import EventLogs
from hyperhive.harness.backoff import Random
from hyperhive.harness.commands import Commands
from hyperhive.harness.core import Core
from hyperhive.harness.display import Display
from hyperhive.harness.drivers.claude import ClaudeDriver, ModelRoute, Profile
from hyperhive.harness.files import MODEL_FILE, TURN_FILE, LineFile, TurnNumbers
from hyperhive.harness.login import LoginCommand
from hyperhive.harness.loop import TurnLoop
from hyperhive.harness.model import ModelChoice
from hyperhive.harness.model_gate import ModelGate, ModelRoutes
from hyperhive.harness.pauses import PauseSettings
from hyperhive.harness.permissions import Permissions
from hyperhive.harness.probe import Probe
from hyperhive.harness.runner import Timing, TurnRunner, fresh_uuid
from hyperhive.harness.sessions import SESSION_FILE, SessionFile
from hyperhive.harness.slots import Slots
from hyperhive.harness.socket_probe import SocketProbe
from hyperhive.harness.stats import STATS_FILE, TurnStats, cost_of, ctx_of
from hyperhive.harness.stats_windows import Provider
from hyperhive.harness.turn_rows import row_of, row_of_unasked
from hyperhive.harness.turns import TurnResult, UnaskedTurn
from hyperhive.ports import Box, Launcher, ToolServer
from hyperhive.protocol.events import AnyLiveEvent, Stream
from hyperhive.protocol.harness_line import HarnessCommand
from hyperhive.protocol.replies import Charged, LooseEnds, RemindersPending, Reply
from hyperhive.protocol.requests import Charge, CountPendingReminders, GetLooseEnds
from hyperhive.protocol.types import TurnRow, TurnStateName, WaitingReason
from hyperhive.spending.usage import clamped, clamped_dollars

log = logging.getLogger(__name__)

EVENTS_FILE: Final = "hyperhive-events.sqlite"
LOOSE_ENDS_SECONDS: Final = 2.0
CLI_MISSING_SECONDS: Final = 60.0
"""An agent that is parked for want of a CLI looks again so often: installing one tells nobody."""


class HarnessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one agent's harness behaves; times are seconds. Defaults are the specification's."""

    stuck_seconds: float = 600.0
    result_grace: float = 10.0
    backoff_seconds: float = 5.0
    backoff_max_seconds: float = 300.0
    buffer: int = BUFFER


class Harness:
    """One agent's harness.

    Args:
        name: the agent's.
        core: asked as this agent's harness.
        launcher: starts programs in the agent's box.
        tools: the hive's tools for this agent.
        directory: the harness's own, outside every box: events, statistics, model, session, turn number.
        profile: who the agent is and its config; read anew for every turn.
        accounts: whose account and login state counts; `profile().config.account` names it.
        clis: finds the agent CLI.
        slots: the process's keeper of turns and warm processes.
        logs: the process's event logs.
        environ: the operator's environment (only what is named in the driver is passed on).
        events_db, model_file: other places for these two, as `agent serve` may have them.
        providers: further parts of the statistics, by name.
        bus: the agent's, where that outlives this harness.
        routes: how CLIs reach the hive's model gateway, where it serves this agent; the process's.
        extra_mcp: a file with further MCP servers for every agent.
    """

    def __init__(
        self,
        *,
        name: str,
        core: Core,
        launcher: Launcher,
        tools: ToolServer,
        directory: Path,
        profile: Callable[[], Profile],
        accounts: Accounts,
        clis: AgentClis,
        slots: Slots,
        logs: EventLogs,
        environ: Mapping[str, str],
        settings: HarnessSettings | None = None,
        clock: Clock = SYSTEM_CLOCK,
        random: Random = random_module.random,
        new_uuid: Callable[[], str] = fresh_uuid,
        events_db: Path | None = None,
        model_file: Path | None = None,
        providers: Mapping[str, Provider] | None = None,
        bus: Bus[AnyLiveEvent] | None = None,
        routes: ModelRoutes | None = None,
        extra_mcp: Path | None = None,
    ) -> None:
        settings = settings or HarnessSettings()
        self.name = name
        self._core = core
        self._gate = ModelGate(core)
        self._routes = routes or ModelRoutes(SocketProbe(), environ)
        self._plain_driver = ClaudeDriver(profile, self._find_cli, directory, environ=environ)
        self._launcher = launcher
        self._profile = profile
        self._accounts = accounts
        self._slots = slots
        self._clock = clock
        self._clis = clis
        self._cli_missing = False
        self.last_error: str | None = None
        self.stats = TurnStats(directory / STATS_FILE, clock)
        self.display = Display(
            events_db or directory / EVENTS_FILE,
            logs,
            clock,
            buffer=settings.buffer,
            model=profile().config.model or DEFAULT_MODEL,
            bus=bus,
        )
        self.bus = self.display.bus
        self._driver = ClaudeDriver(
            profile,
            self._find_cli,
            directory,
            route=self._model_route,
            environ=environ,
            extra_mcp=extra_mcp,
        )
        self.permissions = Permissions(core, self._tool_waits, self._turn_goes_on, self.display.note)
        self.runner = TurnRunner(
            launcher=launcher,
            driver=self._driver,
            tools=tools,
            session=SessionFile(directory / SESSION_FILE, new_uuid),
            emit=self._from_runner,
            model=self.display.model,
            clock=clock,
            timing=Timing(stuck_seconds=settings.stuck_seconds, result_grace=settings.result_grace),
            on_state=self.display.runner_state,
            on_unasked=self._unasked,
            new_uuid=new_uuid,
            permits=self.permissions,
        )
        self._loop = TurnLoop(
            core=core,
            runner=self.runner,
            slots=slots,
            numbers=TurnNumbers(directory / TURN_FILE),
            account=lambda: self.account,
            events=self,
            settings=PauseSettings(
                backoff_seconds=settings.backoff_seconds, backoff_max_seconds=settings.backoff_max_seconds
            ),
            parked_seconds=lambda: CLI_MISSING_SECONDS if self._cli_missing else None,
            clock=clock,
            random=random,
        )
        self._model = ModelChoice(
            LineFile(model_file or directory / MODEL_FILE), lambda: profile().config.model, self._use_model
        )
        self._commands = Commands(
            name=name,
            display=self.display,
            runner=self.runner,
            loop=self._loop,
            model=self._model,
            stats=self.stats,
            slots=slots,
            launcher=launcher,
            login_command=self._login_command,
            account=lambda: self.account,
            drained=self._drained,
            probe=Probe(launcher, tools, self._driver, clock, new_uuid, lambda: profile().config.mcp).run,
            providers=providers or {},
            clock=clock,
        )
        self._known_account = (self.account.name, self.account.state.generation)
        self._rows: TaskGroup | None = None
        self._unasked_turns = 0
        self._counting = False
        self._uncounted: UnaskedTurn | None = None
        self._running = False
        self._started = anyio.Event()
        self._ended = anyio.Event()

    # --- its life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the agent's mail until `drain`. Once only. Whatever ends it, no process of it is left.

        Raises:
            HiveError: the core is closed, or refuses what every harness may ask.
        """
        stop_listening = self._accounts.subscribe(self._account_changed)
        self._running = True
        try:
            await self.display.open()
            await self._restore()
            self._started.set()
            await self._serve()
        finally:
            self._running = False
            stop_listening()
            with anyio.CancelScope(shield=True):
                await self._commands.aclose()
                await self.runner.aclose()
                await self.permissions.finish()
                self._slots.forget(self.runner)
                await self.display.close()
            self._started.set()
            self._ended.set()

    async def _serve(self) -> None:
        """The loop, and after it the rows of its turns that are not written yet."""
        failure: HiveError | None = None
        async with anyio.create_task_group() as rows:
            self._rows = rows
            self.permissions.start(rows)
            try:
                await self._loop.run()
            except HiveError as error:  # told outside of the group, which would wrap it
                failure = error
            self.permissions.stop()
        if failure is not None:
            raise failure

    def drain(self, *, now: bool = False) -> None:
        """Let `run` return once the running turn has ended, or at once (`now`: that turn's messages go back)."""
        self._loop.drain(now=now)

    async def handle(self, command: HarnessCommand) -> Reply:
        """Carry out one command of the core's.

        Raises:
            HiveError: it was refused, and why.
        """
        return await self._commands.handle(command)

    async def _drained(self, now: bool) -> None:
        self.drain(now=now)
        if self._running:
            await self._ended.wait()

    async def started(self) -> None:
        """Return when `run` has restored what there was and serves mail (or has ended)."""
        await self._started.wait()

    async def ended(self) -> None:
        """Return when `run` has."""
        await self._ended.wait()

    def changed(self) -> None:
        """Config, account or CLI changed: taken at the next turn boundary; an agent that was parked tries again."""
        self._model.refresh()
        self._commands.show_login()
        self._loop.changed()

    async def sweep(self) -> None:
        """Remove what is kept no longer; to be called hourly."""
        await self.display.sweep()
        await self.stats.sweep()

    @property
    def account(self) -> BoundAccount:
        """The account that it runs under now."""
        return self._accounts.bind(self.name, self._profile().config.account)

    @property
    def in_turn(self) -> bool:
        """A turn runs, or waits for its slot."""
        return self._loop.in_turn

    async def _restore(self) -> None:
        """Model and badges as they were when the harness ended last."""
        await self._model.restore()
        for row in await self.stats.newest(1):
            self.display.ctx, self.display.cost = ctx_of(row), cost_of(row)
        self._commands.show_login()

    # --- what the loop and the runner tell (LoopEvents) -------------------------------------------------------------

    def state_changed(self, state: TurnStateName, reason: WaitingReason | None, until: float | None) -> None:
        """The loop's state."""
        self.display.loop_state(state, reason, until)

    def noted(self, text: str) -> None:
        """Something that people should know."""
        self.display.note(text)

    def turn_settled(self, number: int, wake_from: str, result: TurnResult) -> None:
        """A turn has ended, and the core knows: what remains is its row."""
        self.last_error = None if result.ok else result.note or result.kind
        self._write_row(partial(row_of, result, turn=number, wake_from=wake_from, model=self.display.model))

    def _tool_waits(self, waits: bool) -> None:
        self.display.tool_waits(waits)
        if waits:
            self._slots.lend(self.runner)

    async def _turn_goes_on(self) -> None:
        await self._slots.reclaim(self.runner)

    def _from_runner(self, event: AnyLiveEvent) -> None:
        self.display.emit(event)
        if isinstance(event, Stream):
            self._loop.ready_for_more()

    def _unasked(self, turn: UnaskedTurn) -> None:
        self._loop.unasked(turn)
        if self._rows is None:
            return
        if self._counting:  # a CLI may end turns as fast as it can write
            self._uncounted = turn if self._uncounted is None else self._uncounted.joined(turn)
            return
        self._counting = True
        self._rows.start_soon(self._add_unasked_rows, turn)

    async def _add_unasked_rows(self, turn: UnaskedTurn | None) -> None:
        """One after the other; what ends meanwhile becomes one row, so that no CLI can flood the core."""
        while turn is not None:
            await self._add_unasked_row(turn, self._clock.time())
            turn, self._uncounted = self._uncounted, None
        self._counting = False

    async def _add_unasked_row(self, turn: UnaskedTurn, at: float) -> None:
        """What a background task spends is charged to what its agent does then, or did last."""
        self._unasked_turns += 1
        charge = Charge(
            key=f"background {at:.3f} {self._unasked_turns}",
            started_at=int(at),
            model=turn.model[:200],
            usage=clamped(turn.usage),
            cost=clamped_dollars(turn.cost),
        )
        charged: Reply | None = None
        with anyio.move_on_after(LOOSE_ENDS_SECONDS):
            try:
                charged = await self._core.ask(charge)
            except HiveError as error:
                log.warning("background_turn_not_charged agent=%s error=%s", self.name, error)
        message, chain = (charged.message, charged.chain) if isinstance(charged, Charged) else (None, None)
        await self._add_row(
            partial(row_of_unasked, turn, now=int(at), model=self.display.model, message=message, chain=chain)
        )

    def _write_row(self, make: Callable[..., TurnRow]) -> None:
        if self._rows is not None:
            self._rows.start_soon(self._add_row, make)

    async def _add_row(self, make: Callable[..., TurnRow]) -> None:
        open_threads = open_reminders = 0
        with anyio.move_on_after(
            LOOSE_ENDS_SECONDS
        ):  # the core may be gone; the row is worth more than its counts
            try:
                ends = await self._core.ask(GetLooseEnds())
                open_threads = len(ends.loose_ends) if isinstance(ends, LooseEnds) else 0
                pending = await self._core.ask(CountPendingReminders())
                open_reminders = pending.count if isinstance(pending, RemindersPending) else 0
            except HiveError as error:
                log.debug("loose_ends_not_counted agent=%s error=%s", self.name, error)
        await self.stats.add(make(open_threads=open_threads, open_reminders=open_reminders))

    # --- model, account, login --------------------------------------------------------------------------------------

    def _use_model(self, model: str) -> None:
        self.runner.set_model(model)
        self.display.set_model(model)

    async def _find_cli(self) -> AgentCli:
        self._cli_missing = True
        cli = await self._clis.find()
        self._cli_missing = False
        return cli

    async def _model_route(self, cli: AgentCli, box: Box) -> ModelRoute:
        """By the hive's gateway where it serves this agent; else with the account's key in the CLI's environment."""
        self._routes.served = (await self._gate.look()).served
        if self._routes.served:
            return await self._routes.to_gateway(cli, box)
        return ModelRoute(env=self.account.environment())

    async def _login_command(self) -> LoginCommand:
        command = await self._plain_driver.prepare(self._launcher.box, self._launcher.isolation)
        return LoginCommand(program=command.argv[:1], environment=command.env, readable=command.readable)

    def _account_changed(self, _: AccountState) -> None:
        """Some account changed; it may be ours now."""
        self._commands.show_login()
        account = self.account
        if (account.name, account.state.generation) != self._known_account:
            self._known_account = (account.name, account.state.generation)
            self._loop.changed()
