"""Requests that must not happen twice: dedupe keys, turns that run again, calls that are said again, chains."""

import sqlite3
from pathlib import Path

from hyperhive.broker import Broker
from hyperhive.protocol.types import Receipt
from hyperhive.testing import FakeClock

DAY = 86400


async def start_turn(broker: Broker, name: str = "bob") -> None:
    await broker.send("operator", name, "do it")
    await broker.recv(name, 1, 0)


async def again(broker: Broker, name: str = "bob") -> None:
    await broker.requeue_inflight(name)
    await broker.recv(name, 32, 0)


async def sends(broker: Broker, *bodies: str) -> list[tuple[int, bool]]:
    receipts = [await broker.send("bob", "alice", body) for body in bodies]
    return [(receipt.id, receipt.duplicate) for receipt in receipts]


async def test_a_repeated_dedupe_key_gives_the_first_id_and_stores_nothing(broker: Broker) -> None:
    first = await broker.send("alice", "bob", "hi", dedupe_key="k")
    assert await broker.send("alice", "bob", "other", dedupe_key="k") == Receipt(id=first.id, duplicate=True)
    assert await broker.pending("bob") == 1


async def test_a_dedupe_key_is_its_senders_own(broker: Broker) -> None:
    await broker.send("alice", "bob", "hi", dedupe_key="k")
    assert not (await broker.send("carol", "bob", "hi", dedupe_key="k")).duplicate


async def test_a_dedupe_key_is_good_for_24_hours_whatever_the_wall_clock_says(
    broker: Broker, clock: FakeClock
) -> None:
    await broker.send("alice", "bob", "hi", dedupe_key="k")
    clock.jump(400 * DAY)
    assert (await broker.send("alice", "bob", "hi", dedupe_key="k")).duplicate
    clock.jump(-800 * DAY)
    assert (await broker.send("alice", "bob", "hi", dedupe_key="k")).duplicate
    await clock.advance(DAY + 1)
    assert not (await broker.send("alice", "bob", "hi", dedupe_key="k")).duplicate


async def test_a_dedupe_key_outlives_a_restart(path: Path) -> None:
    async with Broker.open(path) as broker:
        await broker.send("alice", "bob", "hi", dedupe_key="k")
    async with Broker.open(path) as broker:
        assert (await broker.send("alice", "bob", "hi", dedupe_key="k")).duplicate


async def test_two_equal_sends_in_one_turn_both_happen(broker: Broker) -> None:
    await start_turn(broker)
    assert await sends(broker, "x", "x") == [(2, False), (3, False)]


async def test_a_turn_that_runs_again_sends_nothing_twice(broker: Broker) -> None:
    """Pain 29: a message that comes again does nothing twice."""
    await start_turn(broker)
    assert await sends(broker, "x", "x", "y") == [(2, False), (3, False), (4, False)]
    await again(broker)
    assert await sends(broker, "x", "y", "x") == [(2, True), (4, True), (3, True)]
    assert await sends(broker, "x", "z") == [(5, False), (6, False)]
    await again(broker)
    assert await sends(broker, "x", "x", "x", "x") == [(2, True), (3, True), (5, True), (7, False)]


async def test_the_same_after_a_kill_between_two_attempts(path: Path) -> None:
    broker = await Broker.open(path)
    await start_turn(broker)
    assert await sends(broker, "x") == [(2, False)]
    await broker.store.abandon()
    async with Broker.open(path) as broker:
        await again(broker)
        assert await sends(broker, "x", "x") == [(2, True), (3, False)]


async def test_a_lease_is_never_on_disk_later_than_what_the_turn_sent(path: Path) -> None:
    broker = await Broker.open(path)
    await start_turn(broker)
    await sends(broker, "x")
    await broker.store.abandon()
    with sqlite3.connect(path) as conn:
        assert conn.execute("SELECT delivered_at IS NOT NULL FROM messages WHERE id = 1").fetchone() == (1,)
    conn.close()


async def test_a_repeat_key_never_matches_across_two_causes(broker: Broker) -> None:
    await start_turn(broker)
    assert await sends(broker, "x") == [(2, False)]
    await broker.ack_turn("bob")
    await start_turn(broker)
    assert await sends(broker, "x") == [(4, False)]


