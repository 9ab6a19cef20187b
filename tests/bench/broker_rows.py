"""The broker's rows: durable sends, full cycles, one sender and one receiver, wake-up, and ten million old messages."""

import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from tests.bench import baselines
from tests.bench.baselines import BODY
from tests.bench.table import Goal, Group, Sample, timed

from hyperhive.broker import Broker

SENDS, CYCLES, SLOW = 1000, 640, 64
OLD_ROWS = int(os.environ.get("HYPERHIVE_BENCH_ROWS", "10000000"))


def _run(work: Callable[[Path], Coroutine[Any, Any, Sample]]) -> Callable[[Path], Sample]:
    return lambda path: anyio.run(work, path)


async def _sends(path: Path) -> Sample:
    async with Broker.open(path / "hive.sqlite") as broker:

        async def sender(recipient: str) -> None:
            for _ in range(SENDS):
                await broker.send("alice", recipient, BODY)

        begin = time.perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(32):
                group.start_soon(sender, f"r{number}")
        return Sample(32 * SENDS / (time.perf_counter() - begin), 32 * SENDS)


async def _cycle(path: Path, inboxes: int, each: int) -> Sample:
    async with Broker.open(path / "hive.sqlite") as broker:

        async def sender(recipient: str) -> None:
            for _ in range(each):
                await broker.send("alice", recipient, BODY)

        async def reader(name: str) -> None:
            got = 0
            while got < each:
                got += len(await broker.recv(name, 32, 60))
                await broker.ack_turn(name)

        begin = time.perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(inboxes):
                group.start_soon(sender, f"r{number}")
                group.start_soon(reader, f"r{number}")
        return Sample(inboxes * each / (time.perf_counter() - begin), inboxes * each)


async def _wakes(path: Path, count: int) -> Sample:
    took: list[float] = []
    begun = 0.0
    async with Broker.open(path / "hive.sqlite") as broker:

        async def reader() -> None:
            for _ in range(count):
                await broker.recv("bob", 32, 60)
                took.append(time.perf_counter() - begun)
                await broker.ack_turn("bob")
                taken.set()

        async with anyio.create_task_group() as group:
            taken = anyio.Event()
            group.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            for _ in range(count):
                begun = time.perf_counter()
                await broker.send("alice", "bob", BODY)
                await taken.wait()
                taken = anyio.Event()
    return Sample(statistics.median(took) * 1000, count)


def _group_commit_wakes(path: Path) -> Sample:
    took = baselines.group_commit_wakes(path, 300)
    return Sample(statistics.median(took) * 1000, len(took))


# --- old messages ---------------------------------------------------------------------------------------------------

_keep = tempfile.TemporaryDirectory(prefix="hyperhive-bench-old-")
_OLD: dict[int, Path] = {}


def _filled(rows: int) -> Path:
    """A database with so many acked messages, made once and used by every round."""
    if rows in _OLD:
        return _OLD[rows]
    path = Path(_keep.name) / f"{rows}.sqlite"

    async def create() -> None:
        async with Broker.open(path):
            pass

    anyio.run(create)
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA synchronous=OFF").fetchall()
    conn.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO messages (id, sender, recipient, body, sent_at, delivered_at, acked_at)"
        " SELECT i, 'alice', 'r' || (i % 32), ?, 1700000000, 1700000001, 1700000002 FROM n",
        (rows, BODY),
    )
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    conn.close()
    _OLD[rows] = path
    return path


