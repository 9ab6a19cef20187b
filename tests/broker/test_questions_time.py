"""Questions over time: expiry, clocks that jump, restarts, repeats, chains, retention."""

import asyncio
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest

from hyperhive.broker import Broker, Limits, QuestionRow
from hyperhive.bus import Missed
from hyperhive.errors import (
    BadRequest,
    Conflict,
    LimitReached,
    NotFound,
)
from hyperhive.protocol.events import QuestionAdded, QuestionResolved, Sent
from hyperhive.protocol.types import ToolCall
from hyperhive.store import Operation
from hyperhive.testing import FakeClock
from questions import resolved, told


async def test_a_question_expires_when_its_time_is_up_and_not_before(
    broker: Broker, clock: FakeClock
) -> None:
    late = await broker.questions.ask("alice", "Late?", ttl_seconds=60)
    soon = await broker.questions.ask("alice", "Soon?", ttl_seconds=10)
    await broker.questions.ask("alice", "Whenever?")
    await clock.advance(9.5)
    assert len(broker.questions.open_now()) == 3
    await clock.advance(0.5)
    await resolved(broker, soon)
    row = await broker.questions.find(soon)
    assert (row.answer, row.answerer) == ("[expired]", "ttl-watchdog")
    await clock.advance(50)
    await resolved(broker, late)
    events = await told(broker, "alice")
    assert [(event["id"], event["answer"]) for event in events] == [(soon, "[expired]"), (late, "[expired]")]
    with pytest.raises(Conflict, match="expired"):
        await broker.questions.answer(soon, "too late", by="operator")


async def test_a_clock_that_jumps_expires_nothing_early_and_keeps_nothing_alive(
    broker: Broker, clock: FakeClock
) -> None:
    number = await broker.questions.ask("alice", "Soon?", ttl_seconds=60)
    clock.jump(86_400)
    await clock.advance(30)
    assert [known.id for known in broker.questions.open_now()] == [number]
    clock.jump(-10 * 86_400)
    await clock.advance(30)
    await resolved(broker, number)
    assert broker.questions.open_now() == []


async def test_overdue_questions_expire_at_once_after_a_restart(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock) as broker:
        overdue = await broker.questions.ask("alice", "Soon?", ttl_seconds=60)
        later = await broker.questions.ask("alice", "Later?", ttl_seconds=7200)
    await clock.advance(3600)
    async with Broker.open(path, clock=clock) as broker:
        await resolved(broker, overdue)
        assert [known.id for known in broker.questions.open_now()] == [later]
    clock.jump(
        -30 * 86_400
    )  # put back while the hive was down: it waits for no longer than it was to wait at first
    async with Broker.open(path, clock=clock) as broker:
        await clock.advance(7200)
        await resolved(broker, later)


async def test_an_expiry_that_the_disk_refused_is_tried_again(broker: Broker, clock: FakeClock) -> None:
    def run(conn: sqlite3.Connection, batch: Sequence[str]) -> list[None]:
        for statement in batch:
            conn.execute(statement)
        return [None] * len(batch)

    execute = Operation("execute", run)
    refuse = "CREATE TRIGGER full BEFORE UPDATE ON questions BEGIN SELECT RAISE(ABORT, 'no room'); END"
    await broker.store.submit(execute, refuse)
    number = await broker.questions.ask("alice", "Soon?", ttl_seconds=1)
    await clock.advance(1)
    with anyio.fail_after(20):
        await clock.until_sleepers()  # the watchdog, once it was refused
    assert clock.next_wake == 5
    assert [known.id for known in broker.questions.open_now()] == [number]
    await broker.store.submit(execute, "DROP TRIGGER full")
    await clock.advance(5)
    await resolved(broker, number)
    assert [event["answer"] for event in await told(broker, "alice")] == ["[expired]"]


