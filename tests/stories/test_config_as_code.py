"""Config as code from end to end: the manager commits in its box and asks, the operator decides, the agent runs on it.

The first story is the manager's own turn on the real CLI; in the others the manager speaks by its socket, as anything
in its box may. Decisions are the operator's CLI over `host.sock`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from config_stage import DATES, Stage, answering, git, last_request
from hive_process import HivePlace, Json, running
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from parts import NSPAWN_BASE
from story import bash, send

NewPlace = Callable[..., HivePlace]

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.needs("claude"),
    pytest.mark.needs("git"),
]

BOXES = pytest.param({"runtime": "bwrap"}, marks=pytest.mark.needs("bwrap"), id="bwrap")
IN_CONTAINERS = {"runtime": "nspawn", "environ": {"HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE)}}
CONTAINERS = pytest.param(IN_CONTAINERS, marks=pytest.mark.needs("nspawn"), id="nspawn")
CONTAINERS_LATER = pytest.param(
    IN_CONTAINERS, marks=[pytest.mark.needs("nspawn"), pytest.mark.campaign], id="nspawn"
)


@pytest.mark.parametrize("where", [BOXES, CONTAINERS])
async def test_the_managers_commit_comes_to_run_once_the_operator_approved_it(
    places: NewPlace, where: Json, api: FakeAnthropic, tmp_path: Path
) -> None:
    """The manager's own turn commits in its box and asks; the model then sees the new config, and nothing before."""
    place = places(**where, toml="up_seconds = 0.1\n")
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        await client.lifecycle.spawn("alice")
        await stage.has_repos("alice")
        text = 'model = "sonnet"\nprompt = "You keep the parser fast."\n'
        git(tmp_path, "clone", "-q", str(place.state / "applied" / "alice"), "twin")
        (tmp_path / "twin" / "agent.toml").write_text(text)
        git(tmp_path / "twin", "commit", "-qam", "faster")
        sha = git(tmp_path / "twin", "rev-parse", "HEAD")  # what the same commit in the box will be
        dates = " ".join(f"{key}='{value}'" for key, value in DATES.items())
        committing = (
            f"cd /agents/alice/config && printf '%s' '{text}' > agent.toml && {dates} git commit -qam faster"
        )
        asking = ("mcp__hyperhive__request_apply_commit", {"agent": "alice", "commit_ref": sha[:10]})
        change = tool_turn(
            r"\nmake alice faster\n", bash(committing), asking, send("operator", "asked for it")
        )
        api.scenario = {"rules": [change, *answering("alice")]}
        await stage.answers("alice", "one-alice")
        assert last_request(api, "one-alice")["model"] != "sonnet"
        await client.broker.send("operator", "manager", "make alice faster")
        await hive.until(lambda: any(one.body == "asked for it" for one in place.mail()))
        (waiting,) = (await stage.cli("pending"))["approvals"]
        assert (waiting["commit_ref"], waiting["requested_by"]) == (sha, "manager")
        shown = await stage.cli("show", str(waiting["id"]))
        assert '+model = "sonnet"' in shown["diff"]
        assert any("taken by a restart between two turns: prompt" in one for one in shown["warnings"])
        done = await stage.approve(waiting["id"])
        assert (done["stage"], done["resolved_by"]) == ("deployed", "operator"), done
        await stage.answers("alice", "two-alice")
        asked = last_request(api, "two-alice")
        assert "sonnet" in asked["model"]
        assert "You keep the parser fast." in json.dumps(asked)
        number = waiting["id"]
        assert stage.tags("alice") == dict.fromkeys(
            [
                "deployed/0",
                *(f"{word}/{number}" for word in ("proposal", "approved", "building", "deployed")),
            ],
            "commit",
        )
        told = [row.body for row in await client.broker.inbox()]
        assert not any("approval_resolved" in body for body in told), (
            "the manager is told of alice's, not the operator"
        )
        audit = (await stage.cli("audit"))["entries"]
        assert [(one["action"], one["who"], one["channel"]) for one in audit] == [
            ("deployed", "system", "core"), ("approved", "operator", "host"), ("requested", "manager", "tools"),
        ]  # fmt: skip


