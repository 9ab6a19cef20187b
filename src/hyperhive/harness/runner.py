"""`TurnRunner`: messages in, `TurnResult` out, every event of the stream to whoever listens.

It carries out what the turn machine says on one agent's CLI process, which stays warm between turns. It keeps no
inbox, acks nothing, and decides neither when a turn runs nor when a warm process has idled long enough.
"""

import logging
import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Final, Self

import anyio
import msgspec

from hyperhive.background import Background
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.errors import BugError, Closed, Conflict, HiveError, MissingPart
from hyperhive.harness import moves
from hyperhive.harness.drivers.claude import ClaudeDriver, Command
from hyperhive.harness.drivers.link import CliLink
from hyperhive.harness.machine import Timing, TurnMachine
from hyperhive.harness.moves import State
from hyperhive.harness.sessions import SessionFile, transcript_exists
from hyperhive.harness.stream_json import Frame
from hyperhive.harness.turns import TurnResult, UnaskedTurn
from hyperhive.harness.wake import again_prompt, injected_prompt, wake_prompt
from hyperhive.ports import Launcher, ToolServer
from hyperhive.protocol.events import AnyLiveEvent, Note, Stream, TokenUsageChanged, TurnEnd, TurnStart
from hyperhive.protocol.live import note_of
from hyperhive.protocol.types import Delivery, TurnStateName

__all__ = ["Timing", "TurnResult", "TurnRunner", "UnaskedTurn"]

log = logging.getLogger(__name__)

