"""How handed-out messages end: acks, requeues, dead letters, and what a restart makes of them."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from hyperhive.broker import Broker, Limits
from hyperhive.errors import NotFound
from hyperhive.protocol.types import Delivery
from hyperhive.store import Operation


async def fill(broker: Broker, *bodies: str, to: str = "bob") -> None:
    for body in bodies:
        await broker.send("alice", to, body)


def told(batch: list[Delivery]) -> list[tuple[str, bool]]:
    return [(message.body, message.redelivered) for message in batch]


async def test_an_ack_without_ids_covers_what_was_popped_since_the_last_ack_or_requeue(
    broker: Broker,
) -> None:
    await fill(broker, "a", "b", "c", "d")
    await broker.recv("bob", 2, 0)
    assert await broker.requeue_inflight("bob") == 2
    assert told(await broker.recv("bob", 1, 0)) == [("a", True)]
    assert await broker.ack_turn("bob") == 1
    assert await broker.ack_turn("bob") == 0
    assert told(await broker.recv("bob", 9, 0)) == [("b", True), ("c", False), ("d", False)]


async def test_an_ack_by_ids_covers_exactly_these(broker: Broker) -> None:
    await fill(broker, "a", "b", "c")
    first, second, third = await broker.recv("bob", 3, 0)
    assert await broker.ack_turn("bob", [second.id, second.id, 999]) == 1
    assert broker.in_flight_now("bob") == [first.id, third.id]


async def test_nobody_acks_or_requeues_anothers(broker: Broker) -> None:
    await fill(broker, "a")
    [message] = await broker.recv("bob", 1, 0)
    assert await broker.ack_turn("carol", [message.id]) == 0
    assert await broker.ack_turn("carol") == 0
    assert await broker.requeue_inflight("carol", [message.id]) == 0
    assert broker.in_flight_now("bob") == [message.id]


async def test_what_was_never_handed_out_cannot_be_acked(broker: Broker) -> None:
    await fill(broker, "a", "b")
    assert await broker.ack_turn("bob", [1, 2]) == 0
    assert told(await broker.recv("bob", 9, 0)) == [("a", False), ("b", False)]


async def test_an_ack_just_after_a_requeue_still_counts_until_it_is_handed_out_again(broker: Broker) -> None:
    await fill(broker, "a", "b")
    first, second = await broker.recv("bob", 2, 0)
    await broker.requeue_inflight("bob")
    assert await broker.ack_turn("bob", [first.id]) == 1
    assert told(await broker.recv("bob", 9, 0)) == [("b", True)]
    assert await broker.ack_turn("bob", [first.id, second.id]) == 1


async def test_an_ack_and_a_requeue_at_the_same_moment_agree(broker: Broker) -> None:
    for ack_first in (True, False):
        await fill(broker, "a")
        [message] = await broker.recv("bob", 1, 0)
        counts: dict[str, int] = {}

        async def ack(number: int = message.id, counts: dict[str, int] = counts) -> None:
            counts["ack"] = await broker.ack_turn("bob", [number])

        async def requeue(counts: dict[str, int] = counts) -> None:
            counts["requeue"] = await broker.requeue_inflight("bob")

        async with anyio.create_task_group() as group:
            for step in (ack, requeue) if ack_first else (requeue, ack):
                group.start_soon(step)
        assert counts["ack"] == 1
        assert await broker.recv("bob", 1, 0) == []
        assert broker.in_flight_now("bob") == []


async def test_two_requeues_at_once_put_a_message_back_once(broker: Broker) -> None:
    await fill(broker, "a")
    await broker.recv("bob", 1, 0)
    counts: list[int] = []

    async def requeue() -> None:
        counts.append(await broker.requeue_inflight("bob"))

    async with anyio.create_task_group() as group:
        group.start_soon(requeue)
        group.start_soon(requeue)
    assert sorted(counts) == [0, 1]
    assert told(await broker.recv("bob", 9, 0)) == [("a", True)]


async def test_requeued_ones_come_out_in_order_before_newer_ones(broker: Broker) -> None:
    await fill(broker, "a", "b", "c")
    await broker.recv("bob", 2, 0)
    await fill(broker, "d")
    await broker.requeue_inflight("bob")
    assert told(await broker.recv("bob", 9, 0)) == [("a", True), ("b", True), ("c", False), ("d", False)]


async def test_a_requeue_of_some_leaves_the_others_in_flight(broker: Broker) -> None:
    await fill(broker, "a", "b")
    first, second = await broker.recv("bob", 2, 0)
    assert await broker.requeue_inflight("bob", [second.id]) == 1
    assert broker.in_flight_now("bob") == [first.id]


async def test_taken_by_a_recv_call_inside_the_turn_is_acked_with_it(broker: Broker) -> None:
    await fill(broker, "a", "b", "c")
    [first] = await broker.recv("bob", 1, 0)
    [second] = await broker.recv("bob", 1, 0)
    broker.mark_taken("bob", [second.id, 999])
    [third] = await broker.recv("bob", 1, 0)
    assert await broker.ack_turn("bob", [first.id], taken=True) == 2
    assert broker.in_flight_now("bob") == [third.id]


async def test_a_requeue_forgets_what_a_recv_call_took(broker: Broker) -> None:
    await fill(broker, "a")
    [message] = await broker.recv("bob", 1, 0)
    broker.mark_taken("bob", [message.id])
    await broker.requeue_inflight("bob")
    await broker.recv("bob", 1, 0)
    assert await broker.ack_turn("bob", [], taken=True) == 0


async def test_what_was_in_flight_stays_so_over_a_restart_until_it_is_requeued(path: Path) -> None:
    async with Broker.open(path) as broker:
        await fill(broker, "a", "b")
        await broker.recv("bob", 1, 0)
    async with Broker.open(path) as broker:
        assert await broker.pending("bob") == 1
        assert told(await broker.recv("bob", 9, 0)) == [("b", False)]
        assert await broker.requeue_inflight("bob") == 2
        assert told(await broker.recv("bob", 9, 0)) == [("a", True), ("b", True)]


async def test_after_a_kill_messages_are_acked_or_come_again(path: Path) -> None:
    broker = await Broker.open(path)
    await fill(broker, "a", "b", "c")
    await broker.recv("bob", 1, 0)
    await broker.ack_turn("bob")
    await broker.recv("bob", 1, 0)
    await broker.store.abandon()
    async with Broker.open(path) as broker:
        await broker.requeue_inflight("bob")
        assert [body for body, _ in told(await broker.recv("bob", 9, 0))] == ["b", "c"]


async def test_a_durable_hand_out_is_marked_even_if_the_process_dies_at_once(path: Path) -> None:
    broker = await Broker.open(path)
    await fill(broker, "a")
    await broker.recv("bob", 1, 0, durable=True)
    await broker.store.abandon()
    async with Broker.open(path) as broker:
        assert await broker.requeue_inflight("bob") == 1
        assert told(await broker.recv("bob", 1, 0)) == [("a", True)]


async def test_a_durable_hand_out_that_is_cancelled_swallows_nothing(broker: Broker) -> None:
    await fill(broker, "a")
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: broker.recv("bob", 1, 0, durable=True))
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert told(await broker.recv("bob", 1, 0)) == [("a", False)]


async def test_a_message_that_fails_by_itself_too_often_becomes_a_dead_letter(path: Path) -> None:
    async with Broker.open(path, limits=Limits(dead_after=3)) as broker:
        await fill(broker, "poison")
        number = 1
        for tries in range(3):
            assert [message.id for message in await broker.recv("bob", 1, 0)] == [number]
            assert await broker.requeue_inflight("bob", blame="the CLI crashed") == (1 if tries < 2 else 0)
        assert await broker.pending("bob") == 0
        [letter] = await broker.dead()
        assert (letter.id, letter.recipient, letter.reason, letter.tries) == (
            number,
            "bob",
            "the CLI crashed",
            3,
        )
        [mail] = await broker.recv("alice", 9, 0)
        assert mail.sender == "system"
        assert f"message {number} to bob" in mail.body
        assert "the CLI crashed" in mail.body


async def test_failures_that_are_not_the_messages_own_never_kill_it(broker: Broker) -> None:
    await fill(broker, "patient")
    for _ in range(50):
        assert len(await broker.recv("bob", 1, 0)) == 1
        await broker.requeue_inflight("bob")
    assert await broker.dead() == []


async def test_the_operator_and_the_system_get_no_mail_about_their_dead_letters(broker: Broker) -> None:
    await broker.send("operator", "bob", "a")
    await broker.send("system", "bob", "b")
    for message in await broker.recv("bob", 9, 0):
        await broker.dead_letter("bob", [message.id], "cancelled")
    assert [letter.sender for letter in await broker.dead()] == ["system", "operator"]
    assert await broker.pending("operator") == 0


async def test_the_messages_of_a_cancelled_turn_become_dead_letters(broker: Broker) -> None:
    await fill(broker, "a", "b")
    [first] = await broker.recv("bob", 1, 0)
    assert await broker.dead_letter("bob", [first.id, 2, 999], "cancelled") == 1
    assert [(letter.id, letter.reason) for letter in await broker.dead()] == [(1, "cancelled")]
    assert told(await broker.recv("bob", 9, 0)) == [("b", False)]


async def test_a_dead_letter_requeued_by_hand_comes_first_and_starts_anew(broker: Broker) -> None:
    await fill(broker, "a", "b")
    await broker.recv("bob", 1, 0)
    await broker.dead_letter("bob", [1], "cancelled")
    await broker.requeue_dead(1)
    assert told(await broker.recv("bob", 9, 0)) == [("a", True), ("b", False)]
    assert await broker.dead() == []
    for _ in range(4):
        await broker.requeue_inflight("bob", blame="stuck")
        await broker.recv("bob", 9, 0)
    assert await broker.dead() == []


async def test_a_dropped_dead_letter_is_gone_for_good(path: Path) -> None:
    async with Broker.open(path) as broker:
        await fill(broker, "a")
        await broker.recv("bob", 1, 0)
        await broker.dead_letter("bob", [1], "cancelled")
        await broker.drop_dead(1)
        for again in (broker.drop_dead, broker.requeue_dead):
            with pytest.raises(NotFound):
                await again(1)
    async with Broker.open(path) as broker:
        assert await broker.dead() == []
        assert await broker.recv("bob", 9, 0) == []


async def test_dead_letters_stay_dead_over_a_restart(path: Path) -> None:
    async with Broker.open(path) as broker:
        await fill(broker, "a", "b")
        await broker.recv("bob", 1, 0)
        await broker.dead_letter("bob", [1], "cancelled")
    async with Broker.open(path) as broker:
        assert told(await broker.recv("bob", 9, 0)) == [("b", False)]
        await broker.requeue_dead(1)
        assert [body for body, _ in told(await broker.recv("bob", 9, 0))] == ["a"]


async def test_a_blaming_requeue_that_is_asked_again_by_its_id_counts_once(path: Path) -> None:
    limits = Limits(dead_after=2)
    async with Broker.open(path, limits=limits) as broker:
        await fill(broker, "hi")
        [message] = await broker.recv("bob")
        await broker.requeue_inflight("bob", [message.id], blame="stuck", call_id="a")
    async with Broker.open(path, limits=limits) as broker:  # the reply was lost with the process
        await broker.retake("bob", [message.id])
        assert await broker.requeue_inflight("bob", [message.id], blame="stuck", call_id="a") == 1
        assert await broker.dead() == []
        assert told(await broker.recv("bob", 1, 0)) == [("hi", True)]
        assert await broker.requeue_inflight("bob", [message.id], blame="stuck", call_id="b") == 0
        assert [letter.tries for letter in await broker.dead()] == [2]


@pytest.mark.parametrize("purged_first", [True, False])
async def test_a_purge_and_an_ack_at_once_end_the_message_once(broker: Broker, purged_first: bool) -> None:
    await broker.send("alice", "bob", "hi")
    await broker.recv("bob")
    both = [broker.purge("bob"), broker.ack_turn("bob")]
    results = await asyncio.gather(*(both if purged_first else reversed(both)))
    assert results[0 if purged_first else 1] == len(await broker.dead()) == purged_first
    assert broker.in_flight_now("bob") == []
    await broker.send("alice", "bob", "after")
    assert [one.body for one in await broker.recv("bob", 5, 0)] == ["after"]


async def test_a_purge_makes_dead_letters_of_all_mail_and_tells_each_sender_once(broker: Broker) -> None:
    await fill(broker, "a", "b", "c")
    await broker.send("carol", "bob", "d")
    await broker.recv("bob", 1, 0)
    assert await broker.purge("bob") == 4
    assert await broker.pending("bob") == 0
    assert broker.in_flight_now("bob") == []
    assert len(await broker.dead()) == 4
    [to_alice] = await broker.recv("alice", 9, 0)
    assert "messages 1, 2, 3 to bob" in to_alice.body
    await fill(broker, "to the next bob")
    assert told(await broker.recv("bob", 9, 0)) == [("to the next bob", False)]


async def test_a_held_message_is_not_handed_out_until_it_is_released(broker: Broker) -> None:
    await fill(broker, "a", "b")
    await broker.store.submit(HOLD, 1)
    broker._desk.inbox("bob").remove_waiting(1)
    assert told(await broker.recv("bob", 9, 0)) == [("b", False)]
    await broker.release_held(1)
    assert told(await broker.recv("bob", 9, 0)) == [("a", False)]
    with pytest.raises(NotFound):
        await broker.drop_held(1)


def _hold(conn: sqlite3.Connection, batch: Sequence[int]) -> list[None]:
    conn.executemany("UPDATE messages SET parked = 'held' WHERE id = ?", [(number,) for number in batch])
    return [None] * len(batch)


HOLD: Operation[int, None] = Operation("hold", _hold)
