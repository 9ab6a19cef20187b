"""Reply storms: chains of messages that go on too long or too fast are held until the operator has decided."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from hyperhive.broker import Broker, Limits
from hyperhive.broker.questions import QuestionRow
from hyperhive.errors import BadRequest, Conflict, LimitReached
from hyperhive.protocol.events import AnyDashboardEvent, MessageState, QuestionAdded, Sent
from hyperhive.protocol.types import Receipt
from hyperhive.testing import FakeClock

HOPS = 4


@pytest.fixture
async def broker(path: Path, clock: FakeClock) -> AsyncIterator[Broker]:
    async with Broker.open(path, clock=clock, limits=Limits(hop_limit=HOPS)) as broker:
        yield broker


async def turn(broker: Broker, name: str, *to: str, body: str = "and you?") -> list[Receipt]:
    """`name` works its next message and writes to these."""
    [_message] = await broker.recv(name, 1, 0)
    receipts = [await broker.send(name, recipient, body) for recipient in to]
    await broker.ack_turn(name)
    return receipts


async def ping_pong(broker: Broker, most: int = 1000) -> list[Receipt]:
    """Alice and bob answer each other until neither has anything to answer."""
    receipts: list[Receipt] = []
    while len(receipts) < most:
        if await broker.pending("alice"):
            receipts += await turn(broker, "alice", "bob")
        elif await broker.pending("bob"):
            receipts += await turn(broker, "bob", "alice")
        else:
            break
    return receipts


async def storm(broker: Broker) -> QuestionRow:
    """Sets one off, and gives the question about it."""
    await broker.send("operator", "alice", "argue with bob, for ever")
    assert (await ping_pong(broker))[-1].held
    return await the_question(broker)


async def the_question(broker: Broker) -> QuestionRow:
    [question] = await broker.questions.open("operator")
    return question


# --- being stopped ----------------------------------------------------------------------------------------------------


async def test_two_agents_that_answer_each_other_are_stopped_at_the_hop_limit_and_nothing_is_lost(
    broker: Broker,
) -> None:
    """Pain 21: no two agents keep each other busy beyond the limit."""
    await broker.send("operator", "alice", "argue with bob, for ever")
    receipts = await ping_pong(broker)
    assert [one.held for one in receipts] == [False] * HOPS + [True]
    counts = await broker.counts()
    assert list(counts) == ["bob"]
    assert (counts["bob"].held, counts["bob"].pending) == (1, 0)
    assert broker.held_now("bob") == 1
    assert [row.id for row in await broker.recent("bob", 1)] == [receipts[-1].id]


async def test_the_question_says_which_chain_it_was_and_takes_two_answers(broker: Broker) -> None:
    question = await storm(broker)
    assert (question.asker, question.target, question.kind) == ("system", "operator", "storm")
    assert (question.options, question.about) == (("release", "drop"), "1")
    assert "message 1 from operator to alice ('argue with bob, for ever')" in question.question
    assert "has come to 5 hops, the limit being 4 (hop_limit)" in question.question
    assert "The message of alice to bob is held" in question.question
    assert f"the chain may go on, up to {2 * HOPS} hops.\n" in question.question
    with pytest.raises(BadRequest):
        await broker.questions.answer(question.id, "do as you like", by="operator")
    with pytest.raises(Conflict):
        await broker.questions.cancel(question.id, by="operator", any=True)
    assert broker.held_now("bob") == 1


async def test_the_operator_is_asked_once_a_chain_however_many_of_its_messages_are_held(
    broker: Broker,
) -> None:
    question = await storm(broker)
    await broker.send("operator", "carol", "another matter")
    await turn(broker, "carol", "alice")
    await turn(broker, "alice", "bob")
    assert await broker.pending("bob") == 1
    assert (await the_question(broker)).id == question.id


async def test_of_a_held_chain_everything_is_held_but_what_goes_to_the_operator(
    broker: Broker,
) -> None:
    await broker.send("operator", "alice", "tell everybody")
    await turn(broker, "alice", "bob", "carol")
    await turn(broker, "bob", "alice")
    await turn(broker, "alice", "bob")
    await turn(broker, "bob", "alice")
    assert [one.held for one in await turn(broker, "alice", "bob")] == [True]
    held = await turn(broker, "carol", "alice", "dave", "operator")
    assert [one.held for one in held] == [True, True, False]
    assert len(await broker.questions.open("operator")) == 1


async def test_an_agent_that_writes_to_itself_for_ever_is_stopped_too(broker: Broker) -> None:
    await broker.send("operator", "alice", "never stop")
    receipts: list[Receipt] = []
    while await broker.pending("alice"):
        receipts += await turn(broker, "alice", "alice")
    assert [one.held for one in receipts] == [False] * HOPS + [True]


async def test_other_chains_of_the_same_agents_go_on(broker: Broker) -> None:
    await storm(broker)
    await broker.send("operator", "alice", "something else")
    assert [one.held for one in await turn(broker, "alice", "bob")] == [False]
    assert [one.held for one in await turn(broker, "bob", "alice")] == [False]


async def test_without_limits_no_chain_is_ever_held(path: Path) -> None:
    async with Broker.open(path) as broker:
        await broker.send("operator", "alice", "argue")
        assert not any(one.held for one in await ping_pong(broker, 200))


async def test_watchers_learn_that_a_message_is_held_and_what_is_asked(broker: Broker) -> None:
    seen: list[AnyDashboardEvent] = []
    broker.bus.tap(seen.append)
    question = await storm(broker)
    [held] = [one for one in seen if isinstance(one, MessageState) and one.state == "held"]
    assert held.id in [one.id for one in seen if isinstance(one, Sent)]
    assert [one.id for one in seen if isinstance(one, QuestionAdded)] == [question.id]
    seen.clear()
    await broker.questions.answer(question.id, "release", by="operator")
    assert (held.id, "pending") in [(one.id, one.state) for one in seen if isinstance(one, MessageState)]


# --- the pair's rate --------------------------------------------------------------------------------------------------


async def test_a_chain_that_is_too_fast_between_two_agents_is_held(path: Path, clock: FakeClock) -> None:
    limits = Limits(pair_rate=6, pair_seconds=600)
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        await broker.send("operator", "alice", "argue with bob, for ever")
        assert [one.held for one in await ping_pong(broker)] == [False] * 6 + [True]
        text = (await the_question(broker)).question
        assert "has had 6 messages between alice and bob lately" in text
        assert "the limit being 6 in 600 seconds (pair_rate)" in text
        assert "the chain may go on, at most 6 messages between two agents in 600 seconds.\n" in text


async def test_a_pair_that_takes_its_time_is_left_alone(path: Path, clock: FakeClock) -> None:
    limits = Limits(pair_rate=6, pair_seconds=600)
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        await broker.send("operator", "alice", "argue with bob, for ever")
        for _ in range(20):
            assert [one.held for one in await turn(broker, "alice", "bob")] == [False]
            assert [one.held for one in await turn(broker, "bob", "alice")] == [False]
            await clock.advance(200)


async def test_a_busy_pair_with_many_matters_is_left_alone(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(pair_rate=2)) as broker:
        for number in range(20):
            await broker.send("operator", "alice", f"matter {number}")
            assert [one.held for one in await turn(broker, "alice", "bob")] == [False]
            assert [one.held for one in await turn(broker, "bob", "operator")] == [False]


# --- the operator's word ----------------------------------------------------------------------------------------------


async def test_a_release_hands_out_what_is_held_in_order_and_grants_as_many_hops_again(
    broker: Broker,
) -> None:
    question = await storm(broker)
    await broker.questions.answer(question.id, "release", by="operator")
    assert broker.held_now("alice") == broker.held_now("bob") == 0
    receipts = await ping_pong(broker)
    assert [one.held for one in receipts] == [False] * (HOPS - 1) + [True]
    again = await the_question(broker)
    assert again.id != question.id
    assert f"the limit being {2 * HOPS}" in again.question


async def test_several_held_messages_come_out_by_their_ids(broker: Broker) -> None:
    await broker.send("operator", "alice", "tell everybody")
    await turn(broker, "alice", "bob", "carol")
    for name, other in (("bob", "alice"), ("alice", "bob"), ("bob", "alice")):
        await turn(broker, name, other)
    held = await turn(broker, "alice", "dave")
    held += await turn(broker, "carol", "dave", "dave")
    await broker.send("operator", "dave", "by the way")
    await broker.questions.answer((await the_question(broker)).id, "release", by="operator")
    assert [one.id for one in (await broker.recv("dave", 10, 0))[:3]] == [one.id for one in held]


async def test_a_release_gives_a_pair_a_fresh_window(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(pair_rate=4)) as broker:
        await broker.send("operator", "alice", "argue with bob, for ever")
        await ping_pong(broker)
        await broker.questions.answer((await the_question(broker)).id, "release", by="operator")
        assert [one.held for one in await ping_pong(broker)] == [False] * 4 + [True]


async def test_a_drop_makes_dead_letters_tells_the_senders_and_ends_the_chain(broker: Broker) -> None:
    question = await storm(broker)
    await broker.questions.answer(question.id, "drop", by="operator")
    [letter] = await broker.dead()
    assert letter.reason == "the operator ended its chain of messages as a reply storm"
    assert broker.held_now("bob") == 0
    [news] = await broker.recv("alice", 10, 0)
    assert (news.sender, letter.sender) == ("system", "alice")
    assert f"Your message {letter.id} to bob could not be worked" in news.body
    with pytest.raises(LimitReached) as refused:
        await broker.send("alice", "bob", "but I had more to say")
    assert "the operator has ended the chain of messages that message 1 began" in refused.value.message
    await broker.send("alice", "operator", "I was told to stop")
    await broker.ack_turn("alice")
    assert await broker.questions.open("operator") == []
    assert {name for name, one in (await broker.counts()).items() if one.pending} == {"operator"}


async def test_after_a_drop_the_same_agents_can_be_given_other_work(broker: Broker) -> None:
    question = await storm(broker)
    await broker.questions.answer(question.id, "drop", by="operator")
    for name in ("alice", "bob"):
        await broker.recv(name, 10, 0)
        await broker.ack_turn(name)
    await broker.send("operator", "alice", "something else")
    assert [one.held for one in await turn(broker, "alice", "bob")] == [False]


async def test_a_second_answer_learns_of_the_first_and_does_nothing(broker: Broker) -> None:
    question = await storm(broker)
    await broker.questions.answer(question.id, "drop", by="operator")
    with pytest.raises(Conflict):
        await broker.questions.answer(question.id, "release", by="operator")
    assert len(await broker.dead()) == 1


# --- in other company -------------------------------------------------------------------------------------------------


async def test_hops_pairs_and_held_messages_outlive_a_restart(path: Path, clock: FakeClock) -> None:
    limits = Limits(hop_limit=7, pair_rate=5)
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        await broker.send("operator", "alice", "argue with bob, for ever")
        assert not any(one.held for one in await ping_pong(broker, 3))
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        assert [one.held for one in await ping_pong(broker)] == [False, False, True]
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        assert broker.held_now("alice") + broker.held_now("bob") == 1
        question = await the_question(broker)
        await broker.questions.answer(question.id, "release", by="operator")
        assert [one.held for one in await ping_pong(broker)] == [False] * 5 + [True]


async def test_a_clock_that_was_put_back_between_two_starts_does_not_keep_a_pair_over_its_rate(
    path: Path, clock: FakeClock
) -> None:
    limits = Limits(pair_rate=3)
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        await broker.send("operator", "alice", "argue with bob, for ever")
        await ping_pong(broker, 3)
    clock.jump(-400 * 86400)
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        assert [one.held for one in await ping_pong(broker)] == [False] * 3 + [True]


async def test_a_turn_that_runs_again_gets_the_receipt_of_its_held_message_again(broker: Broker) -> None:
    await broker.send("operator", "alice", "argue with bob, for ever")
    await ping_pong(broker, HOPS)
    name, other = ("alice", "bob") if await broker.pending("alice") else ("bob", "alice")
    await broker.recv(name, 1, 0)
    held = await broker.send(name, other, "and you?")
    assert held.held
    await broker.requeue_inflight(name)
    await broker.recv(name, 1, 0)
    assert await broker.send(name, other, "and you?") == Receipt(id=held.id, duplicate=True, held=True)
    await broker.questions.answer((await the_question(broker)).id, "release", by="operator")
    await broker.requeue_inflight(name)
    await broker.recv(name, 1, 0)
    assert await broker.send(name, other, "and you?") == Receipt(id=held.id, duplicate=True)
    assert (await broker.counts())[other].pending == 1


async def test_held_messages_fill_an_inbox_like_others(path: Path, clock: FakeClock) -> None:
    limits = Limits(hop_limit=1, inbox_cap=3)
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        await broker.send("operator", "alice", "write to bob")
        await turn(broker, "alice", "carol")
        await broker.recv("carol", 1, 0)
        for _ in range(3):
            assert (await broker.send("carol", "bob", "held")).held
        with pytest.raises(LimitReached):
            await broker.send("carol", "bob", "too many")
        await broker.questions.answer((await the_question(broker)).id, "release", by="operator")
        with pytest.raises(LimitReached):
            await broker.send("carol", "bob", "still too many")
        await broker.recv("bob", 1, 0)
        await broker.send("operator", "bob", "one was taken")


async def test_single_held_messages_can_be_released_or_dropped_and_a_purge_buries_them(
    path: Path, clock: FakeClock
) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(hop_limit=1)) as broker:
        await broker.send("operator", "alice", "write to bob")
        await turn(broker, "alice", "carol")
        await broker.recv("carol", 1, 0)
        held = [(await broker.send("carol", "bob", f"{number}")).id for number in range(4)]
        await broker.release_held(held[1])
        await broker.drop_held(held[0])
        assert (broker.held_now("bob"), await broker.pending("bob")) == (2, 1)
        assert [one.id for one in await broker.recv("bob", 10, 0)] == [held[1]]
        await broker.purge("bob")
        assert broker.held_now("bob") == 0
        assert {one.id for one in await broker.dead()} == set(held[1:])
        await broker.questions.answer((await the_question(broker)).id, "release", by="operator")
        assert await broker.pending("bob") == 0


async def test_the_sweep_forgets_counts_and_ended_chains_but_no_chain_that_waits_for_a_word(
    path: Path, clock: FakeClock
) -> None:
    limits = Limits(hop_limit=2, pair_rate=100)
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        ended = await storm(broker)
        await broker.questions.answer(ended.id, "drop", by="operator")
        for name in ("alice", "bob"):
            await broker.recv(name, 10, 0)
            await broker.ack_turn(name)
        await storm(broker)
        await clock.advance(100 * 86400)
        await broker.vacuum()
    with closing(sqlite3.connect(path)) as conn:
        assert [row[0] for row in conn.execute("SELECT state FROM chains")] == ["held"]
        assert conn.execute("SELECT count(*) FROM pair_sends").fetchone() == (0,)


# --- by questions -----------------------------------------------------------------------------------------------------


async def interview(broker: Broker, most: int = 100) -> int:
    """Alice asks bob, who answers, whereupon she asks again: until that is refused. How many were asked."""
    asked = 0
    while asked < most:
        await broker.recv("alice", 1, 0)
        try:
            number = await broker.questions.ask("alice", "and how are you now?", target="bob")
        except LimitReached:
            return asked
        asked += 1
        await broker.ack_turn("alice")
        await broker.recv("bob", 1, 0)
        await broker.questions.answer(number, "as before", by="bob")
        await broker.ack_turn("bob")
    return asked


async def test_questions_and_answers_without_end_are_stopped_and_the_operator_is_asked(
    broker: Broker,
) -> None:
    seen: list[AnyDashboardEvent] = []
    broker.bus.tap(seen.append)
    await broker.send("operator", "alice", "ask bob how he is, and never stop")
    assert await interview(broker) == HOPS / 2
    question = await the_question(broker)
    assert "message 1 from operator to alice" in question.question
    assert [one.asker for one in seen if isinstance(one, QuestionAdded)][-1] == "system"
    with pytest.raises(LimitReached) as refused:
        await broker.questions.ask("alice", "and how are you now?", target="bob")
    assert "is held as a possible reply storm" in refused.value.message
    await broker.questions.ask("alice", "what shall I do?")
    assert (await the_last_question(broker)).asker == "alice"
    await broker.questions.answer(question.id, "release", by="operator")
    assert await broker.questions.ask("alice", "and how are you now?", target="bob") > question.id


async def test_questions_count_for_the_rate_of_a_pair(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(pair_rate=5)) as broker:
        await broker.send("operator", "alice", "ask bob how he is, and never stop")
        assert await interview(broker) == 5


async def the_last_question(broker: Broker) -> QuestionRow:
    return max(await broker.questions.open("operator"), key=lambda row: row.id)


async def test_what_an_ended_chain_refuses_uses_up_no_rate(path: Path) -> None:
    limits = Limits(hop_limit=1, sends_per_minute=3)
    async with Broker.open(path, limits=limits) as broker:
        await broker.send("operator", "alice", "go")
        await turn(broker, "alice", "bob")
        assert [one.held for one in await turn(broker, "bob", "alice")] == [True]
        question = await the_question(broker)
        await broker.recv("bob", 1, 0)
        await broker.questions.answer(question.id, "drop", by="operator")
        [told] = await broker.recv("bob", 1, 0)
        assert told.sender == "system"
        for _ in range(5):
            with pytest.raises(LimitReached, match="has ended the chain"):
                await broker.send("bob", "alice", "still")
            with pytest.raises(LimitReached, match="has ended the chain"):
                await broker.questions.ask("bob", "Still?", target="alice")
        await broker.send("bob", "operator", "it is refused")
