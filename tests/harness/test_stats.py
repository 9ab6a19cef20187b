"""Claims about turn statistics: what a row keeps, older databases, what the windows say, what a failure costs."""

import sqlite3
import tempfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.clock import SYSTEM_CLOCK
from hyperhive.harness.stats import TurnStats, cost_of, ctx_of
from hyperhive.harness.stats_windows import PROVIDERS, Span, aggregate, percentile, span_of
from hyperhive.protocol.harness_line import TurnHistory
from hyperhive.protocol.types import TokenUsage, TurnRow

NOW = 1_900_000_000


class FixedClock:
    """The wall clock stands at `NOW`."""

    def time(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here sleeps, and not {seconds} s")


def row(**changes: object) -> TurnRow:
    base = TurnRow(
        started_at=NOW - 10,
        ended_at=NOW,
        duration_ms=10_000,
        model="haiku",
        wake_from="operator",
        result_kind="ok",
        input_tokens=1,
        output_tokens=2,
        cache_read_input_tokens=3,
        cache_creation_input_tokens=4,
        last_input_tokens=5,
        last_output_tokens=6,
        last_cache_read_input_tokens=7,
        last_cache_creation_input_tokens=8,
        tool_call_count=3,
        tool_call_breakdown_json='{"Bash":2,"Read":1}',
        open_threads_count=1,
        open_reminders_count=2,
        cost=0.25,
    )
    return msgspec.structs.replace(base, **changes)


async def test_a_row_comes_back_as_it_was_written_newest_first(tmp_path: Path) -> None:
    stats = TurnStats(tmp_path / "stats.sqlite", FixedClock())
    first, second = row(model="haiku"), row(model="sonnet", cost=1.5)
    assert await stats.add(first) is None
    assert await stats.add(second) is None
    assert await stats.newest(10) == [second, first]
    assert await stats.newest(1) == [second]
    assert await stats.since(NOW) == [first, second]
    assert await stats.since(NOW + 1) == []


async def test_asking_an_agent_that_never_had_a_turn_makes_no_file(tmp_path: Path) -> None:
    stats = TurnStats(tmp_path / "stats.sqlite", FixedClock())
    assert await stats.newest(10) == []
    assert await stats.sweep() == 0
    assert not (tmp_path / "stats.sqlite").exists()


def open_files() -> list[str]:
    links = list(Path("/proc/self/fd").iterdir())
    return [str(link.readlink()) for link in links if link.is_symlink()]


async def test_nothing_stays_open_between_uses(tmp_path: Path) -> None:
    stats = TurnStats(tmp_path / "stats.sqlite", FixedClock())
    await stats.add(row())
    await stats.newest(1)
    assert not any("stats.sqlite" in target for target in open_files())


async def test_an_older_database_gets_the_last_columns_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "stats.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE turn_stats (id INTEGER PRIMARY KEY, started_at INTEGER, ended_at INTEGER,"
            " duration_ms INTEGER, model TEXT, wake_from TEXT, result_kind TEXT,"
            " input_tokens INTEGER, output_tokens INTEGER,"
            " cache_read_input_tokens INTEGER, cache_creation_input_tokens INTEGER, tool_call_count INTEGER,"
            " tool_call_breakdown_json TEXT, open_threads_count INTEGER, open_reminders_count INTEGER)"
        )
        connection.execute(
            "INSERT INTO turn_stats VALUES (1, 1, 2, 3, 'haiku', 'bob', 'ok', 4, 5, 6, 7, 0, '{}', 0, 0)"
        )
    for _ in range(2):  # the second opening finds them there
        (old,) = await TurnStats(path, FixedClock()).newest(10)
        assert (old.wake_from, old.cost, old.input_tokens) == ("bob", 0.0, 4)
        assert ctx_of(old) is None
    assert await TurnStats(path, FixedClock()).add(row()) is None


def test_ctx_is_the_last_inference_and_cost_the_sum_of_the_turn() -> None:
    assert ctx_of(row()) == TokenUsage(
        input_tokens=5, output_tokens=6, cache_read_input_tokens=7, cache_creation_input_tokens=8
    )
    assert cost_of(row()) == TokenUsage(
        input_tokens=1, output_tokens=2, cache_read_input_tokens=3, cache_creation_input_tokens=4
    )