async def test_nothing_wakes_up_while_nothing_is_due(broker: Broker, clock: FakeClock) -> None:
    """No polling: the watchdog sleeps to the next expiry, and without one there is no sleeper at all."""
    await broker.questions.ask("alice", "Whenever?")
    assert clock.sleepers == 0
    await broker.questions.ask("alice", "Later?", ttl_seconds=5000)
    await clock.until_sleepers()
    assert (clock.sleepers, clock.next_wake) == (1, 5000.0)
    await broker.questions.ask("alice", "Sooner?", ttl_seconds=50)
    await anyio.wait_all_tasks_blocked()
    assert (clock.sleepers, clock.next_wake) == (1, 50.0)


async def test_waiting_for_an_answer_returns_the_moment_it_is_there(broker: Broker, clock: FakeClock) -> None:
    number = await broker.questions.ask(
        "alice", "May I?", kind="tool", tool=ToolCall(name="Bash", input={"a": 1})
    )
    found: list[QuestionRow | None] = []

    async def wait(seconds: float) -> None:
        found.append(await broker.questions.resolution(number, seconds))

    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(20):
            tasks.start_soon(wait, 5.0)
            await clock.until_sleepers()
            await clock.advance(5)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(wait, 100.0)
            await anyio.wait_all_tasks_blocked()
            await broker.questions.answer(number, "allow once", by="operator")
    assert found[0] is None
    assert found[1] is not None
    assert found[1].answer == "allow once"
    assert found[1].tool == ToolCall(name="Bash", input={"a": 1})
    assert await told(broker, "alice") == []  # its harness waits for it
    assert await broker.questions.resolution(number, 0) == found[1]
    with pytest.raises(NotFound):
        await broker.questions.resolution(number + 1, 0)


# --- restarts, repeats, chains --------------------------------------------------------------------------------------


async def test_a_turn_that_runs_again_asks_once(broker: Broker) -> None:
    await broker.send("operator", "alice", "work")
    await broker.recv("alice", wait_seconds=0)
    first = await broker.questions.ask("alice", "Which?", target="bob", options=["a", "b"])
    twin = await broker.questions.ask("alice", "Which?", target="bob", options=["a", "b"])
    assert twin != first
    await broker.requeue_inflight("alice")
    await broker.recv("alice", wait_seconds=0)
    assert await broker.questions.ask("alice", "Which?", target="bob", options=["a", "b"]) == first
    assert await broker.questions.ask("alice", "Which?", target="bob", options=["a", "b"]) == twin
    other = await broker.questions.ask("alice", "Which?", target="bob", options=["a", "c"])
    assert other not in (first, twin)
    assert await broker.pending("bob") == 3


async def test_a_call_that_is_replayed_asks_once_also_beyond_its_limit(path: Path) -> None:
    async with Broker.open(path, limits=Limits(open_questions=1)) as broker:
        number = await broker.questions.ask("alice", "Which?", call_id="c1")
    async with Broker.open(path, limits=Limits(open_questions=1)) as broker:
        assert await broker.questions.ask("alice", "Which?", call_id="c1") == number
        with pytest.raises(LimitReached):
            await broker.questions.ask("alice", "Which?", call_id="c2")


async def test_a_tool_call_is_asked_again_by_a_turn_that_runs_again(broker: Broker) -> None:
    """An answer of then allows nothing now."""
    await broker.send("operator", "alice", "work")
    await broker.recv("alice", wait_seconds=0)
    first = await broker.questions.ask("alice", "May I?", kind="tool")
    await broker.questions.answer(first, "allow once", by="operator")
    await broker.requeue_inflight("alice")
    await broker.recv("alice", wait_seconds=0)
    assert await broker.questions.ask("alice", "May I?", kind="tool") != first


