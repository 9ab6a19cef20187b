"""The turn machine: one agent's CLI process and its turns. Pure: no I/O, no clock, no randomness.

Events and the time go in, actions come out (`handle`); `deadline` says when to come back with `Tick`. Which event leads
where stands in `table`; what it asks stands in `conditions`, what it does stands here (`_do_…`). What a CLI prints is
evidence and no promise: a process that hangs before or after its result, dies, floods or prints rubbish is ended, and
its turn gets an outcome, whatever it goes on saying. The books of a turn (attempts, acks, costs) are `ledger`'s.
"""

from collections.abc import Callable
from typing import Final

from hyperhive.errors import BugError
from hyperhive.harness.conditions import (
    NOISE_LINE,
    NOISE_SECONDS,
    PROGRESS_KINDS,
    WORK_KINDS,
    Conditions,
    Timing,
)
from hyperhive.harness.ledger import Settlement
from hyperhive.harness.moves import (
    Action,
    Answered,
    Ask,
    CancelAsked,
    CloseInput,
    Compacted,
    Event,
    Exited,
    Finish,
    FrameSeen,
    InitSeen,
    InjectAsked,
    InterruptAsked,
    Kill,
    Launch,
    NoiseSeen,
    Note,
    ResultSeen,
    StartFailed,
    State,
    Terminate,
    TurnAsked,
    Unasked,
    Write,
)
from hyperhive.harness.outcome import Outcome, is_good
from hyperhive.harness.stream_json import Frame
from hyperhive.harness.table import ROWS, Row


def _by_state_and_event() -> dict[tuple[State, type[Event]], tuple[Row, ...]]:
    found: dict[tuple[State, type[Event]], tuple[Row, ...]] = {}
    for row in ROWS:
        found[row.state, row.on] = (*found.get((row.state, row.on), ()), row)
    return found


_ROWS: Final = _by_state_and_event()


