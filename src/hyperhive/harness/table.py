"""The turn machine's transitions, as data: the whole behaviour of one agent's CLI process, row by row.

Conditions are methods of `conditions.Conditions` (`_when_…`), deeds of `machine.TurnMachine` (`_do_…`). The diagram in
docs/turn-loop.md is drawn from here. Nothing in this file runs.
"""

from typing import Final, NamedTuple

from hyperhive.harness.moves import (
    CancelAsked,
    CompactAsked,
    EndAsked,
    Event,
    Exited,
    FrameSeen,
    InitSeen,
    InjectAsked,
    InterruptAsked,
    NoiseSeen,
    OutputClosed,
    Ready,
    ResultSeen,
    StartFailed,
    State,
    Tick,
    TurnAsked,
)


class Row(NamedTuple):
    """One transition: in `state`, on an event of type `on`, if the condition `when` holds ("" = always).

    Rows of one state and event are tried in order, and the first that applies is taken: the machine is then in `to`
    (None: where it was) and does what `do` names. An event without a row changes nothing.
    """

    state: State
    on: type[Event]
    when: str
    do: tuple[str, ...]
    to: State | None


S = State
_ALIVE: Final = (S.STARTING, S.IDLE, S.UNASKED, S.RUNNING, S.INTERRUPTING, S.COMPACTING)