async def test_mail_about_questions_goes_on_with_the_chain_it_came_from(broker: Broker, path: Path) -> None:
    """The hops of a chain grow through questions, too; a human's word begins them anew in the same chain."""
    first = (await broker.send("operator", "alice", "work")).id
    await broker.recv("alice", wait_seconds=0)
    peers = await broker.questions.ask("alice", "Which?", target="bob")
    mine = await broker.questions.ask("alice", "May I?")
    await broker.recv("bob", wait_seconds=0)
    await broker.questions.answer(peers, "this", by="bob")
    await broker.questions.answer(mine, "yes", by="operator", override=True)
    with sqlite3.connect(path) as conn:
        query = "SELECT recipient, hops, chain FROM messages WHERE sender = 'system' ORDER BY id"
        rows = conn.execute(query).fetchall()
    conn.close()
    assert rows == [("bob", 1, first), ("alice", 2, first), ("alice", 0, first)]


async def test_the_answer_wakes_the_asker_days_and_restarts_later(path: Path, clock: FakeClock) -> None:
    """Pain 10: an answer that was given reaches its asker, whatever happens in between."""
    async with Broker.open(path, clock=clock) as broker:
        await broker.send("operator", "alice", "work")
        await broker.recv("alice", wait_seconds=0)
        number = await broker.questions.ask("alice", "May I?", options=["yes", "no"])
        await broker.ack_turn("alice")  # the turn went on without the answer
    for _ in range(5):
        await clock.advance(86_400)
        async with Broker.open(path, clock=clock) as broker:
            assert [row.id for row in await broker.questions.open("operator")] == [number]
    async with Broker.open(path, clock=clock) as broker, anyio.create_task_group() as tasks:
        got: list[str] = []

        async def wait() -> None:
            got.extend(one.body for one in await broker.recv("alice", wait_seconds=math.inf))

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(20):
            await broker.questions.answer(number, "yes", by="operator")
            while not got:
                await anyio.lowlevel.checkpoint()
        assert msgspec.json.decode(got[0])["answer"] == "yes"


async def test_an_answer_and_the_mail_about_it_are_one(path: Path) -> None:
    """Pain 10: where the answer was taken, the mail is there, and where the process died first, neither is."""
    for early in (True, False):
        broker = await Broker.open(path)
        number = await broker.questions.ask("alice", "May I?")
        answering = asyncio.ensure_future(broker.questions.answer(number, "yes", by="operator"))
        if early:
            await asyncio.sleep(0)
        else:
            await answering
        await broker.store.abandon()
        await asyncio.gather(answering, return_exceptions=True)
        await broker.aclose()
        async with Broker.open(path) as broker:
            answered = (await broker.questions.find(number)).answer is not None
            assert len(await told(broker, "alice")) == answered
            assert answered or early


async def test_a_question_reaches_the_operators_list_and_stream(broker: Broker) -> None:
    """Pain 11: the human is told, at once and for as long as it is open, with all there is to see."""
    async with broker.bus.subscribe() as events:
        number = await broker.questions.ask("alice", "May I?", options=["yes"], ttl_seconds=60)
        await broker.questions.answer(number, "yes", by="operator")
        seen = [await anext(events) for _ in range(4)]
    added, sent, _, done = (frame.event for frame in seen if not isinstance(frame, Missed))
    assert isinstance(added, QuestionAdded)
    assert (added.id, added.asker, added.target, added.options) == (number, "alice", "operator", ("yes",))
    assert added.expires_at == added.asked_at + 60
    assert isinstance(sent, Sent)
    assert done == QuestionResolved(id=number, answer="yes", answerer="operator")


async def test_no_question_is_ever_answered_by_itself(broker: Broker, clock: FakeClock) -> None:
    """Pain 12: without a human's word there is no answer, and an empty one is none."""
    number = await broker.questions.ask("alice", "May I?", options=["yes", "no"])
    for nothing in ("", " ", "\n"):
        with pytest.raises(BadRequest):
            await broker.questions.answer(number, nothing, by="operator")
    await clock.advance(30 * 86_400)
    assert (await broker.questions.find(number)).answer is None
    spent = await broker.questions.ask("alice", "May I now?", options=["yes", "no"], ttl_seconds=1)
    await clock.advance(1)
    await resolved(broker, spent)
    assert (await broker.questions.find(spent)).answer == "[expired]"  # which no option can be mistaken for
