"""Questions in a whole hive: the fleet row of who waits for the operator, and the end of an agent."""

import json

import anyio
import pytest

from hyperhive.bus import Missed
from hyperhive.client import RemoteHive
from hyperhive.errors import Conflict, Forbidden, NotFound
from hyperhive.host import Hive
from hyperhive.names import AgentName
from hyperhive.protocol import requests as r
from hyperhive.protocol.events import ContainerStateChanged
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.replies import Err, LooseEnds, QuestionQueued, QuestionRows, Reply
from hyperhive.protocol.types import ContainerStateName


async def by(hive: Hive, name: str, request: r.Request) -> Reply:
    """A request as it comes by an agent's tools socket."""
    role = "manager" if name == "manager" else "agent"
    actor = Actor(name=AgentName(name), role=role, channel="tools")  # type: ignore[arg-type]
    return (await hive.dispatcher.dispatch(actor, request)).reply


async def asked(hive: Hive, name: str, question: str, to: str | None = None) -> int:
    reply = await by(hive, name, r.Ask(question=question, to=to))
    assert isinstance(reply, QuestionQueued)
    return reply.id


async def test_who_waits_for_the_operator_is_shown_so_until_the_answer(
    hive: Hive, operator: RemoteHive
) -> None:
    """Pain 11: the fleet row changes with the question and its answer; a question to a colleague changes none."""
    for name in ("alice", "bob"):
        await operator.lifecycle.spawn(name)

    async def until(state: ContainerStateName) -> None:
        async for item in events:
            event = None if isinstance(item, Missed) else item.event
            if isinstance(event, ContainerStateChanged):
                seen = event.container
                if (seen.name, seen.state) == ("alice", state):
                    return

    async with hive.bus.subscribe() as events:
        with anyio.fail_after(20):
            peers = await asked(hive, "alice", "Psst?", to="bob")
            number = await asked(hive, "alice", "May I?")
            await until("needs_you")
            assert hive.lifecycle.view("bob").state != "needs_you"
            await operator.broker.questions.answer(number, "yes")
            await until("idle")
    with pytest.raises(Conflict, match=r"resolved by operator \(host\): yes"):
        await operator.broker.questions.answer(number, "no")
    assert [row.id for row in await operator.broker.questions.open("bob")] == [peers]
    assert await operator.broker.questions.open() == []


async def test_who_asks_at_great_length_hides_nobody_elses_question(hive: Hive, operator: RemoteHive) -> None:
    """S4: what does not fit a reply is named, and shown alone."""
    for name in ("alice", "bob"):
        await operator.lifecycle.spawn(name)
    long = [await asked(hive, "alice", f"{n} {'x' * 250_000}") for n in range(10)]
    short = await asked(hive, "bob", "May I?")

    async def shown(request: r.Questions) -> QuestionRows:
        reply = (await hive.dispatcher.dispatch(Actor.operator(), request)).reply
        assert isinstance(reply, QuestionRows)
        return reply

    listed = await shown(r.Questions())
    seen = [row.id for row in listed.questions]
    assert short in seen
    assert 0 < len(listed.left_out) < len(long)
    assert sorted([*seen, *listed.left_out]) == [*long, short]
    assert seen == sorted(seen)
    [alone] = (await shown(r.Questions(id=listed.left_out[0]))).questions
    assert (alone.id, len(alone.question)) == (listed.left_out[0], 250_002)
    assert await shown(r.Questions(id=short + 1)) == QuestionRows(questions=[])
    assert [row.id for row in await operator.broker.questions.open()] == [*long, short]


@pytest.mark.parametrize("purge", [False, True])
async def test_what_a_destroyed_agent_asked_or_was_asked_ends_and_the_others_are_told(
    hive: Hive, operator: RemoteHive, purge: bool
) -> None:
    for name in ("alice", "bob"):
        await operator.lifecycle.spawn(name)
        await operator.lifecycle.stop(name)
    await asked(hive, "alice", "Mine?")
    await asked(hive, "bob", "Yours?", to="alice")
    await operator.broker.questions.ask("operator", "And you?", target="alice")
    kept = await asked(hive, "bob", "Ours?")
    await operator.lifecycle.destroy("alice", purge=purge)
    assert [row.id for row in await operator.broker.questions.open(None)] == [kept]
    word = f"[withdrawn: alice was {'purged' if purge else 'destroyed'}]"
    told = [json.loads(row.body) for row in await hive.broker.recent("bob")]
    assert [event["answer"] for event in told if event["event"] == "question_answered"] == [word]
    mine = [json.loads(row.body) for row in await operator.broker.inbox() if row.sender == "system"]
    assert word in [event.get("answer") for event in mine]
    dead = [letter for letter in await operator.broker.dead() if word in letter.body]
    assert dead == [], "nobody is told who is gone for good"


async def test_no_agent_gets_at_the_operators_questions_by_any_request(
    hive: Hive, operator: RemoteHive
) -> None:
    """S4, C3: whatever an agent or the manager sends, an answer to the operator's question is the operator's."""
    await operator.lifecycle.spawn("alice")
    number = await asked(hive, "alice", "May I deploy?")
    for name in ("alice", "manager"):
        for request in (
            r.Answer(id=number, answer="yes"), r.Questions(), r.CancelQuestion(id=number),
            r.OperatorMsg(body="yes"),
        ):  # fmt: skip
            reply = await by(hive, name, request)
            assert isinstance(reply, Err)
            assert reply.code == Forbidden.code
    assert (await hive.broker.questions.find(number)).answer is None
    with pytest.raises(NotFound):
        await operator.broker.questions.answer(number + 1, "yes")
    with pytest.raises(Forbidden):
        await operator.broker.questions.ask("alice", "In her name?", target="manager")


async def test_the_manager_sees_the_hives_loose_ends_and_an_agent_its_own(
    hive: Hive, operator: RemoteHive
) -> None:
    for name in ("alice", "bob"):
        await operator.lifecycle.spawn(name)
        await operator.lifecycle.stop(name)
    mine = await asked(hive, "alice", "Mine?")
    theirs = await asked(hive, "bob", "Theirs?")

    async def seen(name: str) -> list[int]:
        reply = await by(hive, name, r.GetLooseEnds())
        assert isinstance(reply, LooseEnds)
        return [end.id for end in reply.loose_ends]

    assert (await seen("alice"), await seen("manager")) == ([mine], [mine, theirs])
    refused = await by(hive, "alice", r.CancelLooseEnd(kind="question", id=theirs))
    assert isinstance(refused, Err)
    await by(hive, "manager", r.CancelLooseEnd(kind="question", id=theirs))
    assert (await hive.broker.questions.find(theirs)).answer == "[cancelled by manager]"
