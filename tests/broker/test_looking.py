"""Looking without touching: the operator's inbox, recent mail, counts, events; the sweep; old databases; plans."""

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from hyperhive.broker import Broker, InboxCounts, listings, rows
from hyperhive.broker.rows import NewMessage
from hyperhive.broker.schema import MIGRATIONS
from hyperhive.bus import Frame, Missed
from hyperhive.protocol.events import AnyDashboardEvent, Delivered, MessageState, Sent
from hyperhive.protocol.types import InboxRow
from hyperhive.store import Store
from hyperhive.store.connections import connect_writer
from hyperhive.testing import FakeClock

DAY = 86400


async def test_mail_to_the_operator_piles_up_until_it_is_marked_done(path: Path) -> None:
    async with Broker.open(path) as broker:
        for body in "abc":
            await broker.send("alice", "operator", body)
        await broker.send("alice", "bob", "not the operator's")
        assert await broker.pending("operator") == 3
        assert await broker.mark_done([1, 2, 2, 4, 99]) == 2
        assert await broker.mark_done([1]) == 0
        assert await broker.pending("operator") == 1
    async with Broker.open(path) as broker:
        assert [row.body for row in await broker.inbox()] == ["c"]
        done = await broker.inbox(include_done=True)
        assert [(row.body, row.done_at is not None) for row in done] == [
            ("c", False),
            ("b", True),
            ("a", True),
        ]
        assert [row.body for row in await broker.inbox(1, include_done=True)] == ["c"]
        assert await broker.pending("bob") == 1


async def test_recent_lists_the_newest_first_and_delivers_nothing(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock) as broker:
        await broker.send("alice", "carol", "not bob's")
        for n in range(120):
            await broker.send("alice", "bob", str(n))
        await broker.recv("bob", 5, 0)
        await broker.ack_turn("bob")
        row = InboxRow(id=121, sender="alice", body="119", at=int(clock.time()))
        assert (await broker.recent("bob", 1)) == [row]
        assert [one.body for one in await broker.recent("bob")] == [str(n) for n in range(119, 89, -1)]
        assert len(await broker.recent("bob", 1000)) == 100
        assert await broker.pending("bob") == 115
        await broker.send("alice", "bob", "new")
        assert [one.body for one in await broker.recent("bob", 2)] == ["new", "119"]
    async with Broker.open(path) as broker:
        assert [one.body for one in await broker.recent("bob", 2)] == ["new", "119"]
        assert await broker.recent("nobody") == []


async def test_counts_say_what_is_where(broker: Broker, clock: FakeClock) -> None:
    await broker.send("operator", "bob", "a")
    await clock.advance(10)
    await broker.send("operator", "bob", "b")
    await broker.send("operator", "bob", "c")
    await broker.recv("bob", 1, 0)
    await broker.send("operator", "carol", "d")
    await broker.recv("carol", 1, 0)
    await broker.dead_letter("carol", [4], "cancelled")
    assert await broker.counts() == {
        "bob": InboxCounts(pending=2, in_flight=1, oldest_at=int(clock.time())),
        "carol": InboxCounts(dead=1),
    }


def summary(event: AnyDashboardEvent) -> tuple[object, ...]:
    if isinstance(event, Sent | Delivered):
        return (type(event).__name__, event.id)
    assert isinstance(event, MessageState)
    return (event.state, event.id, event.turn, event.note)


async def test_events_tell_the_life_of_a_message(broker: Broker) -> None:
    async with broker.bus.subscribe() as frames:
        await broker.send("operator", "bob", "a")
        await broker.recv("bob", 1, 0, turn=7)
        await broker.requeue_inflight("bob", turn=7)
        await broker.recv("bob", 1, 0)
        await broker.dead_letter("bob", [1], "cancelled", turn=8)
        await broker.requeue_dead(1)
        await broker.recv("bob", 1, 0)
        await broker.ack_turn("bob", turn=9)
        seen = []
        while frames.ready:
            item = frames.next_nowait()
            assert isinstance(item, Frame)
            seen.append(summary(item.event))
    assert seen == [
        ("Sent", 1),
        ("pending", 1, None, None),
        ("Delivered", 1),
        ("in_flight", 1, 7, None),
        ("pending", 1, 7, None),
        ("Delivered", 1),
        ("in_flight", 1, None, None),
        ("dead", 1, 8, "cancelled"),
        ("pending", 1, None, None),
        ("Delivered", 1),
        ("in_flight", 1, None, None),
        ("acked", 1, 9, None),
    ]


async def test_sent_is_told_before_the_sender_goes_on(broker: Broker) -> None:
    async with broker.bus.subscribe() as frames:
        await broker.send("alice", "bob", "x" * 5000)
        item = frames.next_nowait()
        assert isinstance(item, Frame)
        assert isinstance(item.event, Sent)
        assert (len(item.event.body), item.event.cut) == (4096, True)


async def test_recent_reads_no_further_than_it_is_told(broker: Broker) -> None:
    for body in ("one", "two", "three"):
        await broker.send("alice", "bob", body)
    assert [row.body for row in await broker.recent("bob", 10, max_chars=1)] == ["three"]
    assert [row.body for row in await broker.recent("bob", 10, max_chars=6)] == ["three", "two"]


async def test_a_slow_subscriber_never_slows_a_sender_and_learns_what_it_lost(broker: Broker) -> None:
    slow = broker.bus.subscribe()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for n in range(300):
                group.start_soon(broker.send, "alice", "bob", str(n))
    assert slow.next_nowait() == Missed(344)