class TurnMachine(Conditions):
    """One agent's turns. Not for use from two tasks at once.

    Guarantees: every `TurnAsked` is answered by exactly one `Finish`, every `CompactAsked` by one `Compacted`; a
    `Finish` that follows the end of a process comes after that end, so that two processes never share a session.

    Args:
        timing: how long to wait for what.
        new_uuid: gives a fresh uuid for every attempt.
    """

    def __init__(self, timing: Timing, new_uuid: Callable[[], str]) -> None:
        super().__init__(timing, new_uuid)
        self._actions: list[Action] = []
        self._steps: list[type[Action]] = []

    def handle(self, event: Event, now: float) -> list[Action]:
        """What to do about `event`, which came at `now` (monotonic seconds). Actions are carried out in order."""
        self._now = now
        self._actions = []
        if isinstance(event, FrameSeen):
            self._see(event.frame)
            if event.frame.type not in WORK_KINDS:
                self._dispatch(NoiseSeen(event.size))
        else:
            self._dispatch(event)
        self.deadline = self._next_deadline()
        return self._actions

    # --- how events find their row ------------------------------------------------------------------------------

    def _see(self, frame: Frame) -> None:
        if frame.type in PROGRESS_KINDS:
            self._last_sign = self._now
        if frame.type in WORK_KINDS:
            self._noise = 0
        self.ledger.observe(frame)
        if frame.subtype == "compact_boundary":
            self._compacted = True
        if frame.type == "result":
            self._settled = self.ledger.read_result(frame)
            self._dispatch(ResultSeen(frame))
        elif frame.type == "system" and frame.subtype == "init":
            self._dispatch(InitSeen(frame))
        else:
            self._dispatch(FrameSeen(frame))

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, NoiseSeen):
            self._count_noise(event.size)
        elif isinstance(event, Answered):
            self._answered(event)
        for row in _ROWS.get((self.state, type(event)), ()):
            if row.when and not getattr(self, f"_when_{row.when}")(event):
                continue
            if row.to is not None:
                self.state = row.to
            for name in row.do:
                getattr(self, f"_do_{name}")(event)
            if self.state is State.COLD:
                self._forget_process()
            return

    def _count_noise(self, size: int) -> None:
        if self._now - self._noise_since > NOISE_SECONDS:
            self._noise, self._noise_since = 0, self._now
        self._noise += size + NOISE_LINE

    def _answered(self, event: Answered) -> None:
        if event.what == "ping":
            self._ping_due = None
            self._last_sign = self._now

    # --- what happens: starting ---------------------------------------------------------------------------------

    def _do_take_turn(self, event: TurnAsked) -> None:
        self.ledger.open_turn(event.prompt, event.again, event.ids)
        self._compacting_for = None
        self._wanted = None
        self._stuck_before = False
        self._decided = None
        self._resume = False

    def _do_take_compaction(self, _: Event) -> None:
        self._compacting_for = "asked"
        self._decided = None
        self._resume = False

    def _do_launch(self, _: Event) -> None:
        self._limit = self._now + self.timing.start_seconds
        self._act(Launch())

    def _do_launch_again(self, _: Event) -> None:
        self._forget_process()
        self._stuck_before = True
        self._resume = False
        self._decided = None
        self.ledger.retry(in_session=False)
        self._act(Note("the agent CLI was stuck and has been ended; it is started again once"))
        self._do_launch(_)

    def _do_fail_start(self, event: Event) -> None:
        words = event.words if isinstance(event, StartFailed | Exited) else ""
        park = event.park if isinstance(event, StartFailed) else None
        self._decided = Outcome(
            "failed" if park else "crashed", words or "the agent CLI did not start", park=park
        )
        self._do_finish_any(event)

    def _do_decide_never_started(self, _: Event) -> None:
        self._decided = Outcome("crashed", "the agent CLI did not answer after its start")

    # --- the turn -----------------------------------------------------------------------------------------------

    def _do_prompt(self, _: Event) -> None:
        self._limit = None
        self._last_sign = self._now
        self._act(Write(self.ledger.attempt()))

    def _do_prompt_again(self, event: Event) -> None:
        self.ledger.retry(in_session=self.state is State.RUNNING and self._compacting_for is None)
        self._do_prompt(event)

    def _do_inject(self, event: InjectAsked) -> None:
        self._act(Write(self.ledger.inject(event.prompt, event.ids)))

    def _do_settle(self, _: Event) -> None:
        settled = self._settlement()
        self._decided = settled.outcome
        self._act(self.ledger.settle(settled))

    def _do_settle_again(self, _: Event) -> None:
        """The stuck turn was interrupted in its own process: it is prompted once more there."""
        self._stuck_before = True
        self._do_settle(_)

    def _do_settle_asked(self, _: Event) -> None:
        self._do_settle(_)
        self._do_decide_stuck_or_asked(_)
        self._resume = False

    def _do_settle_unasked(self, _: Event) -> None:
        settled = self._settlement()
        spent = self.ledger.settle_unasked(settled)
        self._act(Unasked(is_good(settled.frame), spent))
        self._act(spent)

    def _do_settle_compaction(self, _: Event) -> None:
        self._act(self.ledger.settle_compaction(self._settlement()))

    def _do_interrupt(self, event: Event) -> None:
        self._wanted = event if isinstance(event, InterruptAsked | CancelAsked) else None
        self._limit = self._now + self.timing.result_grace
        for uuid in self.ledger.queued():
            self._act(Ask("cancel_message", {"subtype": "cancel_async_message", "message_uuid": uuid}))
        self._act(Ask("interrupt", {"subtype": "interrupt"}))

    def _do_interrupt_unasked(self, _: Event) -> None:
        self._act(Ask("interrupt", {"subtype": "interrupt"}))

    def _do_want(self, event: CancelAsked | InterruptAsked) -> None:
        if not isinstance(self._wanted, CancelAsked):
            self._wanted = event

    def _do_ping(self, _: Event) -> None:
        """A warm process answers: one that does not is no longer what it seems."""
        self._ping_due = self._now + self.timing.result_grace
        self._act(Ask("ping", {"subtype": "mcp_status"}))

    def _do_note_stuck(self, _: Event) -> None:
        minutes = f"{self.timing.stuck_seconds:g} s"
        self._act(Note(f"no output for {minutes} while no tool runs: the turn is interrupted"))

    # --- compaction ---------------------------------------------------------------------------------------------

    def _do_write_compact(self, _: Event) -> None:
        if self._compacting_for is None:
            self._compacting_for = "turn"
            self._act(Note("the prompt is too long: the session is compacted, then the turn runs once more"))
        self._limit = None
        self._compacted = False
        self._last_sign = self._now
        self._act(Write(self.ledger.compaction()))

    def _do_finish_compaction(self, event: ResultSeen) -> None:
        good = self._compacted and event.frame.is_error is not True
        words = None if good else event.frame.text() or "the CLI compacted nothing"
        self._compacting_for = None
        self._act(Compacted(good, words))

    def _do_decide_too_long(self, event: ResultSeen) -> None:
        words = event.frame.text()
        note = "the prompt is too long, and the session could not be compacted" + (
            f": {words}" if words else ""
        )
        self._decided = Outcome("prompt_too_long", note, blame=True)

    # --- outcomes -----------------------------------------------------------------------------------------------

    def _do_decide_no_tools(self, _: Event) -> None:
        self._decided = Outcome("failed", "the hive's own tools are not connected; the CLI is started afresh")

    def _do_decide_stuck(self, _: Event) -> None:
        self._wanted = None
        self._do_decide_stuck_or_asked(_)

    def _do_decide_stuck_or_asked(self, _: Event) -> None:
        if self._wanted is not None:
            self._do_decide_asked(_)
            return
        self._resume = self.ledger.has_turn and not self._stuck_before and self._compacting_for is None
        self._decided = Outcome(
            "stuck", "stuck twice: no sign of life although no tool was running", blame=True
        )

    def _do_decide_asked(self, event: Event) -> None:
        wanted = event if isinstance(event, InterruptAsked | CancelAsked) else self._wanted
        self._resume = False
        if self._decided is not None and self._decided.kind == "cancelled":
            return
        if isinstance(wanted, CancelAsked):
            self._decided = Outcome("cancelled", "cancelled by the operator")
        elif isinstance(wanted, InterruptAsked):
            self._decided = Outcome("failed", wanted.reason, interrupted=True)
        else:
            self._decided = Outcome("stuck", "stuck twice: it ended when interrupted", blame=True)

    def _do_decide_crashed(self, event: Event) -> None:
        if (
            isinstance(event, Exited) and event.by_hive
        ):  # nobody told this machine, and it is no fault of the turn
            self._do_decide_stopped(event)
            return
        words = event.words if isinstance(event, Exited) else "it closed its output"
        blame = self.ledger.model_has_begun
        self._decided = Outcome(
            "crashed", f"the agent CLI ended in the middle of the turn: {words}", blame=blame
        )

    def _do_decide_flooded(self, _: Event) -> None:
        self._act(Note("the agent CLI prints rubbish without end: it is ended"))
        self._decided = Outcome("crashed", "the agent CLI printed rubbish without end", blame=True)

    def _do_decide_stopped(self, _: Event) -> None:
        self._resume = False
        self._decided = Outcome("failed", "the harness was stopped", interrupted=True)

    def _do_note_unanswered(self, _: Event) -> None:
        self._act(Note("the agent CLI does not answer any more: it is ended"))

    def _do_note_exit(self, event: Exited) -> None:
        ended = "was ended with the hive" if event.by_hive else "ended by itself"
        self._act(Note(f"the agent CLI {ended}: {event.words}"))

    def _do_show_unasked(self, _: Event) -> None:
        self._last_sign = self._now

    def _do_hide_unasked(self, _: Event) -> None:
        self._settled = None

    # --- ends ---------------------------------------------------------------------------------------------------

    def _do_finish(self, _: Event) -> None:
        outcome, self._decided = self._decided, None
        if outcome is None:
            raise BugError("a turn ended and nobody had decided how")
        self._compacting_for = None
        self._limit = None
        settled = self._settled
        heard = (
            self.state is State.IDLE
            and settled is not None
            and settled.ours
            and outcome.kind != "prompt_too_long"
        )
        self._act(Finish(self.ledger.close_turn(outcome), standing=heard))

    def _do_finish_any(self, event: Event) -> None:
        """What was under way, if anything, ends with what was decided."""
        if self.ledger.has_turn:
            if self._decided is None:
                self._do_decide_crashed(event)
            self._do_finish(event)
        elif self._compacting_for is not None:
            words = self._decided.note if self._decided is not None else "the agent CLI ended"
            self._compacting_for = None
            self._act(Compacted(words=words, ok=False))
        self._decided = None

    def _do_close_input(self, _: Event) -> None:
        self._end(CloseInput, Terminate, Kill)

    def _do_terminate(self, _: Event) -> None:
        self._end(Terminate, Kill)

    def _end(self, *steps: type[Action]) -> None:
        self._ping_due = None
        self._steps = list(steps)
        self._do_end_harder(None)

    def _do_end_harder(self, _: Event | None) -> None:
        step = self._steps.pop(0) if self._steps else Kill
        self._limit = self._now + self.timing.result_grace
        self._act(step())

    def _forget_process(self) -> None:
        self._limit = None
        self._ping_due = None
        self._noise = 0
        self._settled = None
        self.ledger.forget_process()

    def _settlement(self) -> Settlement:
        if self._settled is None:
            raise BugError("a result was to be settled and there is none")
        return self._settled

    def _act(self, action: Action) -> None:
        self._actions.append(action)