ROWS: Final[tuple[Row, ...]] = (
    # a turn or a compaction is asked for
    Row(S.COLD, TurnAsked, "", ("take_turn", "launch"), S.STARTING),
    Row(S.COLD, CompactAsked, "", ("take_compaction", "launch"), S.STARTING),
    Row(S.IDLE, TurnAsked, "", ("take_turn", "prompt"), S.RUNNING),
    Row(S.UNASKED, TurnAsked, "", ("take_turn", "prompt"), S.RUNNING),
    Row(S.IDLE, CompactAsked, "", ("take_compaction", "write_compact"), S.COMPACTING),
    # the process starts
    Row(S.STARTING, Ready, "has_turn", ("prompt",), S.RUNNING),
    Row(S.STARTING, Ready, "has_compaction", ("write_compact",), S.COMPACTING),
    Row(S.STARTING, StartFailed, "", ("fail_start",), S.COLD),
    Row(S.STARTING, Exited, "", ("fail_start",), S.COLD),
    Row(S.STARTING, Tick, "", ("decide_never_started", "terminate"), S.ENDING),
    Row(S.STARTING, InterruptAsked, "", ("decide_asked", "terminate"), S.ENDING),
    Row(S.STARTING, CancelAsked, "", ("decide_asked", "terminate"), S.ENDING),
    Row(S.STARTING, EndAsked, "", ("decide_stopped", "terminate"), S.ENDING),
    # the turn runs
    Row(S.RUNNING, InitSeen, "tools_missing", ("decide_no_tools", "terminate"), S.ENDING),
    Row(S.RUNNING, FrameSeen, "tool_lost", ("decide_no_tools", "terminate"), S.ENDING),
    Row(S.RUNNING, ResultSeen, "not_ours", ("settle_unasked",), None),
    Row(S.RUNNING, ResultSeen, "good_and_complete", ("settle", "finish", "ping"), S.IDLE),
    Row(S.RUNNING, ResultSeen, "good", ("settle",), None),
    Row(S.RUNNING, ResultSeen, "too_long_first_time", ("settle", "write_compact"), S.COMPACTING),
    Row(S.RUNNING, ResultSeen, "leftovers", ("settle", "terminate"), S.ENDING),
    Row(S.RUNNING, ResultSeen, "", ("settle", "finish", "ping"), S.IDLE),
    Row(S.RUNNING, InjectAsked, "", ("inject",), None),
    Row(S.RUNNING, InterruptAsked, "", ("interrupt",), S.INTERRUPTING),
    Row(S.RUNNING, CancelAsked, "", ("interrupt",), S.INTERRUPTING),
    Row(S.RUNNING, Tick, "unanswered", ("decide_stuck", "terminate"), S.ENDING),
    Row(S.RUNNING, Tick, "silent", ("note_stuck", "interrupt"), S.INTERRUPTING),
    Row(S.RUNNING, Tick, "silent_with_tool", ("ping",), None),
    Row(S.RUNNING, Exited, "", ("decide_crashed", "finish"), S.COLD),
    Row(S.RUNNING, EndAsked, "", ("decide_stopped", "terminate"), S.ENDING),
    # it is being interrupted: by the operator, by more urgent mail, or because it is stuck
    Row(S.INTERRUPTING, ResultSeen, "not_ours", ("settle_unasked",), None),
    Row(S.INTERRUPTING, ResultSeen, "good_and_complete", ("settle", "finish", "ping"), S.IDLE),
    Row(S.INTERRUPTING, ResultSeen, "stuck_first_time", ("settle_again", "prompt_again"), S.RUNNING),
    Row(S.INTERRUPTING, ResultSeen, "leftovers", ("settle_asked", "terminate"), S.ENDING),
    Row(S.INTERRUPTING, ResultSeen, "", ("settle_asked", "finish", "ping"), S.IDLE),
    Row(S.INTERRUPTING, CancelAsked, "", ("want",), None),
    Row(S.INTERRUPTING, InterruptAsked, "", ("want",), None),
    Row(S.INTERRUPTING, Tick, "", ("decide_stuck_or_asked", "terminate"), S.ENDING),
    Row(S.INTERRUPTING, Exited, "stuck_first_time", ("launch_again",), S.STARTING),
    Row(S.INTERRUPTING, Exited, "", ("decide_asked", "finish"), S.COLD),
    Row(S.INTERRUPTING, EndAsked, "", ("decide_stopped", "terminate"), S.ENDING),
    # the session is compacted: for a turn whose prompt was too long, or because somebody asked
    Row(S.COMPACTING, ResultSeen, "no_compaction", ("settle_unasked",), None),
    Row(S.COMPACTING, ResultSeen, "compacted_for_turn", ("settle_compaction", "prompt_again"), S.RUNNING),
    Row(
        S.COMPACTING,
        ResultSeen,
        "has_turn",
        ("settle_compaction", "decide_too_long", "finish", "ping"),
        S.IDLE,
    ),
    Row(S.COMPACTING, ResultSeen, "", ("settle_compaction", "finish_compaction", "ping"), S.IDLE),
    Row(S.COMPACTING, InterruptAsked, "", ("decide_asked", "terminate"), S.ENDING),
    Row(S.COMPACTING, CancelAsked, "", ("decide_asked", "terminate"), S.ENDING),
    Row(S.COMPACTING, Tick, "unanswered", ("decide_stuck", "terminate"), S.ENDING),
    Row(S.COMPACTING, Tick, "silent", ("decide_stuck", "terminate"), S.ENDING),
    Row(S.COMPACTING, Tick, "silent_with_tool", ("ping",), None),
    Row(S.COMPACTING, Exited, "", ("decide_crashed", "finish_any"), S.COLD),
    Row(S.COMPACTING, EndAsked, "", ("decide_stopped", "terminate"), S.ENDING),
    # nobody asked for anything
    Row(S.IDLE, InitSeen, "", ("show_unasked",), S.UNASKED),
    Row(S.IDLE, ResultSeen, "", ("settle_unasked",), None),
    Row(S.UNASKED, ResultSeen, "", ("settle_unasked", "hide_unasked", "ping"), S.IDLE),
    Row(S.UNASKED, CancelAsked, "", ("interrupt_unasked", "ping"), None),
    Row(S.UNASKED, Tick, "unanswered", ("note_unanswered", "hide_unasked", "terminate"), S.ENDING),
    Row(S.UNASKED, Tick, "silent", ("note_unanswered", "hide_unasked", "terminate"), S.ENDING),
    Row(S.UNASKED, Tick, "silent_with_tool", ("ping",), None),
    Row(S.UNASKED, Exited, "", ("note_exit", "hide_unasked"), S.COLD),
    Row(S.UNASKED, EndAsked, "", ("hide_unasked", "close_input"), S.ENDING),
    Row(S.IDLE, Tick, "unanswered", ("note_unanswered", "terminate"), S.ENDING),
    Row(S.IDLE, Exited, "", ("note_exit",), S.COLD),
    Row(S.IDLE, EndAsked, "", ("close_input",), S.ENDING),
    # any living process
    *(Row(state, NoiseSeen, "flooded", ("decide_flooded", "terminate"), S.ENDING) for state in _ALIVE),
    *(Row(state, OutputClosed, "", ("decide_crashed", "terminate"), S.ENDING) for state in _ALIVE),
    # the process ends, step by step, and whatever was decided comes true when it is gone
    Row(S.ENDING, Tick, "", ("end_harder",), None),
    Row(S.ENDING, EndAsked, "", ("decide_stopped",), None),
    Row(S.ENDING, CancelAsked, "", ("decide_asked",), None),
    Row(S.ENDING, InterruptAsked, "", ("decide_asked",), None),
    Row(S.ENDING, Exited, "to_be_resumed", ("launch_again",), S.STARTING),
    Row(S.ENDING, Exited, "", ("finish_any",), S.COLD),
)
