"""A hive as root with the runtime nspawn: the real agent CLI in containers, and what a turn's Bash finds there."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from config_stage import Stage
from hive_process import PATIENCE_SECONDS, HivePlace, running
from hyperhive.client import RemoteHive
from hyperhive.lifecycle.runtimes.inside import AGENT_UID
from hyperhive.lifecycle.runtimes.uid_ranges import RANGE
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.screens import SearchHit
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from parts import NSPAWN_BASE
from story import bash, send
from waiting import within

NewPlace = Callable[..., HivePlace]

pytestmark = [
    pytest.mark.needs("claude"),
    pytest.mark.needs("nspawn"),
    pytest.mark.timeout(180),
    pytest.mark.may_block("the test looks at processes between requests"),
]

LOOK = """
id -u; echo kept > /state/note; ls -A /sys /workspace; ls -d {state} {run} 2>/dev/null
git -C /agents/alice/config log --format=%s | head -n 1
ls /run/hive | sort; env | grep -c dummy-key-for-tests"""


async def test_the_real_cli_lives_in_a_container(places: NewPlace, api: FakeAnthropic) -> None:
    """It takes a turn with the hive's tools, keeps its state, sees nothing of the hive, and leaves nothing.

    Its key never comes into the container: the way to the model is the gateway's socket there.
    """
    place = places(runtime="nspawn", environ={"HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE)})
    look = LOOK.format(state=place.state, run=place.run)
    api.scenario = {"rules": [tool_turn(r"\nrun it\n", bash(look), end="ran")]}
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.broker.send("operator", "alice", "run it")
        await hive.until(lambda: all(one.acked for one in place.mail() if one.recipient != "operator"))
        view = (await client.lifecycle.status("alice")).agents[0].view
        assert (view.isolation, view.network) == ("nspawn", "none")
        pid = place.cli_of("alice")
        assert (await anyio.Path(f"/proc/{pid}").stat()).st_uid % RANGE == AGENT_UID
        with within(PATIENCE_SECONDS, lambda: "a search that finds what alice saw"):
            while not (said := await found(client, '"the config of a new agent"')):
                await anyio.lowlevel.checkpoint()
        assert {(hit.kind, hit.agent) for hit in said} == {("event", "alice")}
        await client.lifecycle.stop("alice")
        assert pid not in place.clis()
    results = [one["tool_result"] for one in api.requests if one["round"] == 1]
    assert len(results) == 1
    assert [line for line in str(results[0]).splitlines() if line] == [
        "58371", "/sys:", "/workspace:", "The config of a new agent", "bridge.py", "mcp.sock", "model.sock", "0",
    ]  # fmt: skip
    assert (place.state / "agents/alice/state/note").read_text() == "kept\n"


async def found(client: RemoteHive, query: str) -> list[SearchHit]:
    """What a search among the agents' events gives."""
    reply = await client.request(r.Search(query=query, scope="events"))
    assert isinstance(reply, p.SearchHits)
    return reply.hits


PATIENT = {"CLAUDE_CODE_MAX_RETRIES": "10"}
"""As the CLI is by itself. What it asks of the model through a core that is killed, it asks again."""


