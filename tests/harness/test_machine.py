"""The turn machine by itself: playbooks of what happens and what is done about it, and any order of events at all."""

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hyperhive.harness.conditions import Timing
from hyperhive.harness.machine import TurnMachine
from hyperhive.harness.moves import (
    Action,
    Answered,
    Ask,
    CancelAsked,
    CloseInput,
    CompactAsked,
    Compacted,
    EndAsked,
    Event,
    Exited,
    Finish,
    FrameSeen,
    InjectAsked,
    InterruptAsked,
    Kill,
    Launch,
    NoiseSeen,
    OutputClosed,
    Ready,
    StartFailed,
    State,
    Terminate,
    Tick,
    TurnAsked,
    Unasked,
    Write,
)
from hyperhive.harness.stream_json import Frame, parse_frame
from hyperhive.harness.table import ROWS
from hyperhive.harness.turns import TurnResult

TIMING = Timing(stuck_seconds=600, result_grace=10, start_seconds=60, noise_bytes=10_000)


def frame(**fields: Any) -> FrameSeen:
    parsed = parse_frame(msgspec.json.encode(fields))
    assert parsed is not None
    return FrameSeen(parsed)


def init(status: str = "connected") -> FrameSeen:
    return frame(type="system", subtype="init", mcp_servers=[{"name": "hyperhive", "status": status}])


def said(*blocks: dict[str, Any], **fields: Any) -> FrameSeen:
    message = {"model": "m", "content": list(blocks), "usage": {"input_tokens": 1}}
    return frame(type="assistant", message=message, **fields)


def tool_use(call_id: str = "t1", name: str = "Bash") -> FrameSeen:
    return said({"type": "tool_use", "id": call_id, "name": name})


def tool_result(call_id: str = "t1", **fields: Any) -> FrameSeen:
    return frame(
        type="user", message={"content": [{"type": "tool_result", "tool_use_id": call_id, **fields}]}
    )


def result(*uuids: str, **fields: Any) -> FrameSeen:
    good = {"is_error": False, "terminal_reason": "completed", "user_message_uuids": list(uuids)}
    return frame(type="result", **{**good, **fields})


class Playbook:
    """A machine and its time: `play` an event, see what it does."""

    def __init__(self) -> None:
        counter = itertools.count(1)
        self.machine = TurnMachine(TIMING, lambda: f"u{next(counter)}")
        self.now = 0.0
        self.actions: list[Action] = []

    def play(self, *events: Event, after: float = 0.0) -> list[Action]:
        self.now += after
        self.actions = [action for event in events for action in self.machine.handle(event, self.now)]
        return self.actions

    def wait(self) -> list[Action]:
        """Let the deadline pass."""
        assert self.machine.deadline is not None
        self.now = max(self.now, self.machine.deadline)
        return self.play(Tick())

    @property
    def state(self) -> State:
        return self.machine.state

    def does(self) -> list[str]:
        return [
            a.what if isinstance(a, Ask) else type(a).__name__
            for a in self.actions
            if type(a).__name__ != "Note"
        ]

    def written(self) -> tuple[str, str]:
        prompts = [action.prompt for action in self.actions if isinstance(action, Write)]
        return prompts[-1].uuid, prompts[-1].text

    def finished(self) -> TurnResult:
        return next(action.result for action in self.actions if isinstance(action, Finish))


@pytest.fixture
def book() -> Playbook:
    return Playbook()


@pytest.fixture
def running(book: Playbook) -> Playbook:
    """Message 7 is with the CLI, under uuid u1."""
    book.play(TurnAsked("do it", "carry on", (7,)), Ready())
    book.play(init())
    return book


def test_a_cold_turn_launches_prompts_and_finishes(book: Playbook) -> None:
    assert book.play(TurnAsked("do it", "carry on", (7,))) == [Launch()]
    book.play(Ready())
    assert (book.written(), book.state) == (("u1", "do it"), State.RUNNING)
    book.play(init(), result("u1"))
    assert book.finished().done == (7,)
    assert book.does() == ["SpentSeen", "Finish", "ping"]
    assert book.state is State.IDLE


def test_a_warm_turn_has_a_fresh_uuid(running: Playbook) -> None:
    running.play(result("u1"), Answered("ping"))
    running.play(TurnAsked("more", "carry on", (8,)))
    assert running.written() == ("u2", "more")