async def test_rows_older_than_ninety_days_are_swept(tmp_path: Path) -> None:
    stats = TurnStats(tmp_path / "stats.sqlite", FixedClock())
    await stats.add(row(ended_at=NOW - 90 * 86400 - 1))
    await stats.add(row(ended_at=NOW - 90 * 86400))
    assert await stats.sweep() == 1
    assert len(await stats.newest(10)) == 1


async def test_a_place_that_cannot_be_written_gives_a_warning_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "stats.sqlite").write_text(
        "this is no database, and it is long enough to be seen as none" * 20
    )
    stats = TurnStats(tmp_path / "stats.sqlite", FixedClock())
    assert "could not be written" in str(await stats.add(row()))
    assert await stats.newest(1) == []
    assert await stats.sweep() == 0
    assert "could not be written" in str(await TurnStats(tmp_path / "no" / "dir", SYSTEM_CLOCK).add(row()))


async def test_a_row_that_does_not_decode_is_skipped_not_fatal(tmp_path: Path) -> None:
    path = tmp_path / "stats.sqlite"
    stats = TurnStats(path, FixedClock())
    await stats.add(row())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO turn_stats (result_kind) VALUES ('exploded')")
    assert await stats.newest(10) == [row()]


# --- windows --------------------------------------------------------------------------------------------------------


def test_a_day_is_counted_by_hours_and_longer_windows_by_days() -> None:
    assert span_of("24h", NOW) == Span(NOW - 86400, 3600, 24)
    assert span_of("7d", NOW) == Span(NOW - 7 * 86400, 86400, 7)
    assert span_of("30d", NOW) == Span(NOW - 30 * 86400, 86400, 30)


def test_every_part_of_the_statistics_says_what_the_rows_say() -> None:
    rows = [
        row(ended_at=NOW - 86400, duration_ms=1000, last_input_tokens=None),
        row(ended_at=NOW - 3700, duration_ms=2000, wake_from="bob", result_kind="failed"),
        row(ended_at=NOW, duration_ms=9000, tool_call_breakdown_json="no json", last_input_tokens=25),
    ]
    got = aggregate(rows, span_of("24h", NOW))
    assert got["turns"]["total"] == 3
    assert (got["turns"]["buckets"][0], got["turns"]["buckets"][22], got["turns"]["buckets"][23]) == (1, 1, 1)
    assert got["duration"] == {"p50_ms": 2000, "p95_ms": 9000, "avg_ms": 4000}
    assert got["context"] == {"avg": 30, "max": 40}
    assert got["cost"]["total"] == 0.75
    assert (got["cost"]["input_tokens"], got["cost"]["cache_read_input_tokens"]) == (3, 9)
    assert got["tools"] == {"total": 9, "top": [{"tool": "Bash", "calls": 4}, {"tool": "Read", "calls": 2}]}
    assert got["wakes"] == {"operator": 2, "bob": 1}
    assert got["results"] == {"ok": 2, "failed": 1}


def test_a_window_without_turns_has_every_part_and_no_invented_figure() -> None:
    got = aggregate([], span_of("7d", NOW))
    assert set(got) == set(PROVIDERS)
    assert got["duration"] == {"p50_ms": None, "p95_ms": None, "avg_ms": None}
    assert got["context"] == {"avg": None, "max": None}


def test_a_further_provider_is_one_more_part() -> None:
    got = aggregate([row()], span_of("24h", NOW), {"models": lambda rows, _: [one.model for one in rows]})
    assert got["models"] == ["haiku"]
    assert set(got) == set(PROVIDERS) | {"models"}


