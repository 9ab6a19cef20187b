"""Sending and handing out: order, waiting, many readers, readers that go away, and what is refused."""

import math
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.broker import Broker
from hyperhive.broker.bodies import check_body, cut_body
from hyperhive.errors import BadRequest, InvalidName, NotFound
from hyperhive.protocol.types import Delivery
from hyperhive.testing import FakeClock


async def bodies(broker: Broker, name: str, count: int = 32) -> list[str]:
    return [message.body for message in await broker.recv(name, count, 0)]


async def test_messages_come_out_in_the_order_of_their_ids(broker: Broker) -> None:
    ids = [(await broker.send("alice", "bob", str(n))).id for n in range(5)]
    assert ids == [1, 2, 3, 4, 5]
    assert await bodies(broker, "bob", 2) == ["0", "1"]
    assert await bodies(broker, "bob") == ["2", "3", "4"]


async def test_a_delivery_says_all_that_the_wire_promises(broker: Broker, clock: FakeClock) -> None:
    await broker.send("alice", "bob", "hi", urgency="soon")
    assert await broker.recv("bob", 1, 0) == [
        Delivery(id=1, sender="alice", recipient="bob", body="hi", at=int(clock.time()), urgency="soon")
    ]


async def test_each_inbox_is_its_own(broker: Broker) -> None:
    await broker.send("alice", "bob", "for bob")
    await broker.send("alice", "carol", "for carol")
    assert await bodies(broker, "carol") == ["for carol"]
    assert await broker.pending("bob") == 1


async def test_what_was_sent_survives_a_restart_in_order(path: Path) -> None:
    async with Broker.open(path) as broker:
        for n in range(3):
            await broker.send("alice", "bob", str(n))
    async with Broker.open(path) as broker:
        assert await broker.pending("bob") == 3
        assert await bodies(broker, "bob") == ["0", "1", "2"]


async def test_an_inbox_longer_than_memory_comes_out_whole_and_in_order(path: Path) -> None:
    async with Broker.open(path) as broker:
        async with anyio.create_task_group() as group:
            for n in range(2500):
                group.start_soon(broker.send, "alice", "bob", str(n))
        assert await broker.pending("bob") == 2500
        first = await broker.recv("bob", 1200, 0)
        rest: list[Delivery] = []
        while batch := await broker.recv("bob", 32, 0):
            rest += batch
        await broker.send("alice", "bob", "last")
        rest += await broker.recv("bob", 1, 0)
        ids = [message.id for message in (*first, *rest)]
        assert len(first) == 1200
        assert ids == list(range(1, 2502))


async def test_large_bodies_are_not_all_kept_in_memory_and_still_come_out_together(broker: Broker) -> None:
    for n in range(12):
        await broker.send("alice", "bob", f"{n:02}" + "x" * 200_000)
    out = await broker.recv("bob", 12, 0)
    assert [message.body[:2] for message in out] == [f"{n:02}" for n in range(12)]


async def test_recv_returns_the_moment_a_message_is_there(broker: Broker) -> None:
    got: list[str] = []

    async def reader() -> None:
        got.extend([message.body for message in await broker.recv("bob", 5, 30)])

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            await broker.send("alice", "bob", "now")
    assert got == ["now"]


async def test_recv_gives_up_when_its_time_is_up(broker: Broker, clock: FakeClock) -> None:
    got: list[list[Delivery]] = []

    async def reader(seconds: float) -> None:
        got.append(await broker.recv("bob", 1, seconds))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(reader, 60)
            group.start_soon(reader, 30)
            await clock.until_sleepers()
            await anyio.wait_all_tasks_blocked()
            await clock.advance(29)
            assert got == []
            await clock.advance(2)
            assert got == [[]]
            await clock.advance(30)
    assert got == [[], []]


async def test_a_jump_of_the_wall_clock_neither_ends_nor_lengthens_a_wait(
    broker: Broker, clock: FakeClock
) -> None:
    got: list[list[Delivery]] = []

    async def reader() -> None:
        got.append(await broker.recv("bob", 1, 30))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(reader)
            await clock.until_sleepers()
            clock.jump(86400)
            await clock.advance(1)
            assert got == []
            clock.jump(-10 * 86400)
            await clock.advance(30)
    assert got == [[]]