def test_a_result_that_names_another_turn_acks_nothing(running: Playbook) -> None:
    running.play(
        result("someone-elses"), result(origin={"kind": "task-notification"}, user_message_uuids=None)
    )
    assert [type(action) for action in running.actions if isinstance(action, Finish)] == []
    assert running.state is State.RUNNING
    running.play(Exited("signal 9"))
    assert (running.finished().kind, running.finished().pending) == ("crashed", (7,))


@pytest.mark.parametrize(
    "fields",
    [
        {"is_error": True},
        {"terminal_reason": "aborted_tools"},
        {"terminal_reason": None},
        {"is_error": None},
        {"is_error": True, "terminal_reason": "api_error"},
    ],
)
def test_only_a_good_and_completed_result_acks(running: Playbook, fields: dict[str, Any]) -> None:
    running.play(result("u1", **fields))
    assert (running.finished().done, running.finished().pending) == ((), (7,))


def test_an_older_cli_acks_by_echo(running: Playbook) -> None:
    running.play(result(user_message_uuids=None))
    assert running.state is State.RUNNING, "no echo, no ack"
    running.play(frame(type="user", isReplay=True, uuid="u1", message={"content": "do it"}))
    running.play(result(user_message_uuids=None))
    assert running.finished().done == (7,)


def test_an_echo_from_before_the_last_result_ends_nothing(running: Playbook) -> None:
    running.play(frame(type="user", isReplay=True, uuid="u1", message={"content": "do it"}))
    running.play(result(user_message_uuids=None, is_error=True, terminal_reason="completed"))
    assert running.finished().pending == (7,)
    running.play(TurnAsked("again", "carry on", (7,)))
    running.play(result(user_message_uuids=None))
    assert running.state is State.RUNNING


def test_an_injected_message_is_waited_for(running: Playbook) -> None:
    running.play(InjectAsked("news", (8,)))
    assert running.written() == ("u2", "news")
    running.play(result("u1"))
    assert running.state is State.RUNNING
    running.play(result("u2"))
    assert running.finished().done == (7, 8)


def test_a_failure_with_a_message_still_queued_ends_the_process_first(running: Playbook) -> None:
    running.play(InjectAsked("news", (8,)))
    running.play(result("u1", is_error=True, terminal_reason="api_error", api_error_status=500))
    assert running.does() == ["SpentSeen", "Terminate"]
    running.play(Exited("exit code 143"))
    assert (running.finished().kind, running.finished().pending) == ("limited", (7, 8))


def test_silence_is_interrupted_resumed_once_and_then_stuck(running: Playbook) -> None:
    running.wait()
    assert (running.does(), running.now) == (["interrupt"], 600.0)
    running.play(result("u1", is_error=True, terminal_reason="aborted_streaming"))
    assert running.written() == ("u2", "carry on")
    running.wait()
    running.play(result("u2", is_error=True, terminal_reason="aborted_streaming"))
    assert (running.finished().kind, running.finished().blame) == ("stuck", True)


def test_a_process_deaf_to_its_interrupt_is_ended_and_the_turn_told_again_in_full(running: Playbook) -> None:
    running.wait()
    running.wait()
    assert running.does() == ["Terminate"]
    running.wait()
    assert running.does() == ["Kill"]
    running.play(Exited("signal 9"))
    assert running.actions[-1] == Launch()
    running.play(Ready())
    assert running.written() == ("u2", "do it")
    running.wait()
    running.wait()
    running.play(Exited("exit code 143"))
    assert (running.finished().kind, running.state) == ("stuck", State.COLD)


def test_an_open_tool_is_no_silence_but_the_cli_must_answer(running: Playbook) -> None:
    running.play(tool_use(), after=1)
    running.wait()
    assert running.does() == ["ping"]
    running.play(Answered("ping"))
    running.wait()
    assert running.does() == ["ping"]
    running.wait()
    assert running.does() == ["Terminate"]


def test_a_closed_tool_counts_time_again(running: Playbook) -> None:
    running.play(tool_use(), tool_result(), after=500)
    running.wait()
    assert (running.does(), running.now) == (["interrupt"], 1100.0)


