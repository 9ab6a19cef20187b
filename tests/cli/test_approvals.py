"""Approvals on the command line: what is shown is all there is, and nothing is approved that was not named or shown."""

import os
import pty
import re
import subprocess
import time
import unicodedata
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from console import PROGRAM, Console, Done
from desk import answers, desk, does, raises
from hyperhive.errors import Conflict
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.screens import OriginMessage
from hyperhive.protocol.types import Approval

EVIL = "\x1b]52;c;ZXZpbA==\x07\u202eevil\u2066\r\u200b"
SHA, BASE, DIFF = "1" * 40, "2" * 40, "a" * 64
TEXT = f"diff --git a/agent.toml b/agent.toml\n@@ -1 +1 @@\n-model = 'old'\n+model = 'new'\t# {EVIL}\n"


def approval(**changes: object) -> Approval:
    fields = {
        "id": 7, "agent": "alice", "commit_ref": SHA, "requested_at": int(time.time()) - 60, "status": "pending",
        "stage": "proposal", "base_ref": BASE, "diff_sha256": DIFF, "requested_by": "manager", **changes,
    }  # fmt: skip
    return Approval(**fields)  # type: ignore[arg-type]


class Hive:
    """Answers as a hive with one approval, and remembers what was decided."""

    def __init__(self, one: Approval | None = None, warnings: tuple[str, ...] = ()) -> None:
        self.one = one or approval()
        self.warnings = warnings
        self.asked: list[r.Request] = []

    async def act(self, request: r.Request) -> p.Reply:
        self.asked.append(request)
        match request:
            case r.Pending():
                return p.Approvals(approvals=[self.one])
            case r.Show():
                diff = TEXT if self.one.kind == "apply_commit" else ""
                return p.ApprovalDiff(approval=self.one, diff=diff, warnings=self.warnings)
            case r.Audit():
                entry = p.AuditEntry(
                    id=3,
                    at=1,
                    approval=7,
                    agent="alice",
                    action="denied",
                    who="operator",
                    channel="host",
                    sha=SHA,
                    why=EVIL,
                )
                return p.AuditRows(entries=[entry])
            case _:
                return p.Ok(id=7)

    @property
    def decided(self) -> list[r.Request]:
        return [one for one in self.asked if isinstance(one, r.Approve | r.Deny)]

    def table(self) -> dict[type[r.Request], Handler]:
        served = (r.Pending, r.Show, r.Approve, r.Deny, r.Audit, r.Rollback, r.Rebuild, r.RequestSpawn)
        return dict.fromkeys(served, does(self.act))


@pytest.fixture
def at(console: Console, tmp_path: Path) -> Path:
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "r")
    return tmp_path / "r"


async def run(console: Console, *words: str) -> Done:
    return await anyio.to_thread.run_sync(partial(console.run, *words))


def on_a_terminal(console: Console, typed: str, *words: str) -> tuple[int, str]:
    """What a terminal receives, after this was typed."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [str(PROGRAM), *words], stdin=slave, stdout=slave, stderr=slave, env={**console.environ(), "TERM": "xterm"},
        start_new_session=True,
    ) as child:  # fmt: skip
        os.close(slave)
        os.write(master, typed.encode())
        received = bytearray()
        try:
            while chunk := os.read(master, 65536):
                received += chunk
        except OSError:
            pass  # the terminal is closed: the command has ended
        code = child.wait(20)
    os.close(master)
    return code, received.decode()


async def test_what_led_to_an_approval_is_quoted_above_its_diff(console: Console, at: Path) -> None:
    said = OriginMessage(
        id=5, sender="bob", recipient="manager", at=int(time.time()) - 60, body=f"Do it. {EVIL}"
    )
    led = p.OriginPage(asker="manager", at=int(time.time()), turn=3, known=True, messages=(said,))
    async with desk(at, {**Hive().table(), r.Origin: answers(led)}):
        shown = await run(console, "show", "7")
    lines = shown.out.splitlines()
    place = lines.index("asked in turn 3 of manager, which was answering:")
    assert lines[place + 1] == "  bob to manager, 1m ago (message 5):"
    assert lines[place + 2].startswith("  | Do it. ")
    assert place < next(number for number, text in enumerate(lines) if text.startswith("diff --git"))
    assert "\x1b" not in shown.out


async def test_what_waits_is_listed_with_the_next_step(console: Console, at: Path) -> None:
    async with desk(at, Hive().table()):
        done = await run(console, "pending")
        same = await run(console, "approvals")
    assert done.code == 0
    assert "a change of alice" in done.out
    assert "hyperhive approve 7" in done.out
    assert same.out == done.out


async def test_a_diff_is_shown_whole_with_its_hidden_characters_made_visible(
    console: Console, at: Path
) -> None:
    """With who asked for it (C3): the operator need not take an agent's word for that."""
    hive = Hive(warnings=(f"agent.toml: line 4 has U+202E {EVIL}", "taken over while it runs: model"))
    async with desk(at, hive.table()):
        done = await run(console, "show", "7")
        plain = await run(console, "show", "7", "--json")
    assert done.code == 0
    for part in (
        SHA,
        BASE,
        DIFF,
        "-model = 'old'",
        "+model = 'new'",
        "\\u{202e}evil",
        "! taken over while it runs",
        "asked for by manager",
    ):
        assert part in done.out
    assert [c for c in done.out + plain.out if unicodedata.category(c) in {"Cc", "Cf"} and c != "\n"] == []
    assert plain.json["diff"] == TEXT
    assert plain.json["approval"]["diff_sha256"] == DIFF


