"""Questions: who is told, who may answer and cancel, and what cannot be asked at all."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hyperhive.broker import Broker, Limits, QuestionRow
from hyperhive.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    HiveError,
    InvalidName,
    LimitReached,
    NotFound,
)
from hyperhive.protocol.events import QuestionAnswered, QuestionAsked
from hyperhive.protocol.types import QuestionEnd
from hyperhive.testing import FakeClock
from questions import told


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


async def test_agents_that_only_ask_each_other_are_stopped_like_those_that_write(path: Path) -> None:
    """The loop breaker counts questions: beyond the hop limit none is asked, and the operator decides."""
    async with Broker.open(path, limits=Limits(hop_limit=8)) as broker:

        async def ask(asker: str, target: str) -> int:
            await broker.recv(asker, max=32, wait_seconds=0)
            number = await broker.questions.ask(asker, "And?", target=target)
            await broker.ack_turn(asker)
            return number

        root = (await broker.send("operator", "alice", "go")).id
        for _ in range(4):
            await ask("alice", "bob")
            await ask("bob", "alice")
        with pytest.raises(LimitReached, match=f"message {root} began is held"):
            await ask("alice", "bob")
        [storm] = await broker.questions.open("operator")
        assert (storm.asker, storm.about, storm.options) == ("system", str(root), ("release", "drop"))
        assert (
            "The question of alice to bob is refused, and every further message of this chain"
            in storm.question
        )
        assert broker.held_now("bob") == 0
        await broker.questions.ask("alice", "Operator?")  # whom nothing is held from
        await broker.questions.answer(storm.id, "release", by="operator")
        await ask("alice", "bob")


# --- loose ends -----------------------------------------------------------------------------------------------------


async def test_loose_ends_are_ones_own_or_the_hives(broker: Broker, clock: FakeClock) -> None:
    first = await broker.questions.ask("alice", "Which?", target="bob")
    await clock.advance(30)
    second = await broker.questions.ask("carol", "May I?")
    own = await broker.loose_ends.open("bob")
    assert own == [QuestionEnd(id=first, asker="alice", target="bob", question="Which?", age_seconds=30)]
    assert await broker.loose_ends.open("dave") == []
    assert [end.id for end in await broker.loose_ends.open()] == [first, second]
    long = await broker.questions.ask("erin", "x" * 10_000)
    [end] = await broker.loose_ends.open("erin")
    assert end == QuestionEnd(
        id=long, asker="erin", target="operator", question="x" * 500 + "…", age_seconds=0
    )
    with pytest.raises(Forbidden):
        await broker.loose_ends.cancel("question", first, by="bob", any=False)
    await broker.loose_ends.cancel("question", first, by="alice", any=False)
    assert await broker.loose_ends.open("bob") == []
