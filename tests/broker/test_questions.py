"""Questions: who may answer, who is told, what expires, and what nobody can get wrong."""

import asyncio
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from hyperhive.broker import Broker, Limits, QuestionRow, raise_in
from hyperhive.bus import Missed
from hyperhive.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    HiveError,
    InvalidName,
    LimitReached,
    NotAvailable,
    NotFound,
)
from hyperhive.protocol.events import QuestionAdded, QuestionAnswered, QuestionAsked, QuestionResolved, Sent
from hyperhive.protocol.types import QuestionEnd, ToolCall
from hyperhive.store import Operation
from hyperhive.testing import FakeClock


async def told(broker: Broker, name: str) -> list[dict[str, object]]:
    """The helper events in somebody's inbox, which is empty afterwards."""
    mail = await broker.recv(name, max=32, wait_seconds=0)
    await broker.ack_turn(name)
    return [msgspec.json.decode(one.body) for one in mail]


async def test_a_question_between_agents_reaches_both(broker: Broker) -> None:
    """The agent that is asked gets `question_asked`, the asker `question_answered`, each from the system."""
    number = await broker.questions.ask("alice", "Which one?", target="bob", options=["a", "b"], multi=True)
    [asked] = await broker.recv("bob", wait_seconds=0)
    assert asked.sender == "system"
    expected = QuestionAsked(id=number, asker="alice", question="Which one?", options=("a", "b"), multi=True)
    assert msgspec.json.decode(asked.body, type=QuestionAsked) == expected
    await broker.questions.answer(number, "a, b", by="bob")
    [answered] = await broker.recv("alice", wait_seconds=0)
    assert answered.sender == "system"
    said = QuestionAnswered(id=number, question="Which one?", answer="a, b", answerer="bob")
    assert msgspec.json.decode(answered.body, type=QuestionAnswered) == said


async def test_a_question_to_the_operator_is_no_mail_of_theirs(broker: Broker) -> None:
    """It stands in their list of questions; questions between agents do not."""
    number = await broker.questions.ask("alice", "May I?")
    await broker.questions.ask("alice", "Psst?", target="bob")
    assert await broker.inbox() == []
    [row] = await broker.questions.open("operator")
    assert (row.id, row.asker, row.question) == (number, "alice", "May I?")
    assert {row.target for row in await broker.questions.open()} == {"operator", "bob"}


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["manager", "bob", "alice"])
async def test_nobody_but_the_operator_answers_what_the_operator_was_asked(broker: Broker, by: str) -> None:
    """S4, C3: not another agent, not the manager, not the asker itself; and nothing of their try is stored."""
    number = await broker.questions.ask("alice", "May I deploy?", options=["yes", "no"])
    with pytest.raises(Forbidden, match=f"question {number} is not {by}'s to answer"):
        await broker.questions.answer(number, "yes", by=by)
    assert (await broker.questions.find(number)).answer is None
    assert await told(broker, "alice") == []


async def test_the_operator_may_answer_in_an_agents_place(broker: Broker) -> None:
    number = await broker.questions.ask("alice", "Which?", target="bob")
    with pytest.raises(Forbidden):
        await broker.questions.answer(number, "mine", by="carol")
    await broker.questions.answer(number, "this", by="operator", override=True)
    [event] = await told(broker, "alice")
    assert (event["answer"], event["answerer"]) == ("this", "operator")


async def test_an_asker_cancels_its_own_the_manager_anybodys(broker: Broker) -> None:
    one = await broker.questions.ask("alice", "One?")
    two = await broker.questions.ask("alice", "Two?", target="bob")
    with pytest.raises(Forbidden):
        await broker.questions.cancel(one, by="bob")
    with pytest.raises(Forbidden):
        await broker.questions.cancel(two, by="bob")
    assert (await broker.questions.cancel(one, by="alice")).answer == "[cancelled by alice]"
    await broker.questions.cancel(two, by="manager", any=True)
    answers = [(event["answer"], event["answerer"]) for event in await told(broker, "alice")]
    assert answers == [("[cancelled by alice]", "alice"), ("[cancelled by manager]", "manager")]
    assert broker.questions.open_now() == []


async def test_who_comes_second_learns_who_was_first_and_when(broker: Broker, clock: FakeClock) -> None:
    number = await broker.questions.ask("alice", "Which?", target="bob")
    await broker.questions.answer(number, "this", by="bob")
    await clock.advance(12)
    with pytest.raises(Conflict, match=rf"question {number} was resolved by bob: this \(12 s ago\)"):
        await broker.questions.answer(number, "that", by="operator", override=True)
    with pytest.raises(Conflict, match="resolved by bob"):
        await broker.questions.cancel(number, by="alice")
    assert len(await told(broker, "alice")) == 1