def test_a_frame_of_an_unknown_kind_is_no_sign_of_life(running: Playbook) -> None:
    running.play(frame(type="keep_alive"), after=599)
    running.wait()
    assert running.now == 600.0


def test_rubbish_is_taken_up_to_a_limit(running: Playbook) -> None:
    assert running.play(NoiseSeen(9000), said(), NoiseSeen(9000)) == []
    running.play(NoiseSeen(2000))
    assert running.does() == ["Terminate"]
    running.play(Exited("exit code 143"))
    assert running.finished().kind == "crashed"


@pytest.mark.parametrize("kind", ["system", "future_kind"])
def test_a_flood_of_frames_that_no_turn_is_made_of_is_a_flood(running: Playbook, kind: str) -> None:
    for _ in range(200):
        running.play(msgspec.structs.replace(frame(type=kind), size=40), after=0.01)
        if running.actions:
            break
    assert running.does() == ["Terminate"]
    running.play(Exited("exit code 143"))
    assert running.finished().kind == "crashed"


def test_system_frames_at_the_pace_of_work_are_a_sign_of_life_for_as_long_as_they_come(
    running: Playbook,
) -> None:
    for _ in range(2000):
        assert running.play(msgspec.structs.replace(frame(type="system"), size=40), after=1) == []
    running.wait()
    assert (running.does(), running.now) == (["interrupt"], 2600.0)


def test_tiny_lines_of_rubbish_count_more_than_their_bytes(running: Playbook) -> None:
    for _ in range(200):
        running.play(NoiseSeen(1))
        if running.actions:
            break
    assert running.does() == ["Terminate"]


def test_a_process_that_does_not_answer_after_its_result_is_ended(running: Playbook) -> None:
    running.play(result("u1"))
    running.wait()
    assert (running.does(), running.now) == (["Terminate"], 10.0)
    running.play(Exited("exit code 143"))
    assert (running.does(), running.state) == ([], State.COLD)


def test_a_turn_on_a_process_that_does_not_answer_is_run_by_another_one_once(running: Playbook) -> None:
    running.play(result("u1"))
    running.play(TurnAsked("more", "carry on", (8,)), after=5)
    running.wait()
    running.play(Exited("exit code 143"))
    assert running.actions[-1] == Launch()
    running.play(Ready(), init())
    uuid = "u3"
    running.play(result(uuid))
    assert running.finished().done == (8,)
    running.play(Answered("ping"), EndAsked(), Exited("exit code 0"))
    assert running.state is State.COLD, "and is not resumed for nothing"


def test_too_long_compacts_and_tells_the_text_again(running: Playbook) -> None:
    running.play(result("u1", is_error=True, terminal_reason="prompt_too_long"))
    assert (running.written()[1], running.state) == ("/compact", State.COMPACTING)
    running.play(frame(type="system", subtype="compact_boundary"))
    running.play(result("u2", terminal_reason=None))
    assert running.written() == ("u3", "do it")
    running.play(result("u3", is_error=True, terminal_reason="prompt_too_long"))
    assert (running.finished().kind, running.finished().blame) == ("prompt_too_long", True)


def test_too_long_without_a_compaction_is_not_tried_again(running: Playbook) -> None:
    running.play(result("u1", is_error=True, terminal_reason="prompt_too_long"), result("u2"))
    assert running.finished().kind == "prompt_too_long"


def test_missing_tools_fail_the_turn_and_the_process(book: Playbook) -> None:
    book.play(TurnAsked("do it", "carry on", (7,)), Ready())
    book.play(init("failed"))
    assert book.does() == ["Terminate"]
    book.play(Exited("exit code 143"))
    assert (book.finished().kind, book.finished().blame) == ("failed", False)


def test_a_lost_tool_fails_the_turn(running: Playbook) -> None:
    running.play(tool_use(name="mcp__hyperhive__send"))
    running.play(tool_result(is_error=True, content="Server hyperhive is not connected"))
    assert running.does() == ["Terminate"]


