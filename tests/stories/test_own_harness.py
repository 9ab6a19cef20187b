"""A harness in a process of its own (`agent serve`): the same story, and turns that survive a restart of the core."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from config_stage import Stage, answering, last_request
from hive_process import END_SECONDS, HivePlace, HiveProcess, agent_serve, running, turns_of
from hyperhive.client import RemoteHive
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from processes import descendants
from story import Task, once, scenario, send, shown
from waiting import within

NewPlace = Callable[..., HivePlace]

OWN = """
[agents.alice]
harness = "own"
"""
NO_GATEWAY = OWN + 'network = "host"\n'
TOKEN = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "dummy-token-for-tests"}
"""An account that no gateway serves: its CLI asks the API itself, core or no core."""
PATIENT = {"CLAUDE_CODE_MAX_RETRIES": "10"}
"""As the CLI is by itself. What it asks of the model through a core that goes away, it asks again."""
WORK = r"\nwork\n"

pytestmark = [pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.timeout(120)]


@asynccontextmanager
async def with_alice(place: HivePlace) -> AsyncIterator[tuple[HiveProcess, RemoteHive, HiveProcess]]:
    """A core, and alice's harness beside it."""
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        async with agent_serve(place, "alice") as harness:
            yield hive, client, harness


def done(place: HivePlace, count: int) -> bool:
    """So many messages are there, and agents have nothing left to do."""
    mail = place.mail()
    return len(mail) == count and all(one.acked for one in mail if one.recipient != "operator")


def asked(api: FakeAnthropic, rounds: int) -> bool:
    """A model was asked again after so many tool results of the turn that begins with `work`."""
    return any(one["round"] == rounds and "\nwork\n" in one["text"] for one in api.requests)


def clis_of(harness: HiveProcess) -> set[int]:
    """The agent CLIs below this harness."""
    return descendants(harness.pid) & set(harness.place.clis())


async def test_the_story_is_the_same(places: NewPlace, api: FakeAnthropic) -> None:
    tasks = [Task(1), Task(2)]
    api.scenario = scenario(tasks)
    place = places(toml=OWN)
    async with with_alice(place) as (hive, client, _):
        await client.broker.send("operator", "manager", tasks[0].order)
        await hive.until(lambda: done(place, 4))
        warm = set(place.clis())
        await client.broker.send("operator", "manager", tasks[1].order)
        await hive.until(lambda: done(place, 8))
        assert set(place.clis()) == warm
        assert len(warm) == 2
        turns = await turns_of(client, "alice", 2)
        status = await client.lifecycle.status("alice")
    once([one.way for one in place.mail()], [way for task in tasks for way in task.ways])
    assert not any(one.marked for one in shown(api.requests))
    assert [(row.result_kind, row.input_tokens, row.last_cache_read_input_tokens) for row in turns] == [
        ("ok", 24, 2000)
    ] * 2
    assert status.agents[0].view.ctx_tokens == 2103


@pytest.mark.parametrize(
    ("how", "toml", "environ", "asks"),
    [
        pytest.param("kill -9", NO_GATEWAY, TOKEN, 1, id="kill -9"),
        pytest.param("SIGTERM", NO_GATEWAY, TOKEN, 1, id="SIGTERM"),
        pytest.param("kill -9", OWN, PATIENT, 2, id="kill -9 behind the gateway"),
    ],
)
async def test_a_turn_runs_on_while_the_core_restarts_and_sends_once(
    how: str, toml: str, environ: dict[str, str], asks: int, places: NewPlace, api: FakeAnthropic
) -> None:
    """The core goes away while the model thinks; the tool call that follows waits for the next core.

    Where the core's gateway was the way to the model, the CLI asks the model again through the next core's.
    """
    calls = [send("operator", "half way"), send("operator", "all done")]
    api.scenario = {"rules": [tool_turn(WORK, *calls)]}
    for step in api.scenario["rules"][0]["steps"]:
        step["delay"] = 0.7
    place = places(toml=toml, environ=environ)
    async with AsyncExitStack() as stack:
        async with running(place) as (hive, client):
            await client.lifecycle.spawn("alice")
            harness = await stack.enter_async_context(agent_serve(place, "alice"))
            await client.broker.send("operator", "alice", "work")
            await hive.until(lambda: asked(api, 0))
            cli = clis_of(harness)
            assert len(cli) == 1
            await (hive.kill() if how == "kill -9" else hive.stop())
        assert clis_of(harness) == cli, "the turn runs on without a core"
        async with running(place) as (hive, client):
            await hive.until(lambda: done(place, 3))
            assert clis_of(harness) == cli
            assert harness.process.returncode is None
            turns = await turns_of(client, "alice", 1)
            await stack.aclose()
    assert [one.body for one in place.mail()] == ["work", "half way", "all done"]
    assert [(one.body, one.marked) for one in shown(api.requests)] == [("work", False)] * asks
    assert [row.result_kind for row in turns] == ["ok"]


async def test_a_recv_call_under_way_survives_the_core_and_its_mail_is_done_with_the_turn(
    places: NewPlace, api: FakeAnthropic
) -> None:
    wait = ("mcp__hyperhive__recv", {"wait_seconds": 60})
    api.scenario = {"rules": [tool_turn(WORK, wait, send("operator", "got it"), end="over")]}
    place = places(toml=NO_GATEWAY, environ=TOKEN)
    async with AsyncExitStack() as stack:
        async with running(place) as (hive, client):
            await client.lifecycle.spawn("alice")
            await stack.enter_async_context(agent_serve(place, "alice"))
            await client.broker.send("operator", "alice", "work")
            await hive.until(lambda: asked(api, 0))
            await hive.kill()
        async with running(place) as (hive, client):
            await client.broker.send("operator", "alice", "more")
            await hive.until(lambda: done(place, 3))
            await stack.aclose()
    assert [one.body for one in place.mail()] == ["work", "more", "got it"]
    assert [(one.body, one.marked) for one in shown(api.requests)] == [("work", False)]
    taken = next(one["tool_result"] for one in api.requests if one["round"] == 1)
    assert taken.startswith("from: operator\n\nmore\n"), taken


