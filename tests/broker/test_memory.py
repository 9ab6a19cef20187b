"""Inboxes longer than what memory holds: what is read early, put back late, or cannot be read at all."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from hyperhive.broker import Broker, handout, inbox, rows
from hyperhive.errors import StoreFailed
from hyperhive.testing import FakeClock

DISK = sqlite3.OperationalError("database or disk is full")


@pytest.fixture(autouse=True)
def _short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (inbox, handout, rows):
        monkeypatch.setattr(module, "HEAD_COUNT", 3)


async def loading(broker: Broker, name: str) -> None:
    """Returns when a load of this inbox was handed to the writer, and is not settled."""
    while broker._desk.inbox(name).refill is None:
        await anyio.lowlevel.checkpoint()


async def test_what_was_taken_early_and_put_back_during_a_load_comes_out_at_its_place(broker: Broker) -> None:
    for number in range(5):
        await broker.send("alice", "bob", f"plain {number}", urgency="soon" if number == 4 else "next_turn")
    await broker.send("alice", "bob", "plain 5")
    lease = await broker.take("bob", 1, 0, "soon", durable=True)
    assert [one.body for one in lease.deliveries] == ["plain 4"]
    first = await broker.recv("bob", 3, 0)
    async with asyncio.TaskGroup() as group:
        more = group.create_task(broker.recv("bob", 32, 0))
        await loading(broker, "bob")
        lease.undo()
    with anyio.fail_after(5):
        rest = await broker.recv("bob", 32, 0)
    got = sorted(one.id for one in (*first, *more.result(), *rest))
    assert got == [1, 2, 3, 4, 5, 6]
    assert broker.pending_now("bob") == 0


class Failing:
    """Makes a store operation fail as often as told."""

    def __init__(self, times: int) -> None:
        self.left = times

    def wrap(
        self, run: Callable[[sqlite3.Connection, Sequence[object]], object]
    ) -> Callable[[sqlite3.Connection, Sequence[object]], object]:
        def failing(conn: sqlite3.Connection, batch: Sequence[object]) -> object:
            if self.left:
                self.left -= 1
                raise DISK
            return run(conn, batch)

        return failing


async def test_urgent_mail_is_handed_out_in_order_while_no_lease_can_be_written(broker: Broker) -> None:
    for number in range(6):
        await broker.send("alice", "bob", f"plain {number}")
    urgent = [(await broker.send("alice", "bob", f"urgent {n}", urgency="soon")).id for n in range(2)]
    lease = broker._handout._lease_op
    lease.run = Failing(1_000).wrap(lease.run)  # type: ignore[arg-type, assignment]
    with anyio.fail_after(5):
        got = [one.id for _ in range(2) for one in await broker.recv("bob", 1, 0, "soon")]
        assert got == urgent
        assert await broker.recv("bob", 1, 0, "soon") == []


async def waiter_after_restart(
    path: Path, clock: FakeClock, times: int
) -> tuple[Broker, "asyncio.Task[object]"]:
    """A reader waits at an inbox whose only message is in flight; the next `times` loads fail; it goes back."""
    async with Broker.open(path, clock=clock) as broker:
        await broker.send("alice", "bob", "hi")
        await broker.recv("bob")
    broker = await Broker.open(path, clock=clock)
    waiting: asyncio.Task[object] = asyncio.create_task(broker.recv("bob", 1, 180))
    while not broker._desk.inbox("bob").waiters:
        await anyio.lowlevel.checkpoint()
    load = broker._handout._load_op
    load.run = Failing(times).wrap(load.run)  # type: ignore[arg-type, assignment]
    return broker, waiting


async def test_who_waits_is_told_when_the_disk_cannot_be_read(path: Path, clock: FakeClock) -> None:
    broker, waiting = await waiter_after_restart(path, clock, 1)
    assert await broker.requeue_inflight("bob") == 1
    with anyio.fail_after(5), pytest.raises(StoreFailed):
        await waiting
    assert [one.body for one in await broker.recv("bob", 1, 0)] == ["hi"], "and may ask again"
    await broker.aclose()


async def test_who_is_cancelled_in_the_moment_of_being_told_is_just_cancelled(
    path: Path, clock: FakeClock
) -> None:
    broker, waiting = await waiter_after_restart(path, clock, 1)
    [waiter] = broker._desk.inbox("bob").waiters
    waiter.future.set_exception(StoreFailed("the disk is full"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await broker.aclose()


async def test_a_start_knows_the_oldest_of_all_inboxes_and_reads_on(path: Path) -> None:
    async with Broker.open(path) as broker:
        for number in range(1, 10):
            await broker.send("alice", ("bob", "carol", "operator")[number % 3], f"{number}")
        await broker.recv("bob", 1, 0)
    async with Broker.open(path) as broker:
        assert {name: [entry.id for entry in found.head] for name, found in broker._desk.inboxes.items()} == {
            "bob": [6],
            "carol": [1, 4],
            "operator": [],
        }
        assert [await broker.pending(name) for name in ("bob", "carol", "operator")] == [2, 3, 3]
        assert [one.id for one in await broker.recv("carol", 9, 0)] == [1, 4, 7]
        await broker.requeue_inflight("bob")
        assert [one.id for one in await broker.recv("bob", 9, 0)] == [3, 6, 9]


async def test_a_start_reads_no_more_text_than_one_inbox_may_hold(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Broker.open(path) as broker:
        for name in ("bob", "carol", "dave"):
            await broker.send("alice", name, "x" * 600)
    monkeypatch.setattr(rows, "HEAD_CHARS", 1000)
    async with Broker.open(path) as broker:
        assert [len(broker._desk.inbox(name).head) for name in ("bob", "carol", "dave")] == [1, 1, 0]
        assert [len(await broker.recv(name, 1, 0)) for name in ("bob", "carol", "dave")] == [1, 1, 1]