async def test_a_container_outlives_a_killed_core_and_its_own_crash_is_told_and_mended(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """The turn goes on, and what it sends arrives once; a harness that is killed is missed."""
    place = places(runtime="nspawn", environ={"HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE), **PATIENT})
    work = tool_turn(r"\nwork\n", send("operator", "half way"), send("operator", "all done"))
    for step in work["steps"]:
        step["delay"] = 0.7
    api.scenario = {"rules": [work, tool_turn(r"\nsay it\n", send("operator", "again"), end="said")]}
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        harness = harness_of(place, "alice")
        await client.broker.send("operator", "alice", "work")
        await hive.until(lambda: any("\nwork\n" in one["text"] for one in api.requests))
        await hive.kill()
    async with running(place) as (hive, client):
        await hive.until(lambda: any(one.body == "all done" for one in place.mail()))
        await hive.until(lambda: all(one.acked for one in place.mail() if one.recipient == "alice"))
        assert [one.body for one in place.mail()] == ["work", "half way", "all done"]
        assert harness_of(place, "alice") == harness
        os.kill(harness, signal.SIGKILL)
        await hive.until(lambda: bool(place.told("container_crash")))
        assert "harness_started" in place.told("container_crash")[0]
        await client.broker.send("operator", "alice", "say it")
        await hive.until(lambda: any(one.body == "again" for one in place.mail()))
        assert harness_of(place, "alice") != harness


async def test_a_hive_in_a_terminal_takes_its_containers_along_and_lets_their_turns_end(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """What was started by `up` is over when that is. A service's go on: see test_nspawn_hosts.py."""
    place = places(runtime="nspawn", environ={"HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE)})
    work = tool_turn(r"\nwork\n", send("operator", "half way"), send("operator", "all done"))
    for step in work["steps"]:
        step["delay"] = 0.7
    api.scenario = {"rules": [work]}
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.broker.send("operator", "alice", "work")
        await hive.until(lambda: any("\nwork\n" in one["text"] for one in api.requests))
        assert await hive.stop() == 0
        assert place.harnesses() == []
    assert [one.body for one in place.mail()] == ["work", "half way", "all done"]
    assert all(one.acked for one in place.mail() if one.recipient == "alice")


TOKEN = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "dummy-token-for-tests"}


@pytest.mark.campaign
async def test_a_token_reaches_the_cli_in_a_container_and_a_newer_one_while_it_runs(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """No gateway adds a token: the harness is handed it, and nothing of the container is started anew for another."""
    toml = '[agents.alice]\nnetwork = "host"\n'
    place = places(runtime="nspawn", environ={"HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE), **TOKEN}, toml=toml)
    look = bash("ls /run/hive-harness 2>&1 | grep -c denied")
    api.scenario = {"rules": [tool_turn(r"\nlook\n", look, send("operator", "looked"), end="ran")]}
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        harness = harness_of(place, "alice")
        await client.broker.send("operator", "alice", "look")
        await hive.until(lambda: any(one.body == "looked" for one in place.mail()))
        await client.request(r.Account(name="default", token="dummy-token-2-for-tests"))
        handed = place.run / "harness/alice/accounts/default"
        await hive.until(handed.exists)
        assert harness_of(place, "alice") == harness
        assert handed.stat().st_mode & 0o777 == 0o600
        await client.broker.send("operator", "alice", "look")
        await hive.until(lambda: [one.body for one in place.mail()].count("looked") == 2)
        environ = await anyio.Path(f"/proc/{place.cli_of('alice')}/environ").read_bytes()
        assert b"=dummy-token-2-for-tests" in environ


def harness_of(place: HivePlace, agent: str) -> int:
    """The pid of the one harness of this agent's container."""
    (found,) = [
        pid for pid in place.harnesses() if agent in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]
    return found


async def test_what_can_be_taken_over_live_leaves_the_container_alone(places: NewPlace) -> None:
    """Another model is the harness's to take over; another prompt starts the container anew, and only that one.

    What the operator changes in hive.toml waits for the agent's next start, and that is shown.
    """
    place = places(
        runtime="nspawn", environ={"HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE)}, toml="up_seconds = 0.1\n"
    )
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        await client.lifecycle.spawn("alice")
        await stage.has_repos("alice")
        live_one, manager = harness_of(place, "alice"), harness_of(place, "manager")
        live = await stage.approve(await stage.propose("alice", 'model = "opus"\n'))
        assert (live["stage"], harness_of(place, "alice")) == ("deployed", live_one)
        anew = await stage.approve(await stage.propose("alice", 'model = "opus"\nprompt = "Be quick."\n'))
        assert anew["stage"] == "deployed"
        assert (harness := harness_of(place, "alice")) != live_one
        assert harness_of(place, "manager") == manager
        with (place.root / "hive.toml").open("a") as toml:
            toml.write("[agents.alice.limits]\npids = 300\n")
        await client.request(r.Reload())
        with anyio.fail_after(40):
            while not (alice := (await client.lifecycle.status("alice")).agents[0]).view.needs_update:
                await anyio.lowlevel.checkpoint()
        assert any("container takes new mounts, limits" in one for one in alice.warnings)
        assert harness_of(place, "alice") == harness
        await client.request(r.Update(name="alice"))
        assert harness_of(place, "alice") != harness
        assert not (await client.lifecycle.status("alice")).agents[0].view.needs_update
