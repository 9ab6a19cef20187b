"""The event log: what is kept, what is served, and that a bad disk costs nothing but history."""

import logging
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hyperhive import eventlog
from hyperhive.eventlog import BURST_BYTES, RATE_BYTES, ROW_COST, EventLog, EventLogs, LoggedEvent


@pytest.fixture
async def logs() -> AsyncIterator[EventLogs]:
    logs = EventLogs()
    yield logs
    await logs.aclose()


async def test_the_row_id_is_known_at_once_and_is_the_rows_own(logs: EventLogs, tmp_path: Path) -> None:
    events = await logs.open(tmp_path / "events.sqlite")
    assert [events.append(100 + n, "note", b'{"text":"%d"}' % n) for n in range(3)] == [1, 2, 3]
    assert await events.history() == [
        LoggedEvent(n + 1, 100 + n, "note", b'{"text":"%d"}' % n) for n in range(3)
    ]


async def test_ids_go_on_after_a_restart_and_after_everything_was_swept(tmp_path: Path) -> None:
    first = EventLogs()
    events = await first.open(tmp_path / "events.sqlite")
    events.append(1, "note", b"{}")
    events.append(2, "note", b"{}")
    assert await events.sweep(now=10 * 86400) == 2
    await first.aclose()
    second = EventLogs()
    assert (await second.open(tmp_path / "events.sqlite")).append(3, "note", b"{}") == 3
    await second.aclose()


async def test_closing_writes_what_was_appended(tmp_path: Path) -> None:
    logs = EventLogs()
    events = await logs.open(tmp_path / "events.sqlite")
    for n in range(1000):
        events.append(n, "stream", b'{"type":"assistant"}')
    await logs.aclose()
    with sqlite3.connect(tmp_path / "events.sqlite") as conn:
        assert conn.execute("SELECT count(*), max(id) FROM events").fetchone() == (1000, 1000)
        assert conn.execute("SELECT typeof(payload_json) FROM events LIMIT 1").fetchone() == ("text",)
    conn.close()


async def test_history_serves_the_2000_newest_and_pages_back(logs: EventLogs, tmp_path: Path) -> None:
    events = await logs.open(tmp_path / "events.sqlite")
    for n in range(2500):
        events.append(n, "stream" if n % 2 else "note", b'{"n":%d}' % n)
    newest = await events.history(limit=10_000)
    assert [row.eid for row in newest] == list(range(501, 2501))
    assert [row.eid for row in await events.history(before=501, limit=3)] == [498, 499, 500]
    assert [row.eid for row in await events.history(kind="note", limit=2)] == [2497, 2499]


async def test_history_finds_text_as_it_was_meant(logs: EventLogs, tmp_path: Path) -> None:
    events = await logs.open(tmp_path / "events.sqlite")
    events.append(1, "note", b'{"text":"50% of \\"A_B\\" is done"}')
    events.append(2, "note", b'{"text":"50 percent of AxB"}')
    assert [row.eid for row in await events.history(q="50%")] == [1]
    assert [row.eid for row in await events.history(q='"a_b"')] == [1]


async def test_rows_of_the_original_that_hold_no_object_are_skipped_and_counted(
    logs: EventLogs, tmp_path: Path
) -> None:
    path = tmp_path / "events.sqlite"
    events = await logs.open(path)
    events.append(1, "note", b"{}")
    await events.flush()
    with sqlite3.connect(path) as conn:
        conn.executemany(
            "INSERT INTO events (ts, kind, payload_json) VALUES (?,?,?)",
            [(2, "note", "null"), (3, "note", None)],
        )
    conn.close()
    assert [row.eid for row in await events.history()] == [1]
    assert events.skipped == 2


async def test_the_sweep_removes_what_is_older_than_seven_days(logs: EventLogs, tmp_path: Path) -> None:
    events = await logs.open(tmp_path / "events.sqlite")
    day = 86400
    events.append(0, "note", b"{}")
    events.append(5 * day, "note", b"{}")
    assert await events.sweep(now=8 * day) == 1
    assert [row.eid for row in await events.history()] == [2]


async def test_without_a_writable_store_it_warns_and_keeps_nothing(
    logs: EventLogs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "hyperhive.eventlog"):
        events = await logs.open(tmp_path / "missing" / "events.sqlite")
    assert len(caplog.records) == 1
    assert not events.writable
    assert events.append(1, "note", b"{}") is None
    assert await events.history() == []
    assert await events.sweep(now=1) == 0


async def test_a_failing_append_warns_once_and_the_log_works_again_later(
    logs: EventLogs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.sqlite"
    events = await logs.open(path)
    with sqlite3.connect(path) as conn:
        conn.execute("ALTER TABLE events RENAME TO elsewhere")
    conn.close()
    with caplog.at_level(logging.WARNING, "hyperhive.eventlog"):
        for _ in range(3):
            assert events.append(1, "note", b"{}") is not None
            await events.flush()
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 1
    events.append(2, "note", b"{}")
    assert [row.eid for row in await events.history()][-1] == 4


async def test_a_thousand_logs_share_one_thread(logs: EventLogs, tmp_path: Path) -> None:
    before = threading.active_count()
    for n in range(60):
        (await logs.open(tmp_path / f"{n}.sqlite")).append(1, "note", b"{}")
    writers = [thread for thread in threading.enumerate() if thread.name == "hyperhive-eventlog"]
    assert len(writers) == 1
    assert threading.active_count() <= before + 2


async def test_the_oldest_rows_go_where_a_log_grows_beyond_its_size(
    logs: EventLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 8 * 2**20
    monkeypatch.setattr(eventlog, "KEPT_BYTES", limit)
    path = tmp_path / "events.sqlite"
    events = await logs.open(path)
    for _ in range(6):
        for n in range(2000):
            events.append(n, "note", b'{"text":"%s"}' % (b"x" * 2000))
        await events.flush()
    assert path.stat().st_size < 2 * limit, "what the oldest took is used again"
    with sqlite3.connect(path) as conn:
        oldest, newest, kept = conn.execute(
            "SELECT min(id), max(id), sum(length(payload_json)) FROM events"
        ).fetchone()
    conn.close()
    assert kept <= limit
    assert newest == 12_000
    assert oldest > 1
    assert [row.eid for row in await events.history()] == list(range(10_001, 12_001))


def crowded(events: EventLog) -> bool:
    return events.crowded


async def test_what_comes_too_fast_is_left_out_where_it_may_be_and_kept_again_when_it_is_quiet(
    logs: EventLogs, tmp_path: Path
) -> None:
    events = await logs.open(tmp_path / "events.sqlite")
    payload = b'{"type":"assistant","x":"%s"}' % (b"x" * 4000)
    cost = len(payload) + ROW_COST
    kept = [events.append(100, "stream", payload, optional=True) for _ in range(10_000)]
    number = sum(eid is not None for eid in kept)
    assert BURST_BYTES <= number * cost < BURST_BYTES + cost
    assert crowded(events)
    assert events.append(100, "turn_end", b"{}") == number + 1, "what must not be missing is there"
    kept = [events.append(100 + n // 1000, "stream", payload, optional=True) for n in range(10_000)]
    assert sum(eid is not None for eid in kept) * cost <= 10 * (RATE_BYTES + cost)
    assert crowded(events)
    later = 111 + BURST_BYTES // RATE_BYTES
    assert events.append(later, "stream", payload, optional=True) is not None
    assert not crowded(events)
    assert events.append(later - 3600, "stream", payload, optional=True) is not None, "a clock set back"
