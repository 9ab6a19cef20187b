"""`TurnRunner`: messages in, `TurnResult` out, every event of the stream to whoever listens.

Its `Engine` runs one agent's CLI process as the turn machine says; here turns are asked for, told of and answered. It
keeps no inbox, acks nothing, and decides neither when a turn runs nor when a warm process has idled long enough.
"""

import logging
import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Final, Self

import anyio
import msgspec

from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.errors import BadConfig, BugError, Closed, Conflict, HiveError, MissingPart
from hyperhive.harness import moves
from hyperhive.harness.conditions import Timing
from hyperhive.harness.drivers.claude import ClaudeDriver
from hyperhive.harness.drivers.link import Permits
from hyperhive.harness.engine import Engine
from hyperhive.harness.moves import State
from hyperhive.harness.sessions import SessionFile
from hyperhive.harness.turns import TurnResult, UnaskedTurn
from hyperhive.harness.wake import again_prompt, injected_prompt, wake_prompt
from hyperhive.ports import Launcher, ToolServer
from hyperhive.protocol.events import AnyLiveEvent, Note, Stream, TokenUsageChanged, TurnEnd, TurnStart
from hyperhive.protocol.live import note_of
from hyperhive.protocol.types import Delivery, TurnStateName

__all__ = ["Timing", "TurnResult", "TurnRunner", "UnaskedTurn"]

log = logging.getLogger(__name__)

SHOWN_LINE_MAX: Final = 256 * 1024
"""Bytes of a stream-json line that is still an event: an image that a tool read is not for the pages."""
NOTES_MAX: Final = 200
"""Notes of one turn that come from the CLI's output: what is beyond is counted, not shown."""


def fresh_uuid() -> str:
    """A random uuid, as the CLI wants them."""
    return str(uuid.uuid4())