@pytest.mark.parametrize(
    ("event", "kind", "interrupted"),
    [(CancelAsked(), "cancelled", False), (InterruptAsked("urgent"), "failed", True)],
)
def test_cancel_and_interrupt_end_the_turn_and_keep_the_process(
    running: Playbook, event: Event, kind: str, interrupted: bool
) -> None:
    running.play(event)
    assert running.does() == ["interrupt"]
    running.play(result("u1", is_error=True, terminal_reason="aborted_streaming"))
    assert (running.finished().kind, running.finished().interrupted) == (kind, interrupted)
    assert running.state is State.IDLE


def test_a_turn_that_ended_well_before_its_interrupt_ended_well(running: Playbook) -> None:
    running.play(CancelAsked())
    running.play(result("u1"))
    assert running.finished().done == (7,)


def test_an_interrupt_takes_back_what_is_queued(running: Playbook) -> None:
    running.play(InjectAsked("news", (8,)))
    running.play(InterruptAsked("urgent"))
    assert running.does() == ["cancel_message", "interrupt"]


def test_a_crash_before_the_model_began_blames_nobody(book: Playbook) -> None:
    book.play(TurnAsked("do it", "carry on", (7,)), Ready(), Exited("signal 9"))
    assert (book.finished().kind, book.finished().blame) == ("crashed", False)


def test_a_crash_in_the_turn_blames_its_messages(running: Playbook) -> None:
    running.play(Exited("signal 11"))
    assert (running.finished().kind, running.finished().blame) == ("crashed", True)


def test_a_start_that_cannot_succeed_parks(book: Playbook) -> None:
    book.play(TurnAsked("do it", "carry on", (7,)), StartFailed("no CLI", park="no CLI"))
    assert (book.finished().kind, book.finished().park) == ("failed", "no CLI")


def test_turns_nobody_asked_for_are_shown(running: Playbook) -> None:
    running.play(result("u1"), Answered("ping"))
    running.play(init())
    states = [running.state]
    running.play(result(user_message_uuids=None, origin={"kind": "task-notification"}))
    states.append(running.state)
    assert states == [State.UNASKED, State.IDLE]
    assert any(isinstance(action, Unasked) and action.good for action in running.actions)


def test_background_tasks_are_known_on_both_versions(running: Playbook) -> None:
    seen = []
    for event in (
        frame(type="system", subtype="task_started", task_id="b1"),
        frame(type="system", subtype="task_notification", task_id="b1"),
        frame(type="system", subtype="background_tasks_changed", tasks=[{"task_id": "b2"}]),
        frame(type="system", subtype="background_tasks_changed", tasks=[]),
    ):
        running.play(event)
        seen.append(running.machine.has_background_tasks)
    assert seen == [True, False, True, False]


def test_cost_is_a_difference_and_starts_again_where_the_total_fell_back(running: Playbook) -> None:
    running.play(result("u1", total_cost_usd=0.5))
    assert running.finished().cost == 0.5
    costs = []
    for total in (0.75, 0.1):
        running.play(TurnAsked("more", "carry on", (8,)))
        uuid = running.written()[0]
        running.play(result(uuid, total_cost_usd=total))
        costs.append(running.finished().cost)
    assert costs == [0.25, 0.1]


def test_context_is_the_last_inference_of_the_agent_itself(running: Playbook) -> None:
    def usage(tokens: int, **fields: Any) -> FrameSeen:
        content = {"model": fields.pop("model", "m"), "content": [], "usage": {"input_tokens": tokens}}
        return frame(type="assistant", message=content, **fields)

    running.play(usage(10), usage(20), usage(99, parent_tool_use_id="t1"), usage(0, model="<synthetic>"))
    running.play(result("u1", usage={"input_tokens": 500}))
    last = running.finished().last_usage
    assert last is not None
    assert last.input_tokens == 20
    assert running.finished().usage.input_tokens == 500


def test_every_row_names_what_the_machine_has() -> None:
    for row in ROWS:
        assert all(hasattr(TurnMachine, f"_do_{name}") for name in row.do), row
        assert not row.when or hasattr(TurnMachine, f"_when_{row.when}"), row


def test_more_urgent_mail_ends_a_turn_that_is_already_being_interrupted_for_silence(
    running: Playbook,
) -> None:
    running.wait()
    running.play(InterruptAsked("urgent"))
    running.play(result("u1", is_error=True, terminal_reason="aborted_streaming"))
    assert (running.finished().note, running.finished().interrupted) == ("urgent", True)


