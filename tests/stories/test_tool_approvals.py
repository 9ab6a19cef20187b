"""Tools that ask, through deaths: of the hive with its agents, and of the core alone under a harness of its own.

The real CLI in a box; whoever answers is the operator's connection. A call that was not allowed has left no file.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from hive_process import HivePlace, HiveProcess, agent_serve, running
from hyperhive.client import RemoteHive
from hyperhive.errors import NotFound
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveStatus, Question, QuestionRows, ToolRuleRows
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from processes import descendants
from story import bash, shown

NewPlace = Callable[..., HivePlace]

ASKS = """
[agents.alice.tools]
ask = ["Bash(touch:*)"]
"""
OWN = """
[agents.alice]
harness = "own"
"""
SECONDS = 40.0

pytestmark = [pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.timeout(120)]


async def questions(client: RemoteHive) -> list[Question]:
    page = await client.request(r.Questions())
    assert isinstance(page, QuestionRows)
    return page.questions


async def question(client: RemoteHive) -> Question:
    """The one that waits for the operator, once there is one."""
    with anyio.fail_after(SECONDS):
        while not (rows := await questions(client)):  # noqa: ASYNC110 (another process does it)
            await anyio.sleep(0.05)
    [row] = rows
    return row


def made(place: HivePlace) -> Path:
    """What the tool call makes."""
    return place.state / "agents" / "alice" / "state" / "made"


def clis_of(harness: HiveProcess) -> set[int]:
    """The agent CLIs below this harness."""
    return descendants(harness.pid) & set(harness.place.clis())


def scenario() -> dict[str, object]:
    return {"rules": [tool_turn(r"\nwork\n", bash("touch /state/made"), end="over")]}


async def status(client: RemoteHive) -> HiveStatus:
    reply = await client.request(r.Status(name="alice"))
    assert isinstance(reply, HiveStatus)
    return reply


async def rules(client: RemoteHive, revoke: int | None = None) -> ToolRuleRows:
    reply = await client.request(r.ToolRules(revoke=revoke))
    assert isinstance(reply, ToolRuleRows)
    return reply


async def test_after_a_kill_it_is_asked_again_and_a_standing_rule_can_be_taken_back(
    places: NewPlace, api: FakeAnthropic
) -> None:
    api.scenario = scenario()
    place = places(toml=ASKS)
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.broker.send("operator", "alice", "work")
        first = await question(client)
        assert first.tool is not None
        assert first.tool.input["command"] == "touch /state/made"
        assert "This steers, it does not confine" in first.question
        [detail] = (await status(client)).agents
        assert (detail.view.state, detail.view.turn_state, detail.view.waiting_reason) == (
            "needs_you",
            "waiting",
            "operator",
        )
        assert any(text.startswith("tools that ask:") for text in detail.warnings)
        await hive.kill()
    assert not made(place).exists()
    async with running(place) as (hive, client):
        again = await question(client)
        with anyio.fail_after(SECONDS):
            while again.id == first.id:  # the old one goes when alice's harness has come up
                await anyio.sleep(0.05)
                again = await question(client)
        assert not made(place).exists(), "asked again, and never silently allowed"
        await client.request(r.Answer(id=again.id, answer="allow always"))
        await hive.until(made(place).exists)
        await hive.until(lambda: all(one.acked for one in place.mail()))
        made(place).unlink()
        await client.broker.send("operator", "alice", "work")
        await hive.until(made(place).exists)
        [rule] = (await rules(client)).rules
        assert (rule.agent, rule.tool, rule.question) == ("alice", "Bash", again.id)
        assert (await rules(client, revoke=rule.id)).rules == [rule]
        with pytest.raises(NotFound):
            await rules(client, revoke=rule.id)
        made(place).unlink()
        await client.broker.send("operator", "alice", "work")
        last = await question(client)
        await client.request(r.Answer(id=last.id, answer="deny: enough"))
        await hive.until(lambda: all(one.acked for one in place.mail()))
        assert not made(place).exists()
        assert (await questions(client), (await rules(client)).rules) == ([], [])
    assert "The operator denied this: enough" in str(api.requests[-1]["body"]["messages"])
    assert [one.marked for one in shown(api.requests)] == [False, True, False, False]


async def test_a_harness_of_its_own_waits_on_while_the_core_restarts(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """The same question: the operator may answer the next core, and the call runs once, in the same process."""
    api.scenario = scenario()
    place = places(toml=OWN + ASKS)
    async with AsyncExitStack() as stack:
        async with running(place) as (hive, client):
            await client.lifecycle.spawn("alice")
            harness = await stack.enter_async_context(agent_serve(place, "alice"))
            await client.broker.send("operator", "alice", "work")
            first = await question(client)
            clis = clis_of(harness)
            assert len(clis) == 1
            await hive.kill()
        assert clis_of(harness) == clis, "its turn waits on"
        async with running(place) as (hive, client):
            again = await question(client)
            assert again == first
            assert not made(place).exists()
            await client.request(r.Answer(id=again.id, answer="allow once"))
            await hive.until(made(place).exists)
            await hive.until(lambda: all(one.acked for one in place.mail()))
            assert harness.process.returncode is None
            assert clis_of(harness) == clis
            await stack.aclose()
    assert [one.marked for one in shown(api.requests)] == [False]