@given(st.lists(st.integers(0, 10**6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_enough_values_do_not_exceed(values: list[int], share: float) -> None:
    found = percentile(values, share)
    assert found is not None
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


@pytest.mark.parametrize("window", ["24h", "7d", "30d"])
@given(seconds=st.integers(-(10**8), 10**8))
def test_no_time_falls_outside_the_buckets(window: str, seconds: int) -> None:
    span = span_of(window, NOW)
    assert 0 <= span.index(NOW + seconds) < span.buckets


# --- what the screens show equals what is stored ---------------------------------------------------------------------

TURNS = st.lists(
    st.builds(
        row,
        ended_at=st.integers(NOW - 31 * 86400, NOW + 60),
        duration_ms=st.integers(0, 10**6),
        result_kind=st.sampled_from(["ok", "failed", "stuck", "cancelled"]),
        wake_from=st.sampled_from(["operator", "bob", "background"]),
        input_tokens=st.integers(0, 10**6),
        output_tokens=st.integers(0, 10**5),
        last_input_tokens=st.one_of(st.none(), st.integers(0, 10**5)),
        tool_call_count=st.integers(0, 50),
        cost=st.sampled_from([0.0, 0.125, 0.5, 1.75]),
        turn=st.one_of(st.none(), st.integers(1, 500)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("window", ["24h", "7d", "30d"])
@pytest.mark.may_block("the test asks the database itself")
@settings(max_examples=5, deadline=None)
@given(rows=TURNS)
async def test_every_figure_and_every_bucket_equals_what_plain_sql_says(
    window: str, rows: list[TurnRow]
) -> None:
    """And the turns that a bar leads to are the ones that it counts."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "stats.sqlite"
        stats = TurnStats(path, FixedClock())
        for one in rows:
            await stats.add(one)
        span = span_of(window, NOW)
        got = aggregate(await stats.since(span.start, span.end), span)
        where = "FROM turn_stats WHERE ended_at >= ? AND ended_at < ?"

        def sql(what: str, since: int = span.start, until: int = span.end, more: str = "") -> Any:
            if not rows:
                return None
            with closing(sqlite3.connect(path)) as connection:
                return connection.execute(f"SELECT {what} {where} {more}", (since, until)).fetchone()[0]

        assert got["turns"]["total"] == (sql("count(*)") or 0)
        assert got["context"]["max"] == sql(CONTEXT)
        assert got["tools"]["total"] == (sql("sum(tool_call_count)") or 0)
        for kind, number in got["results"].items():
            assert number == sql("count(*)", more=f"AND result_kind = '{kind}'")
        for who, number in got["wakes"].items():
            assert number == sql("count(*)", more=f"AND wake_from = '{who}'")
        if (total := got["cost"]["total"]) is not None:
            assert total == pytest.approx(sql("sum(cost)") or 0.0)
        else:
            assert sql("sum(cost)") == 0  # tokens without a price: unknown, not nothing
            assert sql("sum(input_tokens + output_tokens)") > 0
        parts = got["buckets"]
        assert len(parts) == span.buckets
        for part in parts:
            bounds = {"since": part["since"], "until": part["until"]}
            behind = await stats.select(TurnHistory(req=0, limit=2000, **bounds))
            assert len(behind) == part["turns"] == (sql("count(*)", **bounds) or 0)
            assert part["input_tokens"] == (sql("sum(input_tokens)", **bounds) or 0)
            assert sum(one.tool_call_count for one in behind) == part["tool_calls"]
        for before, after in pairwise(parts):
            assert before["until"] == after["since"]


CONTEXT = (
    "max(last_input_tokens + coalesce(last_cache_read_input_tokens, 0)"
    " + coalesce(last_cache_creation_input_tokens, 0))"
)


async def test_turns_are_given_by_how_they_ended_when_and_which(tmp_path: Path) -> None:
    stats = TurnStats(tmp_path / "stats.sqlite", FixedClock())
    for number in range(1, 9):
        await stats.add(row(ended_at=NOW + number, turn=number, result_kind="failed" if number % 2 else "ok"))

    async def numbers(**asked: Any) -> list[int | None]:
        return [one.turn for one in await stats.select(TurnHistory(req=0, **asked))]

    assert await numbers() == [8, 7, 6, 5, 4, 3, 2, 1]
    assert await numbers(failed=True) == [7, 5, 3, 1]
    assert await numbers(failed=True, limit=2) == [7, 5]
    assert await numbers(failed=True, before=5) == [3, 1]
    assert await numbers(since=NOW + 3, until=NOW + 6) == [5, 4, 3]
    assert await numbers(turn=4) == [4]
    assert await numbers(turn=99) == []