NOTES_MAX: Final = 200
"""Notes of one turn that come from the CLI's output: what is beyond is counted, not shown."""
LOST_SESSION: Final = "No conversation found"


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
    ) -> None:
        self._launcher = launcher
        self._driver = driver
        self._tools = tools
        self._session = session
        self._emit_event = emit
        self._model = model
        self._clock = clock
        self._on_state = on_state
        self._on_unasked = on_unasked
        self._machine = TurnMachine(timing or Timing(), new_uuid)
        self._background: Background | None = None
        self._link: CliLink | None = None
        self._launching: anyio.CancelScope | None = None
        self._command: Command | None = None
        self._process_model = ""
        self._session_id = ""
        self._changed = anyio.Event()
        self._deadline_moved = anyio.Event()
        self._armed: float | None = None
        self._turn: int | None = None
        self._finished: moves.Finish | None = None
        self._called_off: TurnResult | None = None  # asked to end while its process was still starting
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
        return self._link.pid if self._link is not None else None

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
        return self._session_id

    @property
    def cli_version(self) -> str | None:
        """The version of the CLI that runs, or ran last."""
        return self._command.version if self._command is not None else None

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
                session_id=self._session_id,
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
            self._show_state()

    async def _run(self, messages: Sequence[Delivery], unread: int, interruption: str | None) -> TurnResult:
        ids = tuple(message.id for message in messages)
        try:
            await self._until(lambda: self._machine.state in {State.COLD, State.IDLE, State.UNASKED})
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
        self._feed(moves.TurnAsked(prompt, again_prompt(messages, boundary=boundary), ids))
        try:
            await self._until(lambda: self._finished is not None)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._end()
            raise
        return self._take_finished()

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
        self._feed(moves.InjectAsked(prompt, (delivery.id,)))
        return True

    async def interrupt(self, reason: str) -> bool:
        """End the running turn for something more urgent; its messages stay pending, and its note names `reason`.

        Returns:
            Whether there was a turn. One that ends well in the same moment still counts as ended well.
        """
        if self._machine.busy and self._turn is not None:
            self._feed(moves.InterruptAsked(reason))
        elif self._turn is not None:
            self._called_off = TurnResult(kind="failed", note=reason, interrupted=True)
        return self._turn is not None

    async def cancel(self) -> bool:
        """End the running turn on the operator's word: its result is `cancelled`. A note says what was done.

        Returns:
            Whether there was a turn (asked for or not).
        """
        if not self._machine.busy:
            if self._turn is not None:
                self._emit(Note(text="cancel: the turn is called off before its process was ready"))
                self._called_off = TurnResult(kind="cancelled", note="cancelled by the operator")
            return self._turn is not None
        pid = f" (process {self.pid})" if self.pid is not None else ""
        self._emit(Note(text=f"cancel: the running turn is interrupted{pid}"))
        self._feed(moves.CancelAsked())
        return True

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
        if self._occupied():
            raise Conflict("a turn is under way: compact when it has ended")
        self._emit(Note(text="compacting the session"))
        self._compacted = None
        await self._make_ready()
        if self._occupied():
            raise Conflict("a turn is under way: compact when it has ended")
        self._feed(moves.CompactAsked())
        await self._until(lambda: self._compacted is not None)
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
        await self._end()
        self._standing.clear()
        return await self._session.renew()

    async def retire(self) -> None:
        """End the warm process and wait until it is gone. Does nothing without one; a running turn is left alone."""
        if self.running:
            return
        await self._end()
        if not self._occupied() and not self.warm:
            background, self._background = self._background, None
            if background is not None:
                await background.aclose()

    async def aclose(self) -> None:
        """End everything, a running turn too (it counts as interrupted). Any number of times, from any task."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            await self._end()
            if self._background is not None:
                await self._background.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- getting ready --------------------------------------------------------------------------------------------

    async def _make_ready(self) -> None:
        """Have the command of now: a warm process that was started by another is ended."""
        if self._background is None:
            self._background = await Background(f"turns of {self._launcher.box.agent}").start()
            self._background.spawn(self._keep_time, "deadlines")
        command = await self._driver.prepare(self._launcher.box, self._launcher.isolation)
        if self._command is not None and command.warning and command.version != self._command.version:
            self._emit(Note(text=command.warning))
        if command != self._command and self._machine.alive:
            if self._machine.has_background_tasks and command == self._with_prompt_of(command):
                command = (
                    self._command or command
                )  # the agent changed its notes only: its background tasks live on
            else:
                await self._end()
        self._command = command
        link = self._link
        if link is not None and self._machine.alive and self._process_model != self._model:
            link.ask("set_model", {"subtype": "set_model", "model": self._model})
            self._process_model = self._model

    def _with_prompt_of(self, command: Command) -> Command | None:
        """The command of the running process, but with this one's prompt."""
        if self._command is None:
            return None
        return msgspec.structs.replace(self._command, append_prompt=command.append_prompt)

    async def _launch(self) -> None:
        """One process, from its start to its end."""
        words = "it was not started"
        failed: HiveError | None = None
        try:
            link = await self._start_process()
            try:
                await link.serve()
            finally:
                words = link.words()
                if not link.ended_well:
                    self._standing.clear()  # what it had not yet stored of the session is lost
        except HiveError as error:
            failed = error
        finally:
            self._link = None
            self._launching = None
            if failed is not None and self._machine.state is State.STARTING:
                park = str(failed) if isinstance(failed, MissingPart) else None
                self._feed(moves.StartFailed(str(failed), park))
            else:
                await self._note_lost_session(words)
                self._feed(moves.Exited(words))

    async def _start_process(self) -> CliLink:
        command = self._command
        if command is None:
            raise Conflict("the runner has no command yet")
        session = await self._session_flags()
        model = self._model
        tools = await self._tools.open_session()
        try:
            child = await self._launcher.launch(
                [*command.argv, *session, "--model", model], command.env, readable=command.readable
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await tools.aclose()
            raise
        self._process_model = model
        self._link = link = CliLink(child, tools, self, self._clock)
        request = {"subtype": "initialize", "appendSystemPrompt": command.append_prompt}
        link.ask("initialize", request)
        return link

    async def _session_flags(self) -> list[str]:
        self._session_id = session_id = await self._session.current()
        config_dir = self._launcher.box.host_claude
        exists = await anyio.to_thread.run_sync(transcript_exists, config_dir, session_id)
        if not exists:
            self._standing.clear()
        self._machine.ledger.seed_total(self._session.total_cost if exists else 0.0)
        return ["--resume" if exists else "--session-id", session_id]

    async def _note_lost_session(self, words: str) -> None:
        """A session that the CLI cannot continue is given up: trying again would fail for ever."""
        if self._machine.state is State.STARTING and LOST_SESSION in words:
            self._emit(Note(text="the CLI cannot continue its session; the next turn starts a new one"))
            self._standing.clear()
            await self._session.renew()

    async def _end(self) -> None:
        """End the process, if there is one, and wait until nothing of it is left."""
        if not self._machine.alive:
            return
        self._feed(moves.EndAsked())
        await self._until(lambda: not self._machine.alive)

    # --- the machine ----------------------------------------------------------------------------------------------

    def _feed(self, event: moves.Event) -> None:
        for action in self._machine.handle(event, self._clock.monotonic()):
            self._carry_out(action)
        deadline = self._machine.deadline
        if deadline is not None and (self._armed is None or deadline < self._armed):
            self._deadline_moved.set()
        self._show_state()
        if not isinstance(event, moves.FrameSeen) or event.frame.type == "result":
            self._changed.set()

    def _carry_out(self, action: moves.Action) -> None:
        link = self._link
        match action:
            case moves.Launch():
                if self._background is not None:
                    self._launching = self._background.spawn(self._launch, "agent CLI")
            case moves.Write(prompt):
                if link is not None:
                    link.send_prompt(prompt.uuid, prompt.text)
            case moves.Ask(what, request):
                if link is not None:
                    link.ask(what, request)
            case moves.Note(text):
                self._emit(Note(text=text))
            case moves.SpentSeen():
                self._spent(action)
            case moves.Unasked(good, spent):
                self._unasked(good, spent)
            case moves.Finish():
                self._finished = action
            case moves.Compacted():
                self._compacted = action
            case _:
                self._end_step(action)

    def _end_step(self, action: moves.Action) -> None:
        link = self._link
        if link is None:
            if self._launching is not None:
                self._launching.cancel()
        elif isinstance(action, moves.CloseInput):
            link.close_input()
        elif isinstance(action, moves.Terminate):
            link.terminate()
        elif self._background is not None:
            self._background.spawn(link.kill, "end of agent CLI")

    def _spent(self, spent: moves.SpentSeen) -> None:
        total = spent.total_cost
        if total is not None and self._background is not None:
            self._background.spawn(lambda: self._session.keep_total(total), "session cost")

    def _unasked(self, good: bool, spent: moves.SpentSeen) -> None:
        if spent.last is not None:
            self._emit(TokenUsageChanged(ctx=spent.last, cost=spent.usage))
        if self._on_unasked is not None:
            self._on_unasked(
                UnaskedTurn(
                    ok=good,
                    usage=spent.usage,
                    last_usage=spent.last,
                    cost=spent.cost,
                    tool_calls=dict(spent.tool_calls),
                    session_id=self._session_id,
                    model=self._machine.ledger.model,
                )
            )

    async def _keep_time(self) -> None:
        """Tell the machine when its deadline has passed. Sleeps without end while there is none."""
        while True:
            self._deadline_moved = moved = anyio.Event()
            self._armed = deadline = self._machine.deadline
            if deadline is None:
                await moved.wait()
                continue
            async with anyio.create_task_group() as group:

                async def sleep(until: float, scope: anyio.CancelScope) -> None:
                    await self._clock.sleep(until - self._clock.monotonic())
                    scope.cancel()

                group.start_soon(sleep, deadline, group.cancel_scope)
                await moved.wait()
                group.cancel_scope.cancel()
            deadline = self._machine.deadline
            if deadline is not None and self._clock.monotonic() >= deadline:
                self._feed(moves.Tick())

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until something has happened after which `holds`."""
        while not holds():
            if self._changed.is_set():
                self._changed = anyio.Event()
            await self._changed.wait()

    # --- what the CLI says (the link's listener) ------------------------------------------------------------------

    def on_frame(self, line: bytes, frame: Frame) -> None:
        """A line of stream-json."""
        self._emit(Stream(line=line, turn=self._turn))
        self._feed(moves.FrameSeen(frame))

    def on_noise(self, line: bytes, size: int) -> None:
        """A line of output that is none."""
        self._note_output(line)
        self._feed(moves.NoiseSeen(size))

    def on_stderr(self, text: str) -> None:
        """A line of standard error."""
        self._note_output(text.encode())

    def on_answer(self, what: str) -> None:
        """A control request was answered."""
        self._feed(moves.Ready() if what == "initialize" else moves.Answered(what))

    def on_output_closed(self) -> None:
        """Nothing more will come, though the process is still there."""
        self._feed(moves.OutputClosed())

    # --- telling --------------------------------------------------------------------------------------------------

    def _emit(self, event: AnyLiveEvent) -> None:
        if self._turn is not None and event.turn is None:
            event = msgspec.structs.replace(event, turn=self._turn)
        self._emit_event(event)

    def _note_output(self, line: bytes) -> None:
        self._notes_left -= 1
        if self._notes_left > 0:
            self._emit(note_of(line))
        elif self._notes_left == 0:
            self._emit(Note(text="more of such output is not shown"))

    def _show_state(self) -> None:
        state: TurnStateName = "idle"
        if self._machine.state is State.COMPACTING:
            state = "compacting"
        elif self._turn is not None or self._machine.state is State.UNASKED:
            state = "thinking"
        if state != self._shown_state:
            self._shown_state = state
            if self._on_state is not None:
                self._on_state(state)


def _turn_start(messages: Sequence[Delivery], unread: int) -> TurnStart:
    senders = dict.fromkeys(message.sender for message in messages)
    body = "\n---\n".join(message.body for message in messages)
    return TurnStart(sender=", ".join(senders), body=body, unread=unread)


def _not_started(ids: tuple[int, ...], error: HiveError) -> TurnResult:
    park = str(error) if isinstance(error, MissingPart) else None
    return TurnResult(kind="failed" if park else "crashed", pending=ids, note=str(error), park=park)