async def test_many_waiters_get_one_message_each_in_the_order_in_which_they_came(broker: Broker) -> None:
    got: list[tuple[int, str]] = []

    async def reader(number: int) -> None:
        [message] = await broker.recv("bob", 1, math.inf)
        got.append((number, message.body))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(reader, number)
                await anyio.wait_all_tasks_blocked()
            for body in "abc":
                await broker.send("alice", "bob", body)
    assert got == [(0, "a"), (1, "b"), (2, "c")]


async def test_a_waiter_drains_what_came_with_the_same_commit(broker: Broker) -> None:
    got: list[str] = []

    async def reader() -> None:
        got.extend([message.body for message in await broker.recv("bob", 10, math.inf)])

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            for body in "abc":
                group.start_soon(broker.send, "alice", "bob", body)
    assert got == ["a", "b", "c"]


async def test_a_cancelled_waiter_swallows_nothing(broker: Broker) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(broker.recv, "bob", 1, math.inf)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    await broker.send("alice", "bob", "still here")
    [message] = await broker.recv("bob", 1, 0)
    assert (message.body, message.redelivered) == ("still here", False)


@pytest.mark.parametrize("after", range(6))
async def test_a_waiter_cancelled_in_the_moment_of_its_wake_swallows_nothing(
    broker: Broker, after: int
) -> None:
    """Whatever number of loop steps lies between the commit and the cancellation."""
    got: list[Delivery] = []

    async def reader() -> None:
        got.extend(await broker.recv("bob", 1, math.inf))

    async def cancel_soon(scope: anyio.CancelScope) -> None:
        for _ in range(after):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        broker.bus.subscribe()  # a reader of events changes nothing
        sending = broker.store.submit(
            broker._sending._send_op, broker._sending.message("alice", "bob", "hi", "next_turn")
        )
        sending.add_done_callback(lambda _: group.start_soon(cancel_soon, group.cancel_scope))
        await anyio.sleep_forever()
    rest = await broker.recv("bob", 1, 0)
    assert len(got) + len(rest) == 1
    assert not any(message.redelivered for message in rest)
    assert len(broker.in_flight_now("bob")) == 1


async def test_the_next_waiter_gets_what_a_cancelled_one_leaves(broker: Broker) -> None:
    got: list[str] = []

    async def reader() -> None:
        got.extend([message.body for message in await broker.recv("bob", 1, math.inf)])

    with anyio.fail_after(5):
        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as first:
                first.start_soon(reader)
                await anyio.wait_all_tasks_blocked()
                outer.start_soon(reader)
                await anyio.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
            await broker.send("alice", "bob", "yours")
    assert got == ["yours"]


async def test_a_reply_that_could_not_be_written_is_undone_in_place_and_unmarked(broker: Broker) -> None:
    for body in "abc":
        await broker.send("alice", "bob", body)
    lease = await broker.take("bob", 2, 0)
    assert [message.body for message in lease.deliveries] == ["a", "b"]
    lease.undo()
    lease.undo()
    out = await broker.recv("bob", 5, 0)
    assert [message.body for message in out] == ["a", "b", "c"]
    assert not any(message.redelivered for message in out)


async def test_undo_survives_a_restart(path: Path) -> None:
    async with Broker.open(path) as broker:
        await broker.send("alice", "bob", "a")
        lease = await broker.take("bob", 1, 0)
        await broker.send("alice", "carol", "a commit that carries the lease")
        lease.undo()
    async with Broker.open(path) as broker:
        [message] = await broker.recv("bob", 1, 0)
        assert not message.redelivered


async def test_undo_leaves_alone_what_was_acked_since(broker: Broker) -> None:
    await broker.send("alice", "bob", "a")
    lease = await broker.take("bob", 1, 0)
    await broker.ack_turn("bob")
    lease.undo()
    assert await broker.pending("bob") == 0