async def test_another_body_recipient_or_urgency_is_another_request(broker: Broker) -> None:
    await start_turn(broker)
    await broker.send("bob", "alice", "x")
    await again(broker)
    assert not (await broker.send("bob", "carol", "x")).duplicate
    assert not (await broker.send("bob", "alice", "x", urgency="soon")).duplicate
    assert (await broker.send("bob", "alice", "x")).duplicate


async def test_nothing_in_flight_means_no_repeat_key(broker: Broker) -> None:
    assert await sends(broker, "x") == [(1, False)]
    await again(broker)
    assert await sends(broker, "x") == [(2, False)]


async def test_a_send_may_be_said_to_be_repeatable(broker: Broker) -> None:
    await start_turn(broker)
    assert not (await broker.send("bob", "alice", "tick", repeatable=True)).duplicate
    await again(broker)
    assert not (await broker.send("bob", "alice", "tick", repeatable=True)).duplicate


async def test_a_call_that_is_said_again_gets_its_first_receipt(path: Path) -> None:
    async with Broker.open(path) as broker:
        first = await broker.send("bob", "alice", "x", call_id="c1")
        assert await broker.send("bob", "alice", "x", call_id="c1") == first
        assert await broker.send("bob", "alice", "x", call_id="c2") != first
        assert await broker.send("carol", "alice", "x", call_id="c1") != first
    async with Broker.open(path) as broker:
        assert await broker.send("bob", "alice", "x", call_id="c1") == first
        assert await broker.pending("alice") == 3


async def test_a_call_said_again_in_a_turn_does_not_use_up_a_repeat(broker: Broker) -> None:
    await start_turn(broker)
    first = await broker.send("bob", "alice", "x", call_id="c1")
    assert await broker.send("bob", "alice", "x", call_id="c1") == first
    await again(broker)
    repeat = await broker.send("bob", "alice", "x", call_id="c2")
    assert repeat == Receipt(id=first.id, duplicate=True)
    assert await broker.send("bob", "alice", "x", call_id="c2") == repeat
    assert not (await broker.send("bob", "alice", "x", call_id="c3")).duplicate


def chain_of(path: Path, number: int) -> tuple[int | None, int, int | None]:
    conn = sqlite3.connect(path)
    try:
        row = conn.execute("SELECT cause, hops, chain FROM messages WHERE id = ?", (number,)).fetchone()
    finally:
        conn.close()
    return row[0], row[1], row[2]


async def test_hops_count_how_far_a_message_is_from_the_start_of_its_chain(
    broker: Broker, path: Path
) -> None:
    await broker.send("operator", "bob", "go")
    await broker.recv("bob", 1, 0)
    await broker.send("bob", "alice", "one")
    await broker.recv("alice", 1, 0)
    await broker.send("alice", "bob", "two")
    await broker.recv("bob", 1, 0)
    await broker.send("bob", "alice", "three")
    assert [chain_of(path, number) for number in (1, 2, 3, 4)] == [
        (None, 0, None),
        (1, 1, 1),
        (2, 2, 1),
        (3, 3, 1),
    ]


async def test_hops_outlive_a_restart(path: Path) -> None:
    async with Broker.open(path) as broker:
        await start_turn(broker)
        await broker.send("bob", "alice", "one")
    async with Broker.open(path) as broker:
        await broker.recv("alice", 1, 0)
        await broker.send("alice", "bob", "two")
    assert chain_of(path, 3) == (2, 2, 1)


async def test_saying_a_dedupe_key_again_and_again_stores_nothing_at_all(broker: Broker) -> None:
    """S4: neither the message nor the calls that would have sent it; each of them gets the same answer all the same."""
    first = await broker.send("alice", "bob", "hi", dedupe_key="k", call_id="c0")
    for n in range(1, 5):
        for _ in range(2):
            again = await broker.send("alice", "bob", "hi", dedupe_key="k", call_id=f"c{n}")
            assert (again.id, again.duplicate) == (first.id, True)
    assert await broker.send("alice", "bob", "hi", dedupe_key="k", call_id="c0") == first
    [(rows,)] = await broker.store.read(lambda conn: conn.execute("SELECT count(*) FROM seen").fetchall())
    assert rows == 2