def test_a_cancel_is_not_undone_by_an_interrupt(running: Playbook) -> None:
    running.play(CancelAsked(), InterruptAsked("urgent"))
    running.wait()
    running.play(InterruptAsked("urgent"))
    running.play(Exited("exit code 143"))
    assert running.finished().kind == "cancelled"


def test_every_condition_and_deed_is_used() -> None:
    asked = {f"_when_{row.when}" for row in ROWS if row.when}
    done = {f"_do_{name}" for row in ROWS for name in row.do}
    assert asked == {name for name in dir(TurnMachine) if name.startswith("_when_")}
    indirectly = {"_do_decide_stuck_or_asked", "_do_launch", "_do_end_harder"}
    assert {name for name in dir(TurnMachine) if name.startswith("_do_")} <= done | indirectly


def test_no_row_is_hidden_behind_an_unconditional_one() -> None:
    for at, row in enumerate(ROWS):
        earlier = [one for one in ROWS[:at] if (one.state, one.on) == (row.state, row.on)]
        assert all(one.when for one in earlier), row


# --- any order of events ---------------------------------------------------------------------------------------------

UUIDS = [f"u{n}" for n in range(1, 9)]
frames = st.one_of(
    st.builds(init, st.sampled_from(["connected", "failed"])),
    st.just(said()),
    st.builds(tool_use, st.sampled_from(["t1", "t2"]), st.sampled_from(["Bash", "mcp__hyperhive__send"])),
    st.builds(tool_result, st.sampled_from(["t1", "t2"])),
    st.builds(
        lambda uuid: frame(type="user", isReplay=True, uuid=uuid, message={"content": "x"}),
        st.sampled_from(UUIDS),
    ),
    st.just(frame(type="system", subtype="compact_boundary")),
    st.builds(
        lambda uuids, error, reason, status: result(
            *uuids, is_error=error, terminal_reason=reason, api_error_status=status
        ),
        st.lists(st.sampled_from(UUIDS), max_size=2),
        st.sampled_from([True, False, None]),
        st.sampled_from(["completed", "api_error", "prompt_too_long", "aborted_tools", "max_turns", None]),
        st.sampled_from([None, 401, 403, 429, 500]),
    ),
    st.just(result(user_message_uuids=None)),
    st.just(result(user_message_uuids=None, origin={"kind": "task-notification"})),
)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: what was asked for is answered exactly once, and time always ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.uuids: Iterator[int] = itertools.count(1)
        self.written: list[str] = []
        self.machine = TurnMachine(TIMING, self.new_uuid)
        self.now = 0.0
        self.ids = itertools.count(1)
        self.turn_open = False
        self.compaction_open = False
        self.process = False
        self.given: set[int] = set()
        self.good: set[str] = set()

    def new_uuid(self) -> str:
        uuid = f"u{next(self.uuids)}"
        self.written.append(uuid)
        return uuid

    def feed(self, event: Event) -> None:
        for action in self.machine.handle(event, self.now):
            if isinstance(action, Launch):
                assert not self.process, "two processes never share a session"
                self.process = True
            elif isinstance(action, Finish):
                assert self.turn_open, "one result for each turn"
                self.turn_open = False
                done, pending = set(action.result.done), set(action.result.pending)
                assert done | pending == self.given
                assert not done & pending
                assert action.result.ok == (not pending and bool(done)) or action.result.kind != "ok"
            elif isinstance(action, Compacted):
                assert self.compaction_open
                self.compaction_open = False
            elif isinstance(action, Write | Ask):
                assert self.process, "nothing is written to nobody"

    @property
    def resting(self) -> bool:
        return self.machine.state in {State.COLD, State.IDLE, State.UNASKED} and not self.turn_open

    @precondition(lambda self: self.resting)
    @rule()
    def ask_turn(self) -> None:
        number = next(self.ids)
        self.turn_open, self.given = True, {number}
        self.feed(TurnAsked("do it", "carry on", (number,)))

    @precondition(
        lambda self: self.resting and self.machine.state is not State.UNASKED and not self.compaction_open
    )
    @rule()
    def ask_compaction(self) -> None:
        self.compaction_open = True
        self.feed(CompactAsked())

    @precondition(lambda self: self.machine.state is State.RUNNING)
    @rule()
    def inject(self) -> None:
        number = next(self.ids)
        self.given.add(number)
        self.feed(InjectAsked("news", (number,)))

    @precondition(lambda self: self.process)
    @rule(
        event=st.sampled_from(
            [Ready(), Answered("ping"), Answered("interrupt"), NoiseSeen(4000), OutputClosed()]
        )
    )
    def process_event(self, event: Event) -> None:
        self.feed(event)

    @precondition(lambda self: self.process)
    @rule(event=frames)
    def print_frame(self, event: FrameSeen) -> None:
        self.feed(event)

    @precondition(lambda self: self.process)
    @rule()
    def exit(self) -> None:
        self.process = False
        self.feed(Exited("exit code 1"))

    @precondition(lambda self: self.process and self.machine.state is State.STARTING)
    @rule()
    def start_failed(self) -> None:
        self.process = False
        self.feed(StartFailed("no"))

    @rule(event=st.sampled_from([CancelAsked(), InterruptAsked("urgent"), EndAsked()]))
    def ask_end(self, event: Event) -> None:
        self.feed(event)

    @precondition(lambda self: self.machine.deadline is not None)
    @rule()
    def deadline_passes(self) -> None:
        self.now = max(self.now, self.deadline())
        self.feed(Tick())
        assert self.deadline() > self.now, "time moves on"

    def deadline(self) -> float:
        limit = self.machine.deadline
        return float("inf") if limit is None else limit

    @rule(seconds=st.floats(0.1, 500))
    def time_passes(self, seconds: float) -> None:
        limit = self.machine.deadline
        self.now = self.now + seconds if limit is None else min(self.now + seconds, limit)

    @invariant()
    def busy_means_a_process(self) -> None:
        if self.machine.state is State.COLD:
            assert not self.turn_open
            assert not self.compaction_open
            assert self.machine.deadline is None
        else:
            assert self.process

    def teardown(self) -> None:
        """A CLI that never says another word: time and its death end whatever is under way."""
        for _ in range(60):
            if not (self.turn_open | self.compaction_open):
                return
            before = self.machine.state
            if self.machine.deadline is not None:
                self.now = max(self.now, self.machine.deadline)
                killed = any(isinstance(a, Kill) for a in self._tick())
                if killed or before is State.ENDING:
                    self.process = False
                    self.feed(Exited("signal 9"))
            else:
                self.feed(Ready())
        pytest.fail("a turn is still shown as running")

    def _tick(self) -> list[Action]:
        seen: list[Action] = []
        original = self.machine.handle

        def handle(event: Event, now: float) -> list[Action]:
            actions = original(event, now)
            seen.extend(actions)
            return actions

        self.machine.handle = handle  # type: ignore[method-assign]
        try:
            self.feed(Tick())
        finally:
            self.machine.handle = original  # type: ignore[method-assign]
        return seen