async def test_the_sweep_removes_old_acked_messages_and_nothing_else(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock) as broker:
        for n in range(4500):
            broker.store.submit(
                broker._sending._send_op, broker._sending.message("alice", "bob", str(n), "next_turn")
            )
        await broker.send("alice", "bob", "pending")
        while len(await broker.recv("bob", 1500, 0)) == 1500:
            pass
        await broker.ack_turn("bob", range(1, 4501))
        await broker.requeue_inflight("bob")
        await broker.dead_letter("bob", [m.id for m in await broker.recv("bob", 1, 0)], "cancelled")
        await clock.advance(31 * DAY)
        fresh = await broker.send("alice", "bob", "fresh")
        await broker.recv("bob", 1, 0)
        await broker.ack_turn("bob")
        assert await broker.vacuum(older_than_days=30) == 4500
        assert [letter.body for letter in await broker.dead()] == ["pending"]
        assert (await broker.send("alice", "bob", "next")).id > fresh.id


async def test_ids_are_never_used_again_after_a_sweep(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock) as broker:
        await broker.send("alice", "bob", "only one")
        await broker.recv("bob", 1, 0)
        await broker.ack_turn("bob")
        await clock.advance(90 * DAY)
        await broker.vacuum()
    async with Broker.open(path) as broker:
        assert (await broker.send("alice", "bob", "second")).id == 2


async def test_the_sweep_forgets_what_nobody_can_ask_for_any_more(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock) as broker:
        await broker.send("operator", "bob", "go")
        await broker.recv("bob", 1, 0)
        await broker.send("bob", "alice", "x", dedupe_key="k", call_id="c")
        await broker.vacuum()
        assert await broker.store.read(_remembered) == (2, 1)
        await broker.ack_turn("bob")
        await clock.advance(2 * DAY)
        await broker.vacuum()
        assert await broker.store.read(_remembered) == (0, 0)


def _remembered(conn: sqlite3.Connection) -> tuple[int, int]:
    (seen,) = conn.execute("SELECT count(*) FROM seen").fetchone()
    (repeats,) = conn.execute("SELECT count(*) FROM repeats").fetchone()
    return seen, repeats


@pytest.mark.parametrize("acked_column", [False, True])
async def test_a_database_of_the_original_is_taken_over(path: Path, acked_column: bool) -> None:
    with sqlite3.connect(path) as conn:
        conn.execute(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, sender TEXT NOT NULL,"
            " recipient TEXT NOT NULL, body TEXT NOT NULL, sent_at INTEGER NOT NULL, delivered_at INTEGER)"
        )
        conn.execute("INSERT INTO messages VALUES (1, 'alice', 'bob', 'done', 100, 101)")
        conn.execute("INSERT INTO messages VALUES (2, 'alice', 'bob', 'waits', 102, NULL)")
        if acked_column:
            conn.execute("ALTER TABLE messages ADD COLUMN acked_at INTEGER")
    conn.close()
    for _ in range(2):
        async with Broker.open(path) as broker:
            if acked_column:
                await broker.requeue_inflight("bob")
            batch = await broker.recv("bob", 9, 0)
            assert [message.body for message in batch] == (["done", "waits"] if acked_column else ["waits"])
            await broker.requeue_inflight("bob")
            assert (await broker.recent("bob"))[-1].body == "done"
    assert len(list(path.parent.glob("hive.sqlite.before-migration-*"))) == 1


# --- plans: what keeps ten million old messages free ----------------------------------------------------------------

HOT = {
    "next id": rows._NEXT_ID,
    "pop": rows._WAITING,
    "start: counts": rows._UNDONE,
    "start: in flight": rows._IN_FLIGHT,
    "start: oldest": rows._OLDEST,
    "lease": rows._LEASE,
    "unlease": rows._UNLEASE,
    "ack": rows._ACK,
    "late ack": rows._ACK_MAYBE,
    "requeue": rows._REQUEUE,
    "park": rows._PARK,
    "purge": listings._NOT_DONE,
}


@pytest.mark.parametrize("name", HOT)
async def test_the_hot_path_never_scans_the_table_nor_sorts(path: Path, name: str) -> None:
    async with Store.open(path, migrations=[MIGRATIONS]) as store:
        statement = HOT[name]

        def explain(conn: sqlite3.Connection) -> list[str]:
            highest = max((int(one) for one in _numbers(statement)), default=0)
            values = [0] * (highest or statement.count("?"))
            return [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}", values)]

        plan = await store.read(explain)
        # `max(id)` is a SEARCH for the last entry of the b-tree; the counts walk the index of what is not done.
        assert plan
        for step in plan:
            assert "USE TEMP B-TREE" not in step or name == "start: counts", plan
            assert step.startswith("SEARCH") or "INDEX unacked" in step or "TEMP B-TREE" in step, plan


def test_a_commit_of_many_sends_to_many_inboxes_writes_few_pages(path: Path) -> None:
    """However long their backlogs: what is not done is indexed in the order in which it came."""

    async def create() -> None:
        async with Broker.open(path):
            pass

    anyio.run(create)
    batch = [NewMessage("alice", f"r{number}", "x" * 100, 1) for number in range(32)]
    wal = path.with_name(f"{path.name}-wal")
    sizes = []
    with closing(connect_writer(path)) as conn:
        for _ in range(100):
            conn.execute("BEGIN IMMEDIATE")
            rows.send(conn, batch)
            conn.execute("COMMIT")
            sizes.append(wal.stat().st_size)
    assert (sizes[-1] - sizes[-2]) // 4096 <= 12


def _numbers(statement: str) -> list[str]:
    return [
        statement[at + 1]
        for at, char in enumerate(statement[:-1])
        if char == "?" and statement[at + 1].isdigit()
    ]