@pytest.mark.parametrize("where", [BOXES, CONTAINERS_LATER])
async def test_a_broken_config_fails_and_the_old_one_still_runs_deny_and_rollback(
    places: NewPlace, where: Json, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": answering("alice")}
    place = places(**where, toml="health_seconds = 30\nup_seconds = 0.1\n")
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        await client.lifecycle.spawn("alice")
        await stage.has_repos("alice")
        good = await stage.approve(await stage.propose("alice", 'model = "sonnet"\n'))
        assert good["stage"] == "deployed", good
        for text, reason in (
            ('[mcp.tracker]\ncommand = "/nowhere/tracker"\n', "tracker is failed"),
            ("modle = 'x'\n", "agent.toml:1: modle: unknown key"),
        ):
            number = await stage.propose("alice", text)
            failed = await stage.approve(number)
            assert failed["stage"] == "failed"
            assert reason in failed["note"]
            assert stage.tags("alice")[f"failed/{number}"] == "tag"
        await stage.answers("alice", "one-alice")
        assert "sonnet" in last_request(api, "one-alice")["model"]
        number = await stage.propose("alice", 'model = "opus"\n')
        await stage.cli("deny", str(number), "--note", "too dear")
        denied = await stage.final(number)
        assert (denied["stage"], denied["note"]) == ("denied", "too dear")
        late = await stage.cli("approve", str(number), "--sha", "1" * 40, "--diff", "a" * 64, code=4)
        assert "denied by operator already (too dear)" in late["error"]
        back = await stage.cli("rollback", "alice", "0")
        done = await stage.final(back["id"])
        assert (done["stage"], done["note"]) == ("deployed", "rollback to deployed/0")
        await stage.answers("alice", "two-alice")
        assert "sonnet" not in last_request(api, "two-alice")["model"]
        view = (await stage.cli("status", "alice"))["agents"][0]["view"]
        assert view["deployed_sha"] == done["commit_ref"]
        lock = json.loads((place.state / "meta" / "lock.json").read_text())
        assert lock["alice"] == done["commit_ref"]


@pytest.mark.parametrize("where", [BOXES, CONTAINERS])
async def test_a_spawn_by_approval_destroy_respawn_and_purge(
    places: NewPlace, where: Json, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": answering("bob")}
    place = places(**where, toml="up_seconds = 0.1\n")
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        asked = await stage.manager({"cmd": "request_spawn", "name": "bob"})
        assert await client.lifecycle.list() == ["manager"]
        done = await stage.approve(asked["id"])
        assert (done["stage"], done["kind"]) == ("deployed", "spawn")
        await stage.has_repos("bob")
        deployed = await stage.approve(await stage.propose("bob", 'model = "sonnet"\n'))
        assert deployed["stage"] == "deployed", deployed
        open_one = await stage.propose("bob", 'model = "opus"\n')
        await stage.cli("destroy", "bob")
        failed = await stage.final(open_one)
        assert (failed["stage"], failed["note"]) == ("failed", "destroyed")
        await stage.cli("spawn", "bob")  # its state, and what was deployed for it, are there again
        await stage.answers("bob", "one-bob")
        assert "sonnet" in last_request(api, "one-bob")["model"]
        await stage.cli("destroy", "bob", "--purge")
        for repo in (stage.proposed("bob"), place.state / "applied" / "bob"):
            assert not repo.exists()
        assert "bob" not in json.loads((place.state / "meta" / "lock.json").read_text())
        await stage.cli("spawn", "bob")
        await stage.answers("bob", "two-bob")
        assert "sonnet" not in last_request(api, "two-bob")["model"]


@pytest.mark.parametrize("where", [BOXES, CONTAINERS_LATER])
async def test_no_agent_decides_and_a_kill_in_the_middle_ends_well(
    places: NewPlace, where: Json, api: FakeAnthropic
) -> None:
    """What decides is forbidden to the manager's box; a hive that is killed goes on with what was approved."""
    api.scenario = {"rules": answering("alice")}
    place = places(**where, toml="up_seconds = 0.1\n")
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        await client.lifecycle.spawn("alice")
        await stage.has_repos("alice")
        number = await stage.propose("alice", 'prompt = "Be brief."\n')
        seen = (await stage.cli("show", str(number)))["approval"]
        for request in (
            {"cmd": "approve", "id": number, "sha": seen["commit_ref"], "diff_sha256": seen["diff_sha256"]},
            {"cmd": "deny", "id": number},
            {"cmd": "rollback", "name": "alice", "to": 0},
            {"cmd": "rebuild", "name": "alice"},
            {"cmd": "show", "id": number},
            {"cmd": "audit"},
        ):
            assert (await stage.manager(request))["code"] == "forbidden"
        again = await stage.manager({"cmd": "request_apply_commit", "agent": "alice", "commit_ref": "main"})
        assert again["code"] == "bad_request"
        await stage.cli("approve", str(number), "--sha", seen["commit_ref"], "--diff", seen["diff_sha256"])
        await hive.kill()
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        done = (await client.approvals.show(number)).approval
        if done.stage not in {"deployed", "failed"}:
            await stage.final(number)
            done = (await client.approvals.show(number)).approval
        assert done.stage == "deployed", done
        await stage.answers("alice", "one-alice")
        assert "Be brief." in json.dumps(last_request(api, "one-alice"))
        audit = (await stage.cli("audit"))["entries"]
        assert [one["action"] for one in audit] == ["deployed", "approved", "requested"]
