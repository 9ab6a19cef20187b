"""What the operator can ask of one agent's harness: one method a command, one table.

Each takes the command apart, calls one part and wraps what it gave. It keeps nothing but the login that it made.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from hyperhive.accounts import BoundAccount
from hyperhive.background import Background
from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import BadRequest, Conflict, HiveError
from hyperhive.harness.display import Display
from hyperhive.harness.login import LoginCommand, LoginDriver
from hyperhive.harness.loop import TurnLoop
from hyperhive.harness.model import ModelChoice
from hyperhive.harness.runner import TurnRunner
from hyperhive.harness.slots import Slots
from hyperhive.harness.stats import TurnStats
from hyperhive.harness.stats_windows import Provider, aggregate, span_of
from hyperhive.ports import Launcher
from hyperhive.protocol import harness_line as line
from hyperhive.protocol.replies import AgentSnapshot, Login, LoginSession, Ok, Reply, StatsPage, TurnRows


class Commands:
    """Answers the commands of the core's line. See `Harness.handle`."""

    def __init__(
        self,
        *,
        name: str,
        display: Display,
        runner: TurnRunner,
        loop: TurnLoop,
        model: ModelChoice,
        stats: TurnStats,
        slots: Slots,
        launcher: Launcher,
        login_command: Callable[[], Awaitable[LoginCommand]],
        account: Callable[[], BoundAccount],
        drained: Callable[[bool], Awaitable[None]],
        probe: Callable[[], Awaitable[None]],
        providers: Mapping[str, Provider],
        clock: Clock,
    ) -> None:
        self._name = name
        self._display = display
        self._runner = runner
        self._loop = loop
        self._model = model
        self._stats = stats
        self._slots = slots
        self._launcher = launcher
        self._login_command = login_command
        self._account = account
        self._drained = drained
        self._probe = probe
        self._providers = providers
        self._clock = clock
        self._background: Background | None = None
        self._login: LoginDriver | None = None

    async def handle(self, command: line.HarnessCommand) -> Reply:
        """Carry out one command.

        Raises:
            HiveError: it was refused, and why.
        """
        handler = self._HANDLERS.get(type(command))
        if handler is None:
            raise BadRequest(f"a harness does not know {type(command).__name__}")
        return await handler(self, command)

    async def aclose(self) -> None:
        """End what was started in the background: a compaction, a login."""
        if self._background is not None:
            await self._background.aclose()

    def show_login(self) -> None:
        """Tell the display how the login stands."""
        if self._login is not None and self._login.active:
            self._display.set_status("needs_login_in_progress")
        else:
            needed = self._account().state.needs_login
            self._display.set_status("needs_login_idle" if needed else "online")

    @property
    def login_session(self) -> LoginSession | None:
        """The login in progress, or how the last one ended."""
        return self._login.session if self._login is not None else None

    # --- looking ----------------------------------------------------------------------------------------------------

    async def _snapshot(self, _: line.Snapshot) -> Reply:
        shown = self._display
        return AgentSnapshot(
            seq=shown.bus.current_seq,
            label=self._name,
            status=shown.status,
            session=self.login_session,
            turn_state=shown.state,
            turn_state_since=shown.since,
            model=shown.model,
            ctx_usage=shown.ctx,
            cost_usage=shown.cost,
            warm=self._runner.warm,
            cli_version=self._runner.cli_version,
            session_id=self._runner.session_id or None,
        )

    async def _history(self, ask: line.History) -> Reply:
        return await self._display.history(
            before=ask.before, limit=ask.limit, kind=ask.kind, q=ask.q, since=ask.since, until=ask.until
        )

    async def _turns(self, ask: line.TurnHistory) -> Reply:
        return TurnRows(turns=await self._stats.select(ask))

    async def _windows(self, ask: line.LineStats) -> Reply:
        span = span_of(ask.window, unix_seconds(self._clock))
        rows = await self._stats.since(span.start, span.end)
        return StatsPage(window=ask.window, stats=aggregate(rows, span, self._providers))

    # --- steering ---------------------------------------------------------------------------------------------------

    async def _cancel(self, _: line.LineCancel) -> Reply:
        # What is shown as at work is what is meant, also where another turn waits behind it.
        at_work = self._display.state in {"thinking", "compacting"}
        if not at_work and self._loop.cancel():
            self._display.note("cancel: the turn is called off before it had a slot", "operator")
        elif not await self._runner.cancel():
            raise Conflict(f"{self._name} has no running turn to cancel")
        return Ok()

    async def _compact(self, _: line.LineCompact) -> Reply:
        if self._loop.in_turn or self._display.state in {"thinking", "compacting"}:
            raise Conflict(f"{self._name} is in a turn: compact when it has ended")
        (await self._ready()).spawn(self._compact_now, "compaction")
        return Ok(note="the session is being compacted")

    async def _compact_now(self) -> None:
        try:
            async with self._slots.turn(self._runner, lambda: None):
                await self._runner.compact()
        except HiveError as error:
            self._display.note(f"the session was not compacted: {error}")

    async def _set_model(self, ask: line.LineModel) -> Reply:
        warning = await self._model.set(ask.model)
        said = f"model: {ask.model}, from the next turn on"
        self._display.note(f"{said} ({warning})" if warning else said, "operator")
        self._loop.changed()
        return Ok(note=warning)

    async def _forget_model(self, ask: line.ForgetModel) -> Reply:
        warning = await self._model.forget()
        self._display.note(f"{ask.note} ({warning})" if warning else ask.note)
        self._loop.changed()
        return Ok(note=warning)

    async def _run_probe(self, _: line.Probe) -> Reply:
        await self._probe()
        return Ok()

    async def _new_session(self, _: line.LineNewSession) -> Reply:
        if self._loop.in_turn:
            raise Conflict(f"{self._name} is in a turn: start a new session when it has ended")
        await self._runner.new_session()
        self._display.note("new session: the next turn starts without memory of the ones before", "operator")
        return Ok()

    async def _drain(self, ask: line.Drain) -> Reply:
        await self._drained(ask.now)
        return Ok()

    # --- login ------------------------------------------------------------------------------------------------------

    async def _login_start(self, _: line.LineLoginStart) -> Reply:
        account = self._account()
        if not account.own_login:
            raise Conflict(
                f"{self._name} runs under the account {account.name}",
                hint="`hyperhive login` without an agent's name changes an account's key or token",
            )
        return Login(session=await (await self._login_driver()).start())

    async def _login_code(self, ask: line.LineLoginCode) -> Reply:
        return Login(session=await (await self._login_driver()).code(ask.code))

    async def _login_cancel(self, _: line.LineLoginCancel) -> Reply:
        await (await self._login_driver()).cancel()
        return Ok()

    async def _login_driver(self) -> LoginDriver:
        background = await self._ready()
        if self._login is None:
            self._login = LoginDriver(
                self._launcher,
                self._login_command,
                clock=self._clock,
                spawn=background.spawn,
                on_change=self.show_login,
                on_landed=self._landed,
            )
        return self._login

    def _landed(self) -> None:
        self._account().state.login_landed()
        self._display.note("logged in")

    async def _ready(self) -> Background:
        if self._background is None:
            background = Background(f"harness of {self._name}")
            self._background = background
            await background.start()
        return self._background

    _HANDLERS: Final[Mapping[type[line.HarnessCommand], Callable[..., Awaitable[Reply]]]] = {
        line.Snapshot: _snapshot,
        line.History: _history,
        line.TurnHistory: _turns,
        line.LineStats: _windows,
        line.LineCancel: _cancel,
        line.LineCompact: _compact,
        line.LineModel: _set_model,
        line.ForgetModel: _forget_model,
        line.Probe: _run_probe,
        line.LineNewSession: _new_session,
        line.LineLoginStart: _login_start,
        line.LineLoginCode: _login_code,
        line.LineLoginCancel: _login_cancel,
        line.Drain: _drain,
    }
