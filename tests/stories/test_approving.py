"""Approvals as they are lived: the manager's own turns ask and are told, the operator sits at a terminal."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from config_stage import Stage, answering, last_request
from hive_process import HivePlace, Json, running
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from story import send

NewPlace = Callable[..., HivePlace]

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.needs("claude"),
    pytest.mark.needs("bwrap"),
    pytest.mark.needs("git"),
]

TOLD = (send("operator", "I was told"),)


def at_a_terminal(place: HivePlace, typed: str, *words: str) -> tuple[int, str]:
    """What an operator sees who types this after the command, on a terminal of 80 columns; without its colours."""
    master, slave = pty.openpty()
    environ = {**place.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    command = [sys.executable, "-m", "hyperhive.cli", *words]
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environ, cwd=place.root, start_new_session=True
    ) as child:
        os.close(slave)
        os.write(master, typed.encode())
        received = bytearray()
        try:
            while chunk := os.read(master, 65536):
                received += chunk
        except OSError:
            pass  # the terminal is closed: the command has ended
        code = child.wait(30)
    os.close(master)
    return code, re.sub(r"\x1b\[[\d;]*m", "", received.decode()).replace("\r\n", "\n")


async def terminal(place: HivePlace, typed: str, *words: str) -> tuple[int, str]:
    return await anyio.to_thread.run_sync(lambda: at_a_terminal(place, typed, *words))


def asked_with(api: FakeAnthropic, text: str) -> list[str]:
    """The prompts of the manager's turns in which this stands."""
    return [one["text"] for one in api.requests if one["round"] == 0 and text in one["text"]]


async def test_the_managers_turn_asks_for_an_agent_and_is_told_what_the_operator_said(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """A denial reaches the manager's model with its reason; at the second attempt the agent comes, and works."""
    ask = ("mcp__hyperhive__request_spawn", {"name": "bob"})
    api.scenario = {
        "rules": [
            tool_turn(r"\nwe need bob\n", ask, send("operator", "asked for bob"), end="asked"),
            tool_turn(r"too dear", *TOLD, end="heard"),
            *answering("bob"),
        ]
    }
    place = places()
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        await client.broker.send("operator", "manager", "we need bob")
        await hive.until(lambda: [one.body for one in place.mail()].count("asked for bob") == 1)
        (first,) = (await stage.cli("pending"))["approvals"]
        assert (first["kind"], first["agent"], first["requested_by"]) == ("spawn", "bob", "manager")
        await stage.cli("deny", str(first["id"]), "--note", "too dear today")
        await hive.until(lambda: any(one.body == "I was told" for one in place.mail()))
        (told,) = asked_with(api, "too dear today")
        assert '"event":"approval_resolved"' in told
        assert await client.lifecycle.list() == ["manager"]
        await client.broker.send("operator", "manager", "we need bob")
        await hive.until(lambda: [one.body for one in place.mail()].count("asked for bob") == 2)
        (second,) = (await stage.cli("pending"))["approvals"]
        code, seen = await terminal(place, "y\n", "approve", str(second["id"]))
        assert code == 0, seen
        assert "a new agent bob, asked for by manager" in seen
        assert (await stage.final(second["id"]))["stage"] == "deployed"
        await stage.answers("bob", "one-bob")


async def test_at_a_terminal_the_operator_sees_everything_before_a_word_counts(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """Diff, what restarts, what is cut; `n` decides nothing; lists fit a terminal of 80 columns."""
    api.scenario = {"rules": answering("alice")}
    place = places(toml="up_seconds = 0.1\n[agents.alice.limits]\npids = 64\n")
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        await client.lifecycle.spawn("alice")
        await stage.has_repos("alice")
        number = await stage.propose("alice", 'model = "sonnet"\nprompt = "Be brief."\npids = 9999\n')
        for word in ("n\n", "y\n"):
            code, seen = await terminal(place, word, "approve", str(number))
            for part in (
                '+model = "sonnet"', "! cut: pids: 9999 is cut to 64", "taken over while it runs: model",
                "taken by a restart between two turns: prompt", "Approve exactly this? [y/N]",
            ):  # fmt: skip
                assert part in seen, seen
            assert code == (1 if word == "n\n" else 0)
        done = await stage.final(number)
        assert (done["stage"], "cut: pids" in done["note"]) == ("deployed", True)
        for command in (("pending",), ("show", str(number)), ("audit",), ("list",)):
            _, said = await terminal(place, "", *command)
            assert [line for line in said.splitlines() if len(line) > 80 and not _of_a_diff(line)] == []
        for refused in (
            ("deny", str(number)), ("rollback", "alice", "99"), ("rebuild", "nobody"), ("update", "nobody"),
            ("destroy", "nobody"), ("show", "99"),
        ):  # fmt: skip
            code, said = await terminal(place, "", *refused)
            assert (code == 0, said.startswith("error: ")) == (False, True), said


def _of_a_diff(line: str) -> bool:
    return line[:1] in set("+-@ ") or line.startswith(("diff --git", "index "))


async def test_what_waits_for_the_operator_outlives_a_kill_and_a_purge_keeps_the_audit(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """Approvals that were open when the hive was killed can be looked at and decided in its next life, as they were."""
    api.scenario = {"rules": answering("alice", "bob")}
    place = places(toml="up_seconds = 0.1\n")
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        await client.lifecycle.spawn("alice")
        await stage.has_repos("alice")
        change = await stage.propose("alice", 'model = "sonnet"\n')
        spawn = int((await stage.manager({"cmd": "request_spawn", "name": "bob"}))["id"])
        before = [await stage.cli("show", str(number)) for number in (change, spawn)]
        await hive.kill()
    async with running(place) as (hive, client):
        stage = Stage(place, hive, client)
        assert [one["id"] for one in (await stage.cli("pending"))["approvals"]] == [change, spawn]
        assert [await stage.cli("show", str(number)) for number in (change, spawn)] == before
        seen: Json = before[0]["approval"]
        await stage.cli("approve", str(change), "--sha", seen["commit_ref"], "--diff", seen["diff_sha256"])
        assert (await stage.final(change))["stage"] == "deployed"
        assert (await stage.approve(spawn))["stage"] == "deployed"
        await stage.answers("alice", "one-alice")
        assert "sonnet" in last_request(api, "one-alice")["model"]
        await stage.answers("bob", "one-bob")
        await stage.cli("destroy", "alice", "--purge")
        decided = [(one["agent"], one["action"]) for one in (await stage.cli("audit"))["entries"]]
        assert ("alice", "deployed") in decided
        assert ("alice", "approved") in decided
        assert not _left(place.state, "alice")


def _left(state: Path, name: str) -> list[Path]:
    """What a purge should have removed."""
    return [path for path in (state / "proposed" / name, state / "applied" / name) if path.exists()]