async def test_min_urgency_takes_urgent_ones_in_order_and_leaves_the_rest_in_place(broker: Broker) -> None:
    for body, urgency in (("a", "next_turn"), ("b", "soon"), ("c", "interrupt"), ("d", "soon")):
        await broker.send("manager", "bob", body, urgency=urgency)  # type: ignore[arg-type]
    assert [m.body for m in await broker.recv("bob", 1, 0, "interrupt")] == ["c"]
    assert [m.body for m in await broker.recv("bob", 9, 0, "soon")] == ["b", "d"]
    assert await bodies(broker, "bob") == ["a"]


async def test_min_urgency_finds_what_lies_beyond_memory(path: Path) -> None:
    async with Broker.open(path) as broker:
        async with anyio.create_task_group() as group:
            for n in range(1500):
                group.start_soon(broker.send, "alice", "bob", str(n))
        await broker.send("manager", "bob", "stop", urgency="interrupt")
        assert [m.body for m in await broker.recv("bob", 5, 0, "interrupt")] == ["stop"]
        assert await broker.recv("bob", 5, 0, "interrupt") == []
        lease = await broker.take("bob", 2000, 0)
        assert len(lease.deliveries) == 1500


async def test_an_urgent_message_wakes_who_waits_for_urgent_ones_only(broker: Broker) -> None:
    got: list[str] = []

    async def reader() -> None:
        got.extend([message.body for message in await broker.recv("bob", 5, math.inf, "soon")])

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            await broker.send("alice", "bob", "no hurry")
            await broker.send("alice", "bob", "hurry", urgency="soon")
    assert got == ["hurry"]
    assert await bodies(broker, "bob") == ["no hurry"]


async def test_the_operators_mail_is_not_handed_out(broker: Broker) -> None:
    await broker.send("alice", "operator", "help")
    with pytest.raises(BadRequest):
        await broker.recv("operator", 1, 0)


@pytest.mark.parametrize(
    "body", ["", "  \n\t ", "a\0b", "lone \ud800 surrogate", "x" * 262_145, "é" * 131_073]
)
async def test_a_body_that_cannot_be_stored_is_refused_and_stores_nothing(broker: Broker, body: str) -> None:
    with pytest.raises(BadRequest):
        await broker.send("alice", "bob", body)
    assert await broker.pending("bob") == 0
    assert (await broker.send("alice", "bob", "x" * 262_144)).id == 1


@pytest.mark.parametrize("name", ["", "Bob", "-x", "a\n", "root", "all", "system", "a" * 64, "bob'; --"])
async def test_a_name_that_is_none_is_refused(broker: Broker, name: str) -> None:
    with pytest.raises(InvalidName):
        await broker.send("alice", name, "hi")


async def test_an_unknown_urgency_is_refused(broker: Broker) -> None:
    with pytest.raises(BadRequest):
        await broker.send("alice", "bob", "hi", urgency="now")  # type: ignore[arg-type]


async def test_with_a_directory_mail_to_a_name_that_never_existed_is_refused(path: Path) -> None:
    known = {"bob"}
    async with Broker.open(path, directory=known.__contains__) as broker:
        with pytest.raises(NotFound):
            await broker.send("alice", "carol", "hi")
        await broker.send("alice", "bob", "hi")
        await broker.send("alice", "operator", "hi")


async def test_closing_ends_waiters_with_nothing(path: Path) -> None:
    got: list[list[Delivery]] = []
    broker = await Broker.open(path)

    async def reader() -> None:
        got.append(await broker.recv("bob", 1, math.inf))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            await broker.aclose()
    assert got == [[]]


@given(st.text(max_size=5000))
def test_cut_bodies_are_whole_characters_within_the_limit(text: str) -> None:
    cut, was_cut = cut_body(text.encode("utf-8", "ignore").decode())
    assert len(cut.encode()) <= 4096
    assert text.encode("utf-8", "ignore").decode().startswith(cut)
    assert was_cut == (len(text.encode("utf-8", "ignore")) > 4096)


@given(st.text(alphabet=st.characters(), max_size=50))
def test_checked_bodies_can_be_written_as_utf8(text: str) -> None:
    try:
        body = check_body(text)
    except BadRequest:
        return
    assert body.encode().strip()