async def _with_old_rows(path: Path, what: str) -> Sample:
    """The time of one step: the median over 15 starts, or over the inboxes of 32 agents with 32 messages each."""
    times: dict[str, list[float]] = {"start": [], "pop": [], "ack": [], "requeue": []}
    for _ in range(15 if what == "start" else 0):
        begin = time.perf_counter()
        broker = await Broker.open(path)
        times["start"].append(time.perf_counter() - begin)
        await broker.aclose()
    if what == "start":
        return Sample(statistics.median(times["start"]) * 1000)
    broker = await Broker.open(path)
    try:
        names = [f"r{number}" for number in range(32)]
        async with anyio.create_task_group() as group:
            for name in names * 32:
                group.start_soon(broker.send, "alice", name, BODY)
        for name in names:
            for step, call in (
                ("pop", partial(broker.recv, name, 32, 0)),
                ("requeue", partial(broker.requeue_inflight, name)),
                ("", partial(broker.recv, name, 32, 0)),
                ("ack", partial(broker.ack_turn, name)),
            ):
                begin = time.perf_counter()
                await call()
                if step:
                    times[step].append(time.perf_counter() - begin)
    finally:
        await broker.aclose()
    return Sample(statistics.median(times[what]) * 1000, 0)


def _old(rows: int, what: str) -> Callable[[Path], Sample]:
    return lambda _: anyio.run(_with_old_rows, _filled(rows), what)


# --- the table ------------------------------------------------------------------------------------------------------


def groups() -> list[Group]:
    """The broker's groups."""
    us = "hyperhive"
    return [
        Group(
            "durable send, 32 senders",
            "/s",
            {
                us: _run(_sends),
                "floor (32 a commit)": lambda path: timed(partial(baselines.floor, path, 32 * SENDS)),
                "floor, indexed by id as ours": lambda path: timed(
                    partial(baselines.floor, path, 32 * SENDS, baselines.BY_ID)
                ),
                "plain group commit": lambda path: timed(
                    partial(baselines.group_commit_sends, path, 32, SENDS)
                ),
                "one fsync each": lambda path: timed(partial(baselines.one_fsync_each, path, 4 * SENDS)),
                "litequeue (not power-safe)": lambda path: timed(
                    partial(baselines.litequeue_sends, path, 4 * SENDS)
                ),
                "persist-queue": lambda path: timed(partial(baselines.persistqueue_sends, path, 2 * SENDS)),
            },
            [
                Goal(us, "one fsync each", 7, 10),
                Goal(us, "plain group commit", 1.8, 2.5),
                Goal(us, "floor (32 a commit)", 0.6, 0.8),
            ],
            flush_goal=(us, 0.05, 0.03),
        ),
        Group(
            "full cycle (send, recv 32, ack), 32 inboxes",
            "/s",
            {
                us: _run(lambda path: _cycle(path, 32, CYCLES)),
                "plain group commit": lambda path: timed(
                    partial(baselines.group_commit_cycles, path, 32, CYCLES)
                ),
                "litequeue (not power-safe)": lambda path: timed(
                    partial(baselines.litequeue_cycles, path, 32, SLOW)
                ),
                "persist-queue": lambda path: timed(partial(baselines.persistqueue_cycles, path, 4, SLOW)),
            },
            [Goal(us, "plain group commit", 2, 3), Goal(us, "litequeue (not power-safe)", 12, 20)],
        ),
        Group(
            "one sender, one receiver",
            "/s",
            {
                us: _run(lambda path: _cycle(path, 1, 1500)),
                "one fsync each": lambda path: timed(partial(baselines.one_fsync_each_cycles, path, 1500)),
                "plain group commit": lambda path: timed(
                    partial(baselines.group_commit_cycles, path, 1, 1500)
                ),
            },
            [Goal(us, "one fsync each", 0.6, 0.9)],
        ),
        Group(
            "wake: from send to the waiting reader, p50",
            " ms",
            {us: _run(lambda path: _wakes(path, 300)), "plain group commit": _group_commit_wakes},
            [Goal(us, "plain group commit", 0.8, 0.6, at_most=True)],
        ),
        *(
            Group(
                f"{what} with {OLD_ROWS:,} acked messages against 1,000",
                " ms",
                {f"{OLD_ROWS:,}": _old(OLD_ROWS, key), "1,000": _old(1000, key)},
                [Goal(f"{OLD_ROWS:,}", "1,000", 1.2, at_most=True)],
                count_flushes=False,
            )
            for what, key in (("pop", "pop"), ("ack", "ack"), ("requeue", "requeue"), ("start-up", "start"))
        ),
    ]
