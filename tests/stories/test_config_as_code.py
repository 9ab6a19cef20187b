"""Config as code from end to end: the manager commits in its box and asks, the operator decides, the agent runs on it.

The first story is the manager's own turn on the real CLI; in the others the manager speaks by its socket, as anything
in its box may. Decisions are the operator's CLI over `host.sock`.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from hive_process import HivePlace, HiveProcess, Json, running
from hyperhive.client import RemoteHive
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from parts import CLEAN_ENV, NSPAWN_BASE
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

DATES = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
NAMES = {
    "GIT_AUTHOR_NAME": "manager", "GIT_AUTHOR_EMAIL": "manager@hyperhive.invalid",
    "GIT_COMMITTER_NAME": "manager", "GIT_COMMITTER_EMAIL": "manager@hyperhive.invalid",
}  # fmt: skip


def git(place: Path, *words: str) -> str:
    """Git in a repo of the test's own making, or (read only) in the applied one."""
    env = {**CLEAN_ENV, **DATES, **NAMES, "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
    return subprocess.run(
        ["git", "-C", str(place), *words], env=env, capture_output=True, text=True, check=True
    ).stdout.strip()


class Stage:
    """One hive, its operator's command line, and what speaks as the manager."""

    def __init__(self, place: HivePlace, hive: HiveProcess, client: RemoteHive) -> None:
        self.place = place
        self.hive = hive
        self.client = client

    def proposed(self, name: str) -> Path:
        return self.place.state / "proposed" / name / "config"

    def tags(self, name: str) -> dict[str, str]:
        listed = git(
            self.place.state / "applied" / name,
            "for-each-ref",
            "refs/tags",
            "--format=%(refname:lstrip=2) %(objecttype)",
        )
        return dict(line.split() for line in listed.splitlines())

    async def has_repos(self, name: str) -> None:
        await self.hive.until(lambda: (self.proposed(name) / ".git").exists())

    async def cli(self, *words: str, code: int = 0) -> Json:
        """A command of the operator's."""

        def run() -> Json:
            done = subprocess.run(
                [sys.executable, "-m", "hyperhive.cli", *words, "--json"],
                env=self.place.environ, cwd=self.place.root, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == code, done.stdout + done.stderr
            found: Json = json.loads(done.stdout)
            return found

        return await anyio.to_thread.run_sync(run)

    async def manager(self, request: Json) -> Json:
        """A request as anything in the manager's box may make it."""
        async with await anyio.connect_unix(self.place.run / "manager" / "mcp.sock") as line:
            await line.send(json.dumps(request).encode() + b"\n")
            reply = b""
            while not reply.endswith(b"\n"):
                reply += await line.receive()
        found: Json = json.loads(reply)
        return found

    async def commit(self, name: str, text: str) -> str:
        """A commit in the proposed repo, by hand, on what is applied."""

        def work() -> str:
            repo = self.proposed(name)
            git(repo, "fetch", "-q", str(self.place.state / "applied" / name), "main")
            git(repo, "reset", "-q", "--hard", "FETCH_HEAD")
            (repo / "agent.toml").write_text(text)
            git(repo, "commit", "-qam", "change")
            return git(repo, "rev-parse", "HEAD")

        return await anyio.to_thread.run_sync(work)

    async def propose(self, name: str, text: str) -> int:
        sha = await self.commit(name, text)
        reply = await self.manager({"cmd": "request_apply_commit", "agent": name, "commit_ref": sha[:12]})
        assert reply["kind"] == "ok", reply
        return int(reply["id"])

    async def approve(self, number: int) -> Json:
        """As the operator who looks first; returns how it ended."""
        seen = (await self.cli("show", str(number)))["approval"]
        named = ["--sha", seen["commit_ref"], "--diff", seen["diff_sha256"]] if seen["commit_ref"] else []
        await self.cli("approve", str(number), *named)
        return await self.final(number)

    async def final(self, number: int) -> Json:
        """How the approval ended."""
        await self.hive.until(
            lambda: any(
                frame.get("kind") == "approval_resolved" and frame["approval"]["id"] == number
                for frame in self.hive.frames
            )
        )
        found: Json = msgspec.to_builtins((await self.client.approvals.show(number)).approval)
        return found

    async def answers(self, name: str, word: str) -> None:
        """The agent works its mail: its answer is there."""
        await self.client.broker.send("operator", name, f"say {word}")
        await self.hive.until(lambda: any(one.body == f"{word} from {name}" for one in self.place.mail()))


def answering(*names: str) -> list[Json]:
    """Rules by which these agents answer `say WORD` (one word each, as a turn's text is known beforehand)."""
    return [
        tool_turn(rf"\nsay {word}-{name}\n", send("operator", f"{word}-{name} from {name}"), end="said")
        for name in names
        for word in ("one", "two", "three", "four")
    ]


def last_request(api: FakeAnthropic, word: str) -> Json:
    """What the model was asked with in the turn that this word began."""
    mine = [one["body"] for one in api.requests if f"say {word}" in one["text"] and one["body"].get("tools")]
    body: Json = mine[-1]
    return body


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