async def test_without_a_terminal_commit_and_diff_must_be_named(console: Console, at: Path) -> None:
    hive = Hive()
    table = hive.table()
    async with desk(at, {**table, r.Approve: raises(Conflict("name what you saw", code="unseen"))}):
        refused = await run(console, "approve", "7")
    async with desk(at, table):
        done = await run(console, "approve", "7", "--sha", SHA, "--diff", DIFF)
    assert refused.code == 4
    assert done.code == 0
    assert hive.decided == [r.Approve(id=7, sha=SHA, diff_sha256=DIFF)]
    assert not [one for one in hive.asked if isinstance(one, r.Show)], (
        "nothing was looked up behind the caller's back"
    )


@pytest.mark.parametrize(
    ("typed", "warnings", "approved"),
    [
        ("y\n", (), True),
        ("yes\n", ("taken over while it runs: model",), True),
        ("\n", (), False),
        ("n\n", (), False),
        ("y\n", ("agent.toml: line 4 of the diff has U+202E (RIGHT-TO-LEFT OVERRIDE)",), False),
        ("7\n", ("agent.toml: line 4 of the diff has U+202E (RIGHT-TO-LEFT OVERRIDE)",), True),
    ],
)
async def test_on_a_terminal_the_diff_is_shown_and_what_was_shown_is_approved(
    console: Console, at: Path, typed: str, warnings: tuple[str, ...], approved: bool
) -> None:
    hive = Hive(warnings=warnings)
    async with desk(at, hive.table()):
        code, received = await anyio.to_thread.run_sync(
            partial(on_a_terminal, console, typed, "approve", "7")
        )
    assert "model = 'new'" in received
    assert code == (0 if approved else 1)
    assert hive.decided == ([r.Approve(id=7, sha=SHA, diff_sha256=DIFF)] if approved else [])
    left = re.sub(r"\x1b\[\d+m", "", received)
    assert [char for char in left if unicodedata.category(char) in {"Cc", "Cf"} and char not in "\r\n"] == []


async def test_a_spawn_has_nothing_to_show_and_is_asked_for_all_the_same(console: Console, at: Path) -> None:
    hive = Hive(approval(kind="spawn", commit_ref="", base_ref=None, diff_sha256=None, agent="bob"))
    async with desk(at, hive.table()):
        code, received = await anyio.to_thread.run_sync(
            partial(on_a_terminal, console, "y\n", "approve", "7")
        )
    assert code == 0
    assert "a new agent bob" in received
    assert hive.decided == [r.Approve(id=7)]


async def test_what_is_resolved_already_is_not_asked_about(console: Console, at: Path) -> None:
    hive = Hive(approval(status="denied", stage="denied", resolved_by="operator", resolved_at=5, note=EVIL))
    async with desk(at, hive.table()):
        code, received = await anyio.to_thread.run_sync(
            partial(on_a_terminal, console, "y\n", "approve", "7")
        )
    assert code == 4
    assert "denied already" in received
    assert hive.decided == []


@pytest.mark.parametrize(
    ("words", "request_made", "said"),
    [
        (["deny", "7", "--note", "too dear"], r.Deny(id=7, note="too dear"), "approval 7 is denied"),
        (["rollback", "alice", "3"], r.Rollback(name="alice", to=3), "goes back to 3, as approval 7"),
        (["rebuild", "alice", "--now"], r.Rebuild(name="alice", now=True), "alice is rebuilt, and well"),
        (["request-spawn", "bob"], r.RequestSpawn(name="bob"), "hyperhive approve 7"),
        (["audit", "--limit", "5"], r.Audit(limit=5), "denied by operator (host)  111111111111"),
    ],
)
async def test_each_command_is_one_request(
    console: Console, at: Path, words: list[str], request_made: r.Request, said: str
) -> None:
    hive = Hive()
    async with desk(at, hive.table()):
        done = await run(console, *words)
    assert done.code == 0, done.err
    assert hive.asked == [request_made]
    assert said in done.out
    assert [char for char in done.out if unicodedata.category(char) in {"Cc", "Cf"} and char != "\n"] == []