async def test_of_many_who_answer_at_once_one_wins(broker: Broker) -> None:
    """Answers, cancellations and the watchdog, all in one moment: one row, one mail, and everybody else is told."""
    for _ in range(20):
        number = await broker.questions.ask("alice", "Now?", target="bob")
        tries = [
            *(broker.questions.answer(number, f"a{n}", by="bob") for n in range(5)),
            *(broker.questions.answer(number, "o", by="operator", override=True) for _ in range(5)),
            broker.questions.cancel(number, by="alice"),
        ]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        won = [one for one in outcomes if isinstance(one, QuestionRow)]
        assert len(won) == 1
        assert all(isinstance(one, Conflict) for one in outcomes if one is not won[0])
        [event] = await told(broker, "alice")
        assert event["answer"] == (await broker.questions.find(number)).answer == won[0].answer


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"target": "alice"}, BadRequest), ({"target": "system"}, InvalidName), ({"target": "Bob"}, InvalidName),
        ({"question": " "}, BadRequest), ({"question": "x" * 262_145}, BadRequest),
        ({"question": '"' * 200_000}, BadRequest), ({"question": "a\0b"}, BadRequest),
        ({"options": ["a", "a"]}, BadRequest), ({"options": [" "]}, BadRequest),
        ({"options": ["yes\n2) no"]}, BadRequest), ({"options": ["a"] * 101}, BadRequest),
        ({"options": ["a\x1b[2J"]}, BadRequest), ({"options": ["a\u2028b"]}, BadRequest),
        ({"ttl_seconds": 0}, BadRequest), ({"ttl_seconds": 2**62}, BadRequest),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_is_refused_and_leaves_nothing(
    broker: Broker, wrong: dict[str, Any], error: type[HiveError]
) -> None:
    with pytest.raises(error):
        await broker.questions.ask("alice", **{"question": "Which?", **wrong})
    assert await broker.questions.open() == []
    assert await broker.pending("bob") == 0


async def test_a_name_that_never_existed_is_not_asked(path: Path) -> None:
    async with Broker.open(path, directory=lambda name: name in ("alice", "bob")) as broker:
        with pytest.raises(NotFound, match="carol"):
            await broker.questions.ask("alice", "Hello?", target="carol")
        await broker.questions.ask("alice", "Hello?", target="bob")


@pytest.mark.parametrize("words", [" ", "x" * 262_145, '"' * 200_000, "\ud800"])
async def test_an_answer_that_is_no_message_is_refused_and_the_question_stays(
    broker: Broker, words: str
) -> None:
    number = await broker.questions.ask("alice", "Which?")
    with pytest.raises(BadRequest):
        await broker.questions.answer(number, words, by="operator")
    assert [known.id for known in broker.questions.open_now("operator")] == [number]
    with pytest.raises(NotFound):
        await broker.questions.answer(number + 1, "so", by="operator")


async def test_the_longest_question_can_be_answered_at_length(broker: Broker) -> None:
    """The asker's mail repeats no more of a question than there is room for."""
    question = "\x01" * 40_000
    number = await broker.questions.ask("alice", question, target="bob")
    assert (await told(broker, "bob"))[0]["question"] == question
    await broker.questions.answer(number, "x" * 200_000, by="bob")
    assert (await told(broker, "alice"))[0]["answer"] == "x" * 200_000


