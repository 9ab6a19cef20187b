"""Two agents that answer each other for ever, on the real agent CLI: what stops them, what is lost, who is asked."""

import re
from collections.abc import Callable

import pytest

from hive_process import HivePlace, running
from hyperhive.client import RemoteHive
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveStatus, Question
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from story import send, shown

NewPlace = Callable[..., HivePlace]

pytestmark = [pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.timeout(120)]

HOPS = 4
ORDER = "greet bob, and never leave him without an answer"
RULES = [
    tool_turn(rf"\n{ORDER}\n", send("bob", "hello, bob"), end="sent"),
    tool_turn(r"\nhello, bob\n", send("alice", "hello, alice"), end="sent"),
    tool_turn(r"\nhello, alice\n", send("bob", "hello, bob"), end="sent"),
]


async def open_questions(client: RemoteHive) -> list[Question]:
    return await client.broker.questions.open()


async def held(client: RemoteHive) -> int:
    reply = await client.request(r.Status())
    assert isinstance(reply, HiveStatus)
    return reply.hive.held


async def test_two_that_never_stop_are_stopped_and_nothing_is_lost(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """Pain 21, reply storms: no storm lasts beyond the limit, whatever the models say, nor beyond a kill of the hive.

    The operator is asked once, and told which chain it is; what is held comes when it is released.
    """
    api.scenario = {"rules": RULES}
    place = places(toml=f"hop_limit = {HOPS}\n")

    def between() -> list[tuple[str, str]]:
        return [(one.sender, one.recipient) for one in place.mail() if one.sender != "operator"]

    def worked() -> bool:
        """Everything but what is held, which the last one is."""
        *before, last = place.mail()
        return len(before) > 1 and all(one.acked for one in before) and last.parked is not None

    async with running(place) as (hive, client):
        for name in ("alice", "bob"):
            await client.lifecycle.spawn(name)
        first = await client.broker.send("operator", "alice", ORDER)
        await hive.until(lambda: len(between()) == HOPS + 1 and worked())
        [question] = await open_questions(client)
        assert (question.asker, question.options) == ("system", ("release", "drop"))
        assert re.search(rf"message {first.id} from operator to alice \('{ORDER}'\)", question.question)
        assert f"the limit being {HOPS}" in question.question
        assert await held(client) == 1
        seen = len(api.requests)
        await hive.kill()

    async with running(place) as (hive, client):
        assert await open_questions(client) == [question]
        assert len(between()) == HOPS + 1
        await client.broker.questions.answer(question.id, "release")
        await hive.until(lambda: len(between()) == 2 * HOPS + 1 and worked())
        [again] = await open_questions(client)
        assert again.id != question.id
        await client.broker.questions.answer(again.id, "drop")
        [letter] = await client.broker.dead()
        assert "ended its chain of messages" in (letter.reason or "")
        await client.broker.send("operator", "bob", "how are you?")
        await hive.until(lambda: place.mail()[-1].acked)
        assert await open_questions(client) == []
    assert len(api.requests) > seen
    assert [one.parked is None for one in place.mail()] == [True] * (2 * HOPS + 1) + [False, True]
    told = [one for one in shown(api.requests) if one.sender != "operator"]
    assert [one.id for one in told] == sorted(one.id for one in told), "each is shown once, in its order"
    assert len(told) == 2 * HOPS
    assert not any(one.marked for one in told)
