"""What an agent's page begins with is there whether its harness is in the core, in a process of its own, or nowhere."""

from pathlib import Path

import anyio
import msgspec
import pytest

from hyperhive.config import HiveConfig, load
from hyperhive.host import Hive
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.types import QuestionEnd

OPERATOR = Actor.operator("web")


async def ask(hive: Hive, request: r.Request) -> p.Reply:
    with anyio.fail_after(20):
        return (await hive.dispatcher.dispatch(OPERATOR, request)).reply


async def page(hive: Hive, name: str) -> p.AgentPage:
    reply = await ask(hive, r.AgentState(name=name))
    assert isinstance(reply, p.AgentPage), reply
    return reply


async def test_the_page_of_a_running_agent_has_its_newest_mail_and_what_it_does(hive: Hive) -> None:
    await hive.lifecycle.spawn("alice")
    for number in range(31):
        await hive.broker.send("operator", "alice", f"reply with message {number}")
    shown = await page(hive, "alice")
    assert (shown.label, shown.running, shown.model, shown.session) == ("alice", True, "sonnet", None)
    assert [row.body for row in shown.inbox] == [f"reply with message {30 - number}" for number in range(30)]


async def test_what_it_shows_is_of_its_number_and_what_comes_later_has_a_later_one(hive: Hive) -> None:
    await hive.lifecycle.spawn("alice")
    async with hive.dispatcher.stream(OPERATOR, r.Subscribe(stream="alice")) as frames:
        await anext(frames)
        before = await page(hive, "alice")
        await ask(hive, r.Model(name="alice", model="opus"))
        with anyio.fail_after(10):
            while (frame := msgspec.json.decode(await anext(frames)))["kind"] != "model_changed":
                pass
        after = await page(hive, "alice")
    assert before.model == "sonnet"
    assert before.seq < frame["seq"] <= after.seq
    assert after.model == "opus"


async def test_the_page_of_a_stopped_agent_says_what_is_known(hive: Hive) -> None:
    await hive.lifecycle.spawn("alice")
    await hive.lifecycle.stop("alice")
    await hive.broker.send("operator", "alice", "for later")
    shown = await page(hive, "alice")
    assert (shown.running, shown.turn_state, shown.ctx_usage) == (False, "idle", None)
    assert [row.body for row in shown.inbox] == ["for later"]


@pytest.fixture
def with_own_harness(config: HiveConfig, environ: dict[str, str], home: Path) -> HiveConfig:
    """alice's harness is a process of its own, which nobody starts."""
    (home / "hive.toml").write_text('[agents.alice]\nharness = "own"\n')
    return load(environ, state_dir=config.state_dir, run_dir=config.run_dir)


async def test_the_page_of_an_agent_whose_own_harness_is_away_says_that_it_waits(
    with_own_harness: HiveConfig, environ: dict[str, str]
) -> None:
    async with Hive.open(config=with_own_harness, environ=environ) as hive:
        await hive.lifecycle.spawn("alice")
        shown = await page(hive, "alice")
    assert (shown.running, shown.turn_state, shown.waiting_reason) == (True, "waiting", "operator")


async def test_loose_ends_are_the_agents_own(hive: Hive) -> None:
    for name in ("alice", "bob"):
        await hive.lifecycle.spawn(name)
        await hive.broker.questions.ask(name, f"{name} asks")
    reply = await ask(hive, r.AgentLooseEnds(name="alice"))
    assert isinstance(reply, p.LooseEnds)
    assert [end.question for end in reply.loose_ends if isinstance(end, QuestionEnd)] == ["alice asks"]


async def test_a_name_that_nobody_has_is_said_so(hive: Hive) -> None:
    for request in (r.AgentState(name="nobody"), r.AgentLooseEnds(name="nobody")):
        reply = await ask(hive, request)
        assert isinstance(reply, p.Err)
        assert reply.code == "not_found"
