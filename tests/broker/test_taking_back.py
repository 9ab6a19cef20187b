"""A message of the operator's that nobody has read can be taken back, and is never handed out; any other stays."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from hyperhive.broker import Broker
from hyperhive.broker.inbox import HEAD_COUNT
from hyperhive.errors import Conflict, Forbidden, NotFound, StoreFailed
from hyperhive.testing import FakeClock


async def told(broker: Broker, *bodies: str) -> list[int]:
    return [(await broker.send("operator", "bob", body)).id for body in bodies]


async def bodies(broker: Broker, count: int = 32) -> list[str]:
    return [message.body for message in await broker.recv("bob", count, 0)]


async def test_what_waits_is_taken_back_and_the_others_keep_their_places(broker: Broker) -> None:
    first, second, third = await told(broker, "a", "b", "c")
    await broker.take_back(second)
    assert await broker.pending("bob") == 2
    assert await bodies(broker) == ["a", "c"]
    assert broker.in_flight_now("bob") == [first, third]
    with pytest.raises(Conflict, match="dropped already"):
        await broker.take_back(second)


async def test_it_stays_taken_back_over_a_restart_and_is_shown_as_dropped(
    path: Path, clock: FakeClock
) -> None:
    async with Broker.open(path, clock=clock) as broker:
        first, _ = await told(broker, "a", "b")
        await broker.take_back(first)
    async with Broker.open(path, clock=clock) as broker:
        assert await broker.dead() == []
        assert await bodies(broker) == ["b"]
        seen = {message.id: message.events[-1][1] for message in await broker.past()}
        assert (seen[first].state, seen[first].note) == ("acked", "dropped")  # type: ignore[union-attr]


async def test_what_was_handed_out_or_read_is_not_taken_back(broker: Broker) -> None:
    first, second = await told(broker, "a", "b")
    assert await bodies(broker, 1) == ["a"]
    with pytest.raises(Conflict, match="handed to bob already"):
        await broker.take_back(first)
    await broker.ack_turn("bob")
    with pytest.raises(Conflict, match="bob has read"):
        await broker.take_back(first)
    assert await bodies(broker) == ["b"]
    await broker.requeue_inflight("bob")
    await broker.take_back(second)
    assert await bodies(broker) == []


async def test_only_the_operators_own_mail_and_only_what_there_is(broker: Broker) -> None:
    other = (await broker.send("alice", "bob", "hers")).id
    mine = (await broker.send("operator", "operator", "a note")).id
    with pytest.raises(Forbidden, match="alice's"):
        await broker.take_back(other)
    with pytest.raises(Conflict, match="own inbox"):
        await broker.take_back(mine)
    with pytest.raises(NotFound):
        await broker.take_back(999)
    assert await bodies(broker) == ["hers"]


async def test_of_a_reader_and_who_takes_it_back_one_gets_it(broker: Broker) -> None:
    """In every interleaving: what was taken back is in no hand, and what is in a hand was not taken back."""
    for turn in range(40):
        [number] = await told(broker, f"m{turn}")
        back: list[bool] = []

        async def take_back(number: int = number, back: list[bool] = back, pause: int = turn % 8) -> None:
            for _ in range(pause):
                await anyio.lowlevel.checkpoint()
            try:
                await broker.take_back(number)
                back.append(True)
            except Conflict:
                back.append(False)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_back)
            for _ in range(turn % 5):
                await anyio.lowlevel.checkpoint()
            got = await bodies(broker)
        got += await bodies(broker)
        assert (got == []) is back[0]
        await broker.ack_turn("bob")
        assert await broker.pending("bob") == 0


@pytest.fixture
async def deep(path: Path, clock: FakeClock) -> AsyncIterator[Broker]:
    """More waits than memory holds, the last ten of it the operator's."""
    async with Broker.open(path, clock=clock) as broker:
        for _ in range(HEAD_COUNT + 20):
            await broker.send("alice", "bob", "x")
        yield broker


async def test_it_is_taken_back_from_beyond_what_is_in_memory(deep: Broker) -> None:
    """Also while what waits on disk is being read: nobody counts wrongly, and what was taken back is in no hand."""
    ids = await told(deep, *(f"mine {n}" for n in range(10)))
    await deep.take_back(ids[3])
    gone = {3}

    async def take_back(which: int) -> None:
        with suppress(Conflict):
            await deep.take_back(ids[which])
            gone.add(which)

    got: list[str] = []
    while await deep.pending("bob"):
        async with anyio.create_task_group() as tasks:
            for which in range(4, 10):
                tasks.start_soon(take_back, which)
            got += [message.body for message in await deep.recv("bob", 300, 0)]
    assert [body for body in got if body != "x"] == [f"mine {n}" for n in range(10) if n not in gone]
    assert got.count("x") == HEAD_COUNT + 20
    assert gone >= {3, 4}
    assert await deep.pending("bob") == 0


async def test_where_the_disk_refuses_it_waits_as_before(broker: Broker, path: Path) -> None:
    first, _ = await told(broker, "a", "b")
    with sqlite3.connect(path) as conn:
        conn.execute(
            "CREATE TRIGGER no BEFORE UPDATE OF parked ON messages BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(StoreFailed):
        await broker.take_back(first)
    assert await broker.pending("bob") == 2
    assert await bodies(broker) == ["a", "b"]