async def test_open_questions_are_capped_and_the_refusal_says_what_ends_it(
    path: Path, clock: FakeClock
) -> None:
    """S4: also where they are asked all at once; the operator is not counted, and an end makes room."""
    async with Broker.open(path, clock=clock, limits=Limits(open_questions=3)) as broker:
        asks = [broker.questions.ask("alice", f"{n}?") for n in range(10)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
        numbers = [one for one in outcomes if isinstance(one, int)]
        refused = [one for one in outcomes if isinstance(one, LimitReached)]
        assert (len(numbers), len(refused)) == (3, 7)
        assert "the limit is 3 (open_questions)" in refused[0].message
        assert "cancel" in (refused[0].hint or "")
        await broker.questions.cancel(numbers[0], by="alice")
        await broker.questions.ask("alice", "Again?")
        for n in range(5):
            await broker.questions.ask("operator", f"{n}?", target="alice")


# --- time -----------------------------------------------------------------------------------------------------------


async def resolved(broker: Broker, *numbers: int) -> None:
    """Waits until these are resolved, in no time of the test's clock."""
    with anyio.fail_after(20):
        for number in numbers:
            assert await broker.questions.resolution(number, math.inf) is not None


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
        seen = [await anext(events) for _ in range(3)]
    added, sent, done = (frame.event for frame in seen if not isinstance(frame, Missed))
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


# --- the hive's own questions ---------------------------------------------------------------------------------------


class Counter:
    """An errand that keeps what it did in a table of its own."""

    def __init__(self, *, refuses: str = "") -> None:
        self.refuses = refuses
        self.heard: list[object] = []

    def carry_out(self, conn: sqlite3.Connection, question: QuestionRow, answer: str, at: int) -> object:
        conn.execute("CREATE TABLE IF NOT EXISTS done (about TEXT, answer TEXT, at INTEGER)")
        conn.execute("INSERT INTO done VALUES (?, ?, ?)", (question.about, answer, at))
        if answer == self.refuses:
            raise Conflict("not now")
        return f"did {answer}"

    def carried_out(self, question: QuestionRow, result: object) -> None:
        self.heard.append((question.about, result))


async def raised(broker: Broker, about: str) -> tuple[QuestionRow, bool]:
    """A question of the hive's own, as another part raises it in its own transaction."""

    def run(conn: sqlite3.Connection, batch: Sequence[str]) -> list[tuple[QuestionRow, bool]]:
        options = ("release", "drop")
        return [
            raise_in(conn, question="A flood.", options=options, kind="flood", about=one, at=1_800_000_000)
            for one in batch
        ]

    row, new = await broker.store.submit(Operation("raise", run), about)
    broker.questions.announce([row])
    return row, new


async def done(broker: Broker) -> list[tuple[str, str]]:
    def read(conn: sqlite3.Connection) -> list[tuple[str, str]]:
        if not conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'done'").fetchall():
            return []
        return conn.execute("SELECT about, answer FROM done").fetchall()

    return await broker.store.read(read)


async def test_the_hives_own_question_takes_its_options_and_does_what_they_say_at_once(
    broker: Broker,
) -> None:
    errand = Counter()
    broker.questions.on_answer("flood", errand)
    row, new = await raised(broker, "chain 5")
    again, fresh = await raised(broker, "chain 5")
    assert (new, again.id, fresh) == (True, row.id, False)
    assert (await raised(broker, "chain 6"))[0].id != row.id
    for by, words in (("operator", "maybe"), ("operator", "Release"), ("manager", "release")):
        with pytest.raises((BadRequest, Forbidden)):
            await broker.questions.answer(row.id, words, by=by)
    with pytest.raises(Conflict, match="the hive's own"):
        await broker.questions.cancel(row.id, by="operator", any=True)
    assert (await done(broker), errand.heard) == ([], [])
    await broker.questions.answer(row.id, "release", by="operator")
    assert await done(broker) == [("chain 5", "release")]
    assert errand.heard == [("chain 5", "did release")]
    with pytest.raises(Conflict):
        await broker.questions.answer(row.id, "drop", by="operator")
    assert len(await done(broker)) == 1


async def test_an_errand_that_refuses_leaves_nothing_and_no_neighbour_pays(broker: Broker) -> None:
    broker.questions.on_answer("flood", Counter(refuses="drop"))
    row, _ = await raised(broker, "chain 5")
    other, _ = await raised(broker, "chain 6")
    mine = await broker.questions.ask("alice", "May I?")
    outcomes = await asyncio.gather(
        broker.questions.answer(mine, "yes", by="operator"),
        broker.questions.answer(row.id, "drop", by="operator"),
        broker.questions.answer(other.id, "release", by="operator"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], Conflict)
    assert await done(broker) == [("chain 6", "release")]
    assert [known.id for known in broker.questions.open_now()] == [row.id]
    assert len(await told(broker, "alice")) == 1


async def test_without_an_errand_the_hives_own_question_cannot_be_answered(broker: Broker) -> None:
    row, _ = await raised(broker, "chain 5")
    with pytest.raises(NotAvailable):
        await broker.questions.answer(row.id, "release", by="operator")
    assert await broker.questions.withdraw([row.id, 99], "the flood ended") == 1
    assert (await broker.questions.find(row.id)).answer == "[withdrawn: the flood ended]"


# --- the end of an agent, retention, damage -------------------------------------------------------------------------


async def test_what_an_agent_asked_or_was_asked_ends_with_it_and_the_askers_are_told(broker: Broker) -> None:
    await broker.questions.ask("alice", "Mine?")
    await broker.questions.ask("bob", "Yours?", target="alice")
    other = await broker.questions.ask("bob", "Ours?")
    assert await broker.questions.close_of("alice", "alice was destroyed") == 2
    assert [known.id for known in broker.questions.open_now()] == [other]
    for name in ("alice", "bob"):
        events = [event for event in await told(broker, name) if event["event"] == "question_answered"]
        assert [(one["answer"], one["answerer"]) for one in events] == [
            ("[withdrawn: alice was destroyed]", "system")
        ]


async def test_resolved_questions_go_after_ninety_days_and_open_ones_never(
    broker: Broker, clock: FakeClock
) -> None:
    old = await broker.questions.ask("alice", "Old?")
    await broker.questions.answer(old, "so", by="operator")
    waiting = await broker.questions.ask("alice", "Still?")
    await clock.advance(89 * 86_400)
    young = await broker.questions.ask("alice", "Young?")
    await broker.questions.answer(young, "so", by="operator")
    await clock.advance(2 * 86_400)
    await broker.vacuum()
    with pytest.raises(NotFound):
        await broker.questions.find(old)
    assert (await broker.questions.find(young)).answer == "so"
    assert [row.id for row in await broker.questions.open()] == [waiting]
    assert await broker.questions.ask("alice", "New?") == young + 1


DAMAGE = [
    "options = 'no json'", "options = '[1, 2]'", "options = x'ff'", "options = 7", "multi = 'many'",
    "question = x'fffe'", "question = CAST(x'fffe' AS TEXT)", "asked_at = 'then'", "tool = '{'",
    "asker = CAST(x'fffe' AS TEXT)", "expires_at = 'soon'", "target = 'No Name'", "answered_at = 'never'",
    "options = '" + "[" * 5000 + "'", "hops = 'x'",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_row_that_cannot_be_read_is_shown_as_such_and_hides_no_other(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator sees which row it is and why, it is logged once, and cancelling it tells its asker."""
    async with Broker.open(path) as broker:
        before = await broker.questions.ask("alice", "Before?")
        bad = await broker.questions.ask("bob", "Bad?", target="alice", options=["a"])
        after = await broker.questions.ask("alice", "After?")
        await told(broker, "alice")
    with sqlite3.connect(path) as conn:
        conn.execute(f"UPDATE questions SET {damage} WHERE id = ?", (bad,))
    conn.close()
    async with Broker.open(path) as broker:
        rows = await broker.questions.open("operator")
        await broker.questions.open("operator")
        if damage == "target = 'No Name'":  # a name that nobody has is no damage of the row
            assert [row.id for row in await broker.questions.open()] == [before, bad, after]
            return
        assert [row.id for row in rows] == [before, bad, after]
        assert f"row {bad} of the questions cannot be read" in rows[1].question
        assert any(
            str(bad) in end.question for end in await broker.loose_ends.open() if isinstance(end, QuestionEnd)
        )
        assert [line.message for line in caplog.records].count(
            f"question_unreadable question={bad} fault={rows[1].fault}"
        ) == 1
        with pytest.raises(Conflict, match="cannot be read"):
            await broker.questions.answer(bad, "a", by="operator", override=True)
        await broker.questions.cancel(bad, by="operator", any=True)
        assert [row.id for row in await broker.questions.open("operator")] == [before, after]
        if "asker" not in damage:
            assert [event["answer"] for event in await told(broker, "bob")] == ["[cancelled by operator]"]


async def test_the_originals_questions_are_taken_over(path: Path) -> None:
    with sqlite3.connect(path) as conn:
        conn.execute(
            "CREATE TABLE operator_questions (id INTEGER PRIMARY KEY AUTOINCREMENT, asker TEXT NOT NULL,"
            " question TEXT NOT NULL, options_json TEXT NOT NULL DEFAULT '[]', multi INTEGER NOT NULL DEFAULT 0,"
            " asked_at INTEGER NOT NULL, answered_at INTEGER, answer TEXT)"
        )
        conn.execute(
            "INSERT INTO operator_questions VALUES (4, 'alice', 'May I?', '[\"yes\"]', 0, 1700000000, NULL, NULL)"
        )
        conn.execute(
            "INSERT INTO operator_questions VALUES (7, 'bob', 'Lost?', 'null!', 0, 1700000000, NULL, NULL)"
        )
    conn.close()
    for _ in range(2):
        async with Broker.open(path) as broker:
            first, lost = await broker.questions.open("operator")
            assert (first.id, first.asker, first.options) == (4, "alice", ("yes",))
            assert (lost.id, lost.fault is not None) == (7, True)
    async with Broker.open(path) as broker:
        assert await broker.questions.ask("alice", "Next?") == 8


# --- loose ends -----------------------------------------------------------------------------------------------------


async def test_loose_ends_are_ones_own_or_the_hives(broker: Broker, clock: FakeClock) -> None:
    first = await broker.questions.ask("alice", "Which?", target="bob")
    await clock.advance(30)
    second = await broker.questions.ask("carol", "May I?")
    own = await broker.loose_ends.open("bob")
    assert own == [QuestionEnd(id=first, asker="alice", target="bob", question="Which?", age_seconds=30)]
    assert await broker.loose_ends.open("dave") == []
    assert [end.id for end in await broker.loose_ends.open()] == [first, second]
    with pytest.raises(Forbidden):
        await broker.loose_ends.cancel("question", first, by="bob", any=False)
    await broker.loose_ends.cancel("question", first, by="alice", any=False)
    assert await broker.loose_ends.open("bob") == []
