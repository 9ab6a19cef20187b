"""A turn's result as a row of statistics. Pure."""

import msgspec

from hyperhive.harness.turns import TurnResult, UnaskedTurn
from hyperhive.protocol.types import TokenUsage, TurnRow

BACKGROUND = "background"
"""`wake_from` of a turn that the CLI ran by itself."""


def row_of(
    result: TurnResult,
    *,
    turn: int | None = None,
    wake_from: str,
    model: str,
    open_threads: int,
    open_reminders: int,
) -> TurnRow:
    """The row of a turn that mail from `wake_from` started. `model`: what was asked for, where the CLI named none."""
    return _row(
        TurnRow(
            started_at=int(result.started_at),
            ended_at=int(result.ended_at),
            duration_ms=result.duration_ms,
            model=result.model or model,
            wake_from=wake_from,
            result_kind=result.kind,
            cost=result.cost,
            open_threads_count=open_threads,
            open_reminders_count=open_reminders,
            turn=turn,
            message=result.message,
            chain=result.chain,
        ),
        result,
    )


def row_of_unasked(
    turn: UnaskedTurn,
    *,
    now: int,
    model: str,
    message: int | None = None,
    chain: int | None = None,
    open_threads: int,
    open_reminders: int,
) -> TurnRow:
    """The row of a turn that nobody asked for; how long it took is not known."""
    return _row(
        TurnRow(
            started_at=now,
            ended_at=now,
            duration_ms=0,
            model=turn.model or model,
            wake_from=BACKGROUND,
            result_kind="ok" if turn.ok else "failed",
            cost=turn.cost,
            open_threads_count=open_threads,
            open_reminders_count=open_reminders,
            message=message,
            chain=chain,
        ),
        turn,
    )


def _row(row: TurnRow, turn: TurnResult | UnaskedTurn) -> TurnRow:
    spent, last = turn.usage, turn.last_usage
    return msgspec.structs.replace(
        row,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        cache_read_input_tokens=spent.cache_read_input_tokens,
        cache_creation_input_tokens=spent.cache_creation_input_tokens,
        **_last(last),
        tool_call_count=sum(turn.tool_calls.values()),
        tool_call_breakdown_json=msgspec.json.encode(turn.tool_calls).decode(),
    )


def _last(last: TokenUsage | None) -> dict[str, int]:
    if last is None:
        return {}
    return {
        "last_input_tokens": last.input_tokens,
        "last_output_tokens": last.output_tokens,
        "last_cache_read_input_tokens": last.cache_read_input_tokens,
        "last_cache_creation_input_tokens": last.cache_creation_input_tokens,
    }
