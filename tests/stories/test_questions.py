"""Questions on the real agent CLI, through the death of the hive: asked, answered from the command line, expired.

Nobody's turn waits for an answer: it ends, and the answer starts another one, in whichever life of the hive.
"""

from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread
import pytest

from console import Console
from hive_process import HivePlace, HiveProcess, connected, running
from hyperhive.client import RemoteHive
from hyperhive.protocol.replies import Question
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from story import Json

NewPlace = Callable[..., HivePlace]

SECONDS = 40.0

pytestmark = [pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.timeout(120)]


def ask(**fields: object) -> tuple[str, Json]:
    return "mcp__hyperhive__ask", fields


RULES = [
    tool_turn(
        "choose a database", ask(question="Which database?", options=["sqlite", "postgres"]), end="asked"
    ),
    tool_turn("choose a colour", ask(question="Which colour?", to="bob"), end="asked"),
    tool_turn("change your mind", ask(question="Never mind?"), end="asked"),
    tool_turn("be quick", ask(question="Now?", ttl_seconds=3), end="asked"),
    tool_turn("answer alice", ("mcp__hyperhive__answer", {"id": 2, "answer": "green"}), end="done"),
    tool_turn(
        "answer for me", ("mcp__hyperhive__answer", {"id": 1, "answer": "postgres"}), end="{tool_result}"
    ),
]


def told(api: FakeAnthropic, number: int, answer: str = "", answerer: str = "") -> bool:
    """Whether a model was woken with this answer (with any), after a line that says it is the system's."""
    facts = [f'"event":"question_answered","id":{number},']
    facts += [f'"answer":"{answer}","answerer":"{answerer}"'] if answer else []
    return any(
        all(fact in request["text"] for fact in (*facts, "from system, boundary"))
        for request in api.requests
        if request["round"] == 0
    )


def quiet(place: HivePlace) -> bool:
    """No agent has anything to do."""
    return all(one.acked for one in place.mail() if one.recipient != "operator")


async def open_question(client: RemoteHive, number: int) -> Question:
    """That one, once it waits for the operator."""
    with anyio.fail_after(SECONDS):
        while True:
            for row in await client.broker.questions.open(None):
                if row.id == number:
                    return row
            await anyio.sleep(0.05)


async def test_answers_reach_their_askers_beyond_the_death_of_the_hive(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """The operator's from the command line, a colleague's, the watchdog's and a cancellation: each starts a turn."""
    api.scenario = {"rules": RULES}
    place = places()
    async with HiveProcess(place) as hive:
        async with connected(place) as client:
            for name in ("alice", "bob"):
                await client.lifecycle.spawn(name)
            await client.broker.send("operator", "alice", "choose a database")
            row = await open_question(client, 1)
            assert (row.asker, row.question, row.options) == (
                "alice",
                "Which database?",
                ("sqlite", "postgres"),
            )
            await hive.until(lambda: quiet(place))  # asking held up nothing
            [view] = (await client.lifecycle.status("alice")).agents
            assert view.view.state == "needs_you"
            await client.broker.send("operator", "bob", "answer for me")
            await hive.until(lambda: any("not bob's to answer" in one["tool_result"] for one in api.requests))
            for number, order in ((2, "choose a colour"), (3, "change your mind"), (4, "be quick")):
                await client.broker.send("operator", "alice", order)
                await open_question(client, number)
        await hive.kill()
    await place.nothing_left()
    assert not any(told(api, number) for number in (1, 2, 3, 4)), "none was resolved in this life"

    async with running(place) as (hive, client):
        await hive.until(lambda: told(api, 4, "[expired]", "ttl-watchdog"))
        console = Console(place.root, {"HYPERHIVE_RUN_DIR": str(place.run)})
        for words, said in (
            (["answer", "1", "2"], "question 1 is answered: postgres\n"),
            (["questions", "--cancel", "3"], "question 3 is withdrawn\n"),
        ):
            done = await anyio.to_thread.run_sync(partial(console.run, *words))
            assert (done.code, done.out) == (0, said)
        await hive.until(lambda: told(api, 1, "postgres", "operator"))
        await hive.until(lambda: told(api, 3, "[cancelled by operator]", "operator"))
        await client.broker.send("operator", "bob", "answer alice")
        await hive.until(lambda: told(api, 2, "green", "bob"))
        await hive.until(lambda: quiet(place))
        assert await client.broker.questions.open(None) == []
        [view] = (await client.lifecycle.status("alice")).agents
        assert view.view.state != "needs_you"
