"""What stories about configs are told with: the operator's command line, the manager's socket and its commits."""

import json
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from hive_process import ANSWER_SECONDS, HivePlace, HiveProcess, Json
from hyperhive.client import RemoteHive
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from parts import CLEAN_ENV
from story import send
from waiting import within

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
                timeout=ANSWER_SECONDS,
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
            with within(ANSWER_SECONDS, lambda: f"no answer to {request}"):
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
