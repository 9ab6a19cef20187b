"""A reader that outlives the broker's process holds messages whose hand-out the next broker has never heard of."""

from pathlib import Path

from hyperhive.broker import Broker
from hyperhive.broker.inbox import HEAD_COUNT
from hyperhive.testing import FakeClock


async def test_what_is_still_held_is_not_handed_out_again_and_can_be_acked(broker: Broker) -> None:
    ids = [(await broker.send("operator", "bob", body)).id for body in ("one", "two", "three")]
    assert await broker.retake("bob", [ids[1], 99]) == 1
    assert broker.in_flight_now("bob") == [ids[1]]
    assert [one.body for one in await broker.recv("bob", 5, 0)] == ["one", "three"]
    assert await broker.ack_turn("bob", [ids[1]]) == 1


async def test_it_is_in_flight_for_good(path: Path, clock: FakeClock) -> None:
    """The mark is on disk again: the next broker knows, and a requeue marks it."""
    async with Broker.open(path, clock=clock) as broker:
        held = (await broker.send("operator", "bob", "one")).id
        await broker.retake("bob", [held])
    async with Broker.open(path, clock=clock) as broker:
        assert broker.in_flight_now("bob") == [held]
        await broker.requeue_inflight("bob")
        assert [one.redelivered for one in await broker.recv("bob", 5, 0)] == [True]


async def test_what_is_in_flight_or_done_stays_as_it_is(broker: Broker) -> None:
    first, second = [(await broker.send("operator", "bob", body)).id for body in ("one", "two")]
    await broker.recv("bob", 2, 0)
    await broker.ack_turn("bob", [first])
    assert await broker.retake("bob", [first, second]) == 0
    assert broker.in_flight_now("bob") == [second]
    assert await broker.recv("bob", 5, 0) == []


async def test_it_is_found_however_many_wait_before_it(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock) as broker:
        for number in range(HEAD_COUNT + 4):
            await broker.send("operator", "bob", f"message {number}")
        last = await broker.send("operator", "bob", "the last")
    async with Broker.open(path, clock=clock) as broker:
        assert await broker.retake("bob", [last.id]) == 1
        assert broker.in_flight_now("bob") == [last.id]
        assert await broker.pending("bob") == HEAD_COUNT + 4
