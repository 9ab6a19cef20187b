"""Aggregates of turns over a window, for the statistics page: pure functions of rows and a time.

Each provider gives one named part of the answer; more can be registered. Buckets are hours for `24h` and days for `7d`
and `30d`, the last one ending now.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from hyperhive.protocol.types import TurnRow

JsonValue = dict[str, Any] | list[Any] | int | float | str | None
Provider = Callable[[Sequence[TurnRow], "Span"], JsonValue]
"""Gives one part of the statistics from the window's turns (oldest first)."""

TOP_TOOLS = 15
TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)


class Span(msgspec.Struct, frozen=True):
    """The time that a window covers: from `start` (unix seconds) in `buckets` steps of `step` seconds."""

    start: int
    step: int
    buckets: int

    def index(self, unix: int) -> int:
        """The bucket of this time; times outside go to the nearest one."""
        return min(self.buckets - 1, max(0, (unix - self.start) // self.step))

    def ends(self, bucket: int) -> tuple[int, int]:
        """From when to before when this bucket goes (unix seconds). The last one has the very end in it, too."""
        since = self.start + bucket * self.step
        return since, since + self.step + (bucket == self.buckets - 1)

    @property
    def end(self) -> int:
        """What ended at this time or later is in no bucket."""
        return self.ends(self.buckets - 1)[1]


WINDOWS: Final[Mapping[str, tuple[int, int]]] = {"24h": (3600, 24), "7d": (86400, 7), "30d": (86400, 30)}


def span_of(window: str, now: int) -> Span:
    """The span of `24h`, `7d` or `30d`, ending now."""
    step, buckets = WINDOWS[window]
    return Span(now - step * buckets, step, buckets)


def aggregate(
    rows: Sequence[TurnRow], span: Span, providers: Mapping[str, Provider] | None = None
) -> dict[str, Any]:
    """All parts of the statistics, by name: the built-in ones and those given."""
    return {name: provider(rows, span) for name, provider in {**PROVIDERS, **(providers or {})}.items()}


def percentile(values: Sequence[int], share: float) -> int | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def turns(rows: Sequence[TurnRow], span: Span) -> JsonValue:
    """How many turns ended in each bucket."""
    counts = [0] * span.buckets
    for row in rows:
        counts[span.index(row.ended_at)] += 1
    return {"total": len(rows), "start": span.start, "step": span.step, "buckets": counts}


def duration(rows: Sequence[TurnRow], span: Span) -> JsonValue:
    """Milliseconds a turn."""
    del span
    values = [row.duration_ms for row in rows]
    return {
        "p50_ms": percentile(values, 0.5),
        "p95_ms": percentile(values, 0.95),
        "avg_ms": sum(values) // len(values) if values else None,
    }


def context(rows: Sequence[TurnRow], span: Span) -> JsonValue:
    """Tokens of context at the last inference of a turn, where known."""
    del span
    values = [
        row.last_input_tokens
        + (row.last_cache_read_input_tokens or 0)
        + (row.last_cache_creation_input_tokens or 0)
        for row in rows
        if row.last_input_tokens is not None
    ]
    return {
        "avg": sum(values) // len(values) if values else None,
        "max": max(values, default=None),
    }


def cost(rows: Sequence[TurnRow], span: Span) -> JsonValue:
    """What was spent: money by the CLI's own list price, and the four kinds of tokens."""
    spent = [0.0] * span.buckets
    for row in rows:
        spent[span.index(row.ended_at)] += row.cost
    return {
        "total": _money(rows),
        "buckets": [round(value, 6) for value in spent],
        "input_tokens": sum(row.input_tokens for row in rows),
        "output_tokens": sum(row.output_tokens for row in rows),
        "cache_read_input_tokens": sum(row.cache_read_input_tokens for row in rows),
        "cache_creation_input_tokens": sum(row.cache_creation_input_tokens for row in rows),
    }


def _money(rows: Sequence[TurnRow]) -> float | None:
    """US dollars; None where tokens were used and nobody knew their price: that is not nothing."""
    total = math.fsum(row.cost for row in rows)
    if total == 0 and any(row.input_tokens + row.output_tokens for row in rows):
        return None
    return round(total, 6)


def buckets(rows: Sequence[TurnRow], span: Span) -> JsonValue:
    """Each bucket by itself: `since` and `until` (before it) are what `turns` gives exactly these turns by."""
    groups: list[list[TurnRow]] = [[] for _ in range(span.buckets)]
    for row in rows:
        groups[span.index(row.ended_at)].append(row)
    return [_bucket(group, span, place) for place, group in enumerate(groups)]


def _bucket(rows: list[TurnRow], span: Span, place: int) -> dict[str, Any]:
    since, until = span.ends(place)
    return {
        "since": since,
        "until": until,
        "turns": len(rows),
        "results": results(rows, span),
        "duration": duration(rows, span),
        "context": context(rows, span),
        "cost": _money(rows),
        **{name: sum(getattr(row, name) for row in rows) for name in TOKENS},
        "tool_calls": sum(row.tool_call_count for row in rows),
    }


def tools(rows: Sequence[TurnRow], span: Span) -> JsonValue:
    """The tools that were called most."""
    del span
    counts: Counter[str] = Counter()
    for row in rows:
        try:
            counts.update(msgspec.json.decode(row.tool_call_breakdown_json, type=dict[str, int]))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # a row that does not say by tool still has its count
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP_TOOLS]
    return {
        "total": sum(row.tool_call_count for row in rows),
        "top": [{"tool": name, "calls": calls} for name, calls in top],
    }


def wakes(rows: Sequence[TurnRow], span: Span) -> JsonValue:
    """Whose mail started how many turns."""
    del span
    return dict(Counter(row.wake_from for row in rows).most_common())


def results(rows: Sequence[TurnRow], span: Span) -> JsonValue:
    """How many turns ended how."""
    del span
    return dict(Counter(row.result_kind for row in rows).most_common())


PROVIDERS: Final[Mapping[str, Provider]] = {
    "turns": turns,
    "buckets": buckets,
    "duration": duration,
    "context": context,
    "cost": cost,
    "tools": tools,
    "wakes": wakes,
    "results": results,
}