TestAnyOrder = AnyOrder.TestCase


@given(st.lists(frames, max_size=30))
def test_only_a_good_result_that_names_the_attempt_acks_it(events: list[FrameSeen]) -> None:
    book = Playbook()
    book.play(TurnAsked("do it", "carry on", (7,)), Ready())
    uuid = "u1"
    echoed = False
    for event in events:
        book.play(event)
        ended = [action for action in book.actions if isinstance(action, Finish)]
        one: Frame = event.frame
        if one.isReplay and one.uuid == uuid:
            echoed = True
        if ended:
            if ended[0].result.done:
                named = one.user_message_uuids
                assert one.type == "result"
                assert one.is_error is False
                assert one.terminal_reason == "completed"
                assert (named is None and echoed) or bool(named)
            return
        if book.state is not State.RUNNING:
            return
        if one.type == "result":
            echoed = False


def test_ending_is_gentle_when_idle_and_firm_when_not(running: Playbook) -> None:
    running.play(EndAsked())
    assert running.does() == ["Terminate"]
    running.play(Exited("exit code 143"))
    assert running.finished().interrupted
    running.play(TurnAsked("more", "carry on", (8,)), Ready())
    running.play(result(running.written()[0]), Answered("ping"))
    running.play(EndAsked())
    assert running.actions == [CloseInput()]
    assert [type(step) for _ in range(3) for step in running.wait()] == [Terminate, Kill, Kill]