class TurnRunner:
    """Runs the turns of one agent, one at a time, on a CLI process that stays warm between them.

    Works alone, in a notebook too: `await runner.run([...])`, and in the end `await runner.aclose()`, from any task.

    Args:
        launcher: starts programs in the agent's box.
        driver: makes the CLI's command line, environment and prompts.
        tools: the hive's tools for this agent; no turn runs without them.
        session: which session the CLI continues.
        emit: gets every LiveEvent, in order, on the loop; must not wait (a Bus's `publish`).
        model: the model's name or alias; see `set_model`.
        timing: how long to wait for what.
        on_state: called with `thinking`, `compacting` or `idle` when that changes.
        on_unasked: called when the CLI ended a turn that nobody had asked for.
        permits: decides about tools that the config marks `ask`; without it they are denied.

    >>> from hyperhive.testing.turns import message, scripted_runner
    >>> async def one_turn() -> str:
    ...     async with scripted_runner() as runner:
    ...         result = await runner.run([message(1, "[[say good morning]]")])
    ...         return f"{result.kind} {result.done}"
    >>> import anyio
    >>> anyio.run(one_turn)
    'ok (1,)'
    """

    def __init__(
        self,
        *,
        launcher: Launcher,
        driver: ClaudeDriver,
        tools: ToolServer,
        session: SessionFile,
        emit: Callable[[AnyLiveEvent], object],
        model: str = "haiku",
        clock: Clock = SYSTEM_CLOCK,
        timing: Timing | None = None,
        on_state: Callable[[TurnStateName], object] | None = None,
        on_unasked: Callable[[UnaskedTurn], object] | None = None,
        new_uuid: Callable[[], str] = fresh_uuid,
        permits: Permits | None = None,
    ) -> None:
        self._launcher = launcher
        self._driver = driver
        self._emit_event = emit
        self._model = model
        self._clock = clock
        self._on_state = on_state
        self._on_unasked = on_unasked
        self._engine = Engine(
            launcher=launcher,
            tools=tools,
            session=session,
            listener=self,
            clock=clock,
            timing=timing or Timing(),
            new_uuid=new_uuid,
            permits=permits,
        )
        self._machine = self._engine.machine
        self._turn: int | None = None
        self._given = False  # the machine has this turn
        self._called_off: TurnResult | None = (
            None  # asked to end while its process was still being made ready
        )
        self._finished: moves.Finish | None = None
        self._compacted: moves.Compacted | None = None
        self._standing: set[int] = set()
        self._shown_state: TurnStateName = "idle"
        self._notes_left = NOTES_MAX
        self._idle_since: float | None = None
        self._closed = False

    # --- what is going on -----------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """A turn is under way."""
        return self._turn is not None

    @property
    def warm(self) -> bool:
        """There is a CLI process."""
        return self._machine.alive

    @property
    def retirable(self) -> bool:
        """There is a CLI process, and it runs neither a turn nor a background task."""
        return (
            self._machine.state is State.IDLE and not self.running and not self._machine.has_background_tasks
        )

    @property
    def pid(self) -> int | None:
        """The CLI's process id; None where there is none."""
        return self._engine.pid

    @property
    def idle_since(self) -> float | None:
        """Monotonic seconds of the end of the last turn; None while one runs or before the first."""
        return self._idle_since

    @property
    def model(self) -> str:
        """The model of the next turn."""
        return self._model

    @property
    def session_id(self) -> str:
        """The session of the last start; empty before the first."""
        return self._engine.session_id

    @property
    def cli_version(self) -> str | None:
        """The version of the CLI that runs, or ran last."""
        return self._engine.command.version if self._engine.command is not None else None

    # --- turns ----------------------------------------------------------------------------------------------------

    async def run(
        self, messages: Sequence[Delivery], *, unread: int = 0, turn: int = 0, interruption: str | None = None
    ) -> TurnResult:
        """Run one turn with these messages (at least one).

        Waits for a compaction that is under way. Cancelling this call ends the CLI process first.

        Args:
            unread: how many others wait in the inbox; the prompt says so.
            turn: the turn's number, for its events.
            interruption: what an earlier turn of these messages was interrupted for; their banner names it.

        Returns:
            How it ended; what the CLI or the API got wrong is in there and raises nothing.

        Raises:
            Conflict: a turn is under way.
            Closed: the runner was closed.
        """
        if self._closed:
            raise Closed("this turn runner was closed")
        if self._turn is not None:
            raise Conflict("a turn is under way")
        self._turn = turn
        self._given = False
        self._called_off = None
        self._idle_since = None
        self._notes_left = NOTES_MAX
        started, started_monotonic = self._clock.time(), self._clock.monotonic()
        try:
            self._emit(_turn_start(messages, unread))
            result = await self._run(messages, unread, interruption)
            elapsed = self._clock.monotonic() - started_monotonic
            result = msgspec.structs.replace(
                result,
                session_id=self.session_id,
                model=result.model or self._model,
                started_at=started,
                ended_at=self._clock.time(),
                duration_ms=round(elapsed * 1000),
            )
            if result.last_usage is not None or result.num_turns:
                self._emit(TokenUsageChanged(ctx=result.last_usage, cost=result.usage))
            self._emit(TurnEnd(ok=result.ok, note=result.note))
            return result
        finally:
            self._turn = None
            self._idle_since = self._clock.monotonic()
            self.on_moved()

    async def _run(self, messages: Sequence[Delivery], unread: int, interruption: str | None) -> TurnResult:
        ids = tuple(message.id for message in messages)
        try:
            ready = {State.COLD, State.IDLE, State.UNASKED}
            await self._engine.until(lambda: self._called_off is not None or self._machine.state in ready)
            if self._called_off is None:
                await self._make_ready()
        except HiveError as error:
            return _not_started(ids, error)
        if self._called_off is not None:
            return msgspec.structs.replace(self._called_off, pending=ids)
        boundary = secrets.token_hex(4)
        prompt = wake_prompt(
            messages, boundary=boundary, unread=unread, standing=self._standing, interrupted_by=interruption
        )
        self._finished = None
        self._given = True
        self._engine.feed(moves.TurnAsked(prompt, again_prompt(messages, boundary=boundary), ids))
        try:
            await self._engine.until(lambda: self._finished is not None)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._engine.end()
            raise
        return self._take_finished()

    async def _make_ready(self) -> None:
        launcher = self._launcher
        command = await self._driver.prepare(launcher.box, launcher.isolation, launcher.revision)
        before = self._engine.command
        if command.warning and (before is None or command.version != before.version):
            self._emit(Note(text=command.warning))
        if not self._closed:
            await self._engine.make_ready(command, self._model)

    def _take_finished(self) -> TurnResult:
        finished = self._finished
        if finished is None:
            raise BugError("a turn ended without a result")
        self._standing.difference_update(finished.result.done, finished.result.pending)
        if finished.standing:
            self._standing.update(finished.result.pending)
        return finished.result

    async def inject(self, delivery: Delivery) -> bool:
        """Hand a message to the running turn, at its next tool boundary.

        Returns:
            Whether it was handed over: the turn's result then has it under `done` or `pending`. If not, it is still
            the caller's.
        """
        if self._turn is None or self._machine.state is not State.RUNNING:
            return False
        prompt = injected_prompt(delivery, boundary=secrets.token_hex(4))
        self._engine.feed(moves.InjectAsked(prompt, (delivery.id,)))
        return True

    async def interrupt(self, reason: str) -> bool:
        """End the running turn for something more urgent; its messages stay pending, and its note names `reason`.

        Returns:
            Whether there was a turn. One that ends well in the same moment still counts as ended well.
        """
        if self._turn is None:
            return False
        if self._given:
            self._engine.feed(moves.InterruptAsked(reason))
        else:
            self._call_off(TurnResult(kind="failed", note=reason, interrupted=True))
        return True

    async def cancel(self) -> bool:
        """End the running turn on the operator's word: its result is `cancelled`. A note says what was done.

        Returns:
            Whether there was a turn (asked for or not).
        """
        if self._turn is not None and not self._given:
            self._emit(
                Note(text="cancel: the turn is called off before its process was ready", source="operator")
            )
            self._call_off(TurnResult(kind="cancelled", note="cancelled by the operator"))
            return True

        if not self._machine.busy:
            return False
        pid = f" (process {self.pid})" if self.pid is not None else ""
        self._emit(Note(text=f"cancel: the running turn is interrupted{pid}", source="operator"))
        self._engine.feed(moves.CancelAsked())
        return True

    def _call_off(self, result: TurnResult) -> None:
        """The turn ends before it has begun. The operator's cancel is not undone by anything."""
        if self._called_off is None or self._called_off.kind != "cancelled":
            self._called_off = result
        self._engine.nudge()

    # --- the session ----------------------------------------------------------------------------------------------

    async def compact(self) -> bool:
        """Compact the session, with the same files as the last turn. Notes its start and its failure.

        Returns:
            Whether it worked.

        Raises:
            Conflict: a turn or another compaction is under way.
            HiveError: the CLI cannot be started.
        """
        if self._closed:
            raise Closed("this turn runner was closed")
        await self._engine.until(lambda: self._machine.state is not State.ENDING)
        if self._occupied():
            raise Conflict("a turn is under way: compact when it has ended")
        self._emit(Note(text="compacting the session", source="operator"))
        self._compacted = None
        await self._make_ready()
        if self._occupied():
            raise Conflict("a turn is under way: compact when it has ended")
        self._engine.feed(moves.CompactAsked())
        await self._engine.until(lambda: self._compacted is not None)
        self._idle_since = self._clock.monotonic()
        return self._tell_compacted()

    def _occupied(self) -> bool:
        return self.running or self._machine.busy

    def _tell_compacted(self) -> bool:
        ended = self._compacted
        if ended is None:
            raise BugError("a compaction ended without a result")
        if ended.ok:
            self._standing.clear()
            self._emit(Note(text="the session was compacted"))
        else:
            self._emit(Note(text=f"the session was not compacted: {ended.words}"))
        return ended.ok

    def set_model(self, model: str) -> None:
        """The model from the next turn on. Keeping it over restarts is the caller's affair."""
        self._model = model

    async def new_session(self) -> str:
        """Forget the session: the next turn starts a new one. Ends the warm process.

        Returns:
            The new session's id.

        Raises:
            Conflict: a turn is under way.
        """
        if self._turn is not None:
            raise Conflict("a turn is under way: start a new session when it has ended")
        await self._engine.end()
        self._standing.clear()
        return await self._engine.session.renew()

    async def retire(self) -> None:
        """End the warm process and wait until it is gone. Does nothing without one; a running turn is left alone."""
        if self.running:
            return
        await self._engine.end()
        if not self._occupied() and not self.warm:
            await self._engine.rest()

    async def aclose(self) -> None:
        """End everything, a running turn too (it counts as interrupted). Any number of times, from any task."""
        self._closed = True
        self._call_off(TurnResult(kind="failed", note="the harness was stopped", interrupted=True))
        with anyio.CancelScope(shield=True):
            await self._engine.end()
            await self._engine.rest()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- what the engine tells --------------------------------------------------------------------------------------

    def on_line(self, line: bytes) -> None:
        """A line of stream-json. The machine has it whole; readers and the event log are spared the huge ones."""
        if len(line) > SHOWN_LINE_MAX:
            self._emit(Note(text=f"(a line of {len(line)} bytes)"))
            return
        self._emit_event(Stream(line=line, turn=self._turn))

    def on_output(self, line: bytes) -> None:
        """Output of the CLI that is no frame."""
        self._notes_left -= 1
        if self._notes_left > 0:
            self._emit(note_of(line))
        elif self._notes_left == 0:
            self._emit(Note(text="more of such output is not shown"))

    def on_action(self, action: moves.Action) -> None:
        """Something that the machine wants people or this runner to know."""
        match action:
            case moves.Note(text):
                self._emit(Note(text=text))
            case moves.Unasked(good, spent):
                self._unasked(good, spent)
            case moves.Finish():
                self._finished = action
            case moves.Compacted():
                self._compacted = action

    def on_moved(self) -> None:
        """Show the state that a reader of the agent's events sees."""
        state: TurnStateName = "idle"
        if self._machine.state is State.COMPACTING:
            state = "compacting"
        elif self._turn is not None or self._machine.state is State.UNASKED:
            state = "thinking"
        if state != self._shown_state:
            self._shown_state = state
            if self._on_state is not None:
                self._on_state(state)

    def on_session_in_doubt(self) -> None:
        """Whatever text stood in the session is told again."""
        self._standing.clear()

    def _unasked(self, good: bool, spent: moves.SpentSeen) -> None:
        if spent.last is not None:
            self._emit(TokenUsageChanged(ctx=spent.last, cost=spent.usage))
        if self._on_unasked is not None:
            turn = UnaskedTurn(
                ok=good,
                usage=spent.usage,
                last_usage=spent.last,
                cost=spent.cost,
                tool_calls=dict(spent.tool_calls),
                session_id=self.session_id,
                model=self._machine.ledger.model,
            )
            self._on_unasked(turn)

    def _emit(self, event: AnyLiveEvent) -> None:
        if self._turn is not None and event.turn is None:
            event = msgspec.structs.replace(event, turn=self._turn)
        self._emit_event(event)


def _turn_start(messages: Sequence[Delivery], unread: int) -> TurnStart:
    senders = dict.fromkeys(message.sender for message in messages)
    body = "\n---\n".join(message.body for message in messages)
    return TurnStart(sender=", ".join(senders), body=body, unread=unread)


def _not_started(ids: tuple[int, ...], error: HiveError) -> TurnResult:
    park = str(error) if isinstance(error, MissingPart | BadConfig) else None
    return TurnResult(kind="failed" if park else "crashed", pending=ids, note=str(error), park=park)