async def test_mail_that_a_turn_took_before_the_core_was_killed_is_done_with_the_turn(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """The next core has never heard of the `recv` call that took it; the harness remembers."""
    rule = tool_turn(
        WORK, ("mcp__hyperhive__recv", {"wait_seconds": 60}), send("operator", "got it"), end="over"
    )
    rule["steps"][1]["delay"] = 1.0
    api.scenario = {"rules": [rule]}
    place = places(toml=NO_GATEWAY, environ=TOKEN)
    async with AsyncExitStack() as stack:
        async with running(place) as (hive, client):
            await client.lifecycle.spawn("alice")
            await stack.enter_async_context(agent_serve(place, "alice"))
            await client.broker.send("operator", "alice", "work")
            await client.broker.send("operator", "alice", "more")
            await hive.until(lambda: asked(api, 1))
            await hive.kill()
        async with running(place) as (hive, _):
            await hive.until(lambda: done(place, 3))
            await stack.aclose()
    assert [one.body for one in place.mail()] == ["work", "more", "got it"]
    assert [(one.body, one.marked) for one in shown(api.requests)] == [("work", False)]


async def test_a_harness_that_is_killed_leaves_nothing_behind_and_its_mail_comes_again_marked(
    places: NewPlace, api: FakeAnthropic
) -> None:
    rule = tool_turn(WORK, send("operator", "once only"), end="over")
    rule["steps"][1]["delay"] = 20
    rule["times"] = 2
    again = tool_turn(WORK, send("operator", "once only"), end="over")
    api.scenario = {"rules": [rule, again]}
    place = places(toml=OWN)
    async with with_alice(place) as (hive, client, harness):
        await client.broker.send("operator", "alice", "work")
        await hive.until(lambda: asked(api, 1))
        await harness.kill()
        async with agent_serve(place, "alice"):
            await hive.until(lambda: done(place, 2))
    assert [(one.body, one.marked) for one in shown(api.requests)] == [("work", False), ("work", True)]
    assert [one.body for one in place.mail()] == ["work", "once only"]


async def test_a_harness_without_a_core_ends_at_the_second_signal(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """It could not hand in what its turn came to; that is found out, and done again, in its next life."""
    rule = tool_turn(WORK, send("operator", "once only"), end="over")
    rule["steps"][0]["delay"] = 0.5
    api.scenario = {"rules": [rule]}
    place = places(toml=OWN)
    async with AsyncExitStack() as stack:
        async with running(place) as (hive, client):
            await client.lifecycle.spawn("alice")
            harness = await stack.enter_async_context(agent_serve(place, "alice"))
            await client.broker.send("operator", "alice", "work")
            await hive.until(lambda: asked(api, 0))
            await hive.kill()
        harness.process.terminate()
        await harness.until(lambda: "harness_draining" in place.errors.read_text())
        harness.process.terminate()
        with within(END_SECONDS, lambda: f"the harness does not end:\n{harness.last_words()}"):
            await harness.process.wait()
        assert not place.clis()
        async with running(place) as (hive, _), agent_serve(place, "alice"):
            await hive.until(lambda: done(place, 2))
    assert [one.body for one in place.mail()] == ["work", "once only"]
    assert [one.marked for one in shown(api.requests)] == [False, True]


@pytest.mark.needs("git")
async def test_what_was_approved_reaches_a_harness_of_its_own(places: NewPlace, api: FakeAnthropic) -> None:
    """What is taken over live, what takes a restart, and what is switched back: one process, never started by hand."""
    api.scenario = {"rules": answering("alice")}
    place = places(toml=OWN + 'network = "host"\n')
    config = place.root / "hive.toml"
    await anyio.Path(config).write_text("up_seconds = 0.1\nhealth_seconds = 40\n" + config.read_text())
    async with with_alice(place) as (hive, client, harness):
        stage = Stage(place, hive, client)
        await stage.has_repos("alice")
        await stage.answers("alice", "one-alice")
        assert "sonnet" not in last_request(api, "one-alice")["model"]
        live = await stage.approve(await stage.propose("alice", 'model = "sonnet"\n'))
        assert live["stage"] == "deployed", live
        await stage.answers("alice", "two-alice")
        assert "sonnet" in last_request(api, "two-alice")["model"]
        anew = await stage.approve(await stage.propose("alice", 'model = "sonnet"\nprompt = "Be brief."\n'))
        assert anew["stage"] == "deployed", anew
        await stage.answers("alice", "three-alice")
        assert "Be brief." in json.dumps(last_request(api, "three-alice"))
        broken = await stage.approve(
            await stage.propose("alice", '[mcp.tracker]\ncommand = "/nowhere/tracker"\n')
        )
        assert "tracker is failed" in broken["note"], broken
        await stage.answers("alice", "four-alice")
        assert "Be brief." in json.dumps(last_request(api, "four-alice"))
        assert harness.process.returncode is None
        await client.lifecycle.destroy("alice", purge=True)
    assert not (place.state / "agents" / "alice").exists(), "a harness that waits makes nothing"
