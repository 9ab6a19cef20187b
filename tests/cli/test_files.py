"""`hyperhive file`, `remind` and `reminders`: what they send, and what they print of what agents wrote."""

import base64
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest

from console import Console, Done
from desk import answers, desk, does
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.types import FileRef, LooseEnd, OperatorInboxRow, QuestionEnd, ReminderEnd

EVIL = "\x1b]52;c;ZXZpbA==\x07evil\u202e"


async def run(console: Console, *words: str) -> Done:
    return await anyio.to_thread.run_sync(partial(console.run, *words))


@pytest.fixture
def at(console: Console, tmp_path: Path) -> Path:
    """The run directory that the console is told."""
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")
    return tmp_path / "run"


async def test_a_file_is_printed_with_its_control_characters_made_visible(console: Console, at: Path) -> None:
    asked: list[r.Request] = []

    async def read(request: r.Request) -> p.Reply:
        asked.append(request)
        ref = FileRef(path=f"/state/{EVIL}.md", size=3000, kind="text")
        return p.StateFile(file=ref, text=f"one\n\n  two {EVIL}\n", truncated=True)

    async with desk(at, {r.StateFileRead: does(read)}):
        done = await run(console, "file", "12", "2")
        assert done.code == 0
        assert done.out.startswith("one\n\n  two ")
        assert "3000 bytes, cut" in done.err
        for text in (done.out, done.err):
            assert not set(text) & {"\x1b", "\x07", "\u202e"}
        assert (await run(console, "file", "--agent", "bob", "notes/x.md", "--json")).json["file"][
            "size"
        ] == 3000
    assert asked == [r.StateFileRead(message=12, n=2), r.StateFileRead(agent="bob", path="notes/x.md")]


async def test_a_check_says_what_it_is_and_a_binary_file_goes_to_a_pipe_as_it_is(
    console: Console, at: Path
) -> None:
    ref = FileRef(path="/state/x.png", size=4, kind="image")

    async def check(request: r.Request) -> p.Reply:
        del request
        return p.StateFile(file=ref)

    async def read(request: r.Request) -> p.Reply:
        del request
        return p.StateFile(file=ref, base64=base64.b64encode(b"\x89PNG"[1:]).decode())

    async with desk(at, {r.StateFileCheck: does(check), r.StateFileRead: does(read)}):
        done = await run(console, "file", "12", "--check")
        assert (done.code, done.out) == (0, "/state/x.png: image, 4 bytes\n")
        assert (await run(console, "file", "12")).out == "PNG"


def test_a_path_needs_an_agent(console: Console) -> None:
    done = console.run("file", "notes/x.md")
    assert done.code == 2
    assert "--agent NAME PATH" in done.err


async def test_the_inbox_says_how_to_see_a_messages_files(console: Console, at: Path) -> None:
    row = OperatorInboxRow(
        id=7, sender="bob", body="see x.md", at=1,
        file_refs=(FileRef(path=f"/state/{EVIL}x.md", size=12, kind="text"),),
    )  # fmt: skip

    async def inbox(request: r.Request) -> p.Reply:
        del request
        return p.InboxRows(messages=[row])

    async with desk(at, {r.Inbox: does(inbox)}):
        done = await run(console, "inbox")
    assert "x.md (text, 12 bytes): hyperhive file 7 1" in done.out
    assert "\x1b" not in done.out


async def test_a_reminder_is_for_whom_it_says(console: Console, at: Path) -> None:
    asked: list[r.Request] = []

    async def remind(request: r.Request) -> p.Reply:
        asked.append(request)
        return p.ReminderQueued(id=5)

    async with desk(at, {r.Remind: does(remind), r.List: answers(p.Agents(agents=["alice"]))}):
        assert (await run(console, "remind", "alice", "look", "--in", "2h", "--file-path", "x.md")).code == 0
        assert (await run(console, "remind", "mine", "--in", "10m")).out.startswith(
            "reminder 5 is set for you,"
        )
        assert (await run(console, "remind", "operator", "mine", "--due-at", "1900000000")).code == 0
    assert asked == [
        r.Remind(message="look", delay_seconds=7200, to="alice", file_path="x.md"),
        r.Remind(message="mine", delay_seconds=600),
        r.Remind(message="mine", due_at=1_900_000_000),
    ]


async def test_reminders_are_listed_with_why_one_failed_and_taken_back(console: Console, at: Path) -> None:
    ends: list[LooseEnd] = [
        QuestionEnd(id=4, asker="alice", target="bob", question="no reminder", age_seconds=3),
        ReminderEnd(
            id=7, owner="operator", message="the \x1b[31mcertificate", due_at=1900000000, age_seconds=3
        ),
        ReminderEnd(
            id=5, owner="alice", message="look", due_at=1800000000, age_seconds=9, failure="it is a link"
        ),
    ]
    cancelled: list[r.Request] = []

    async def cancel(request: r.Request) -> p.Reply:
        cancelled.append(request)
        return p.Ok(id=5)

    shown: dict[type[r.Request], Handler] = {
        r.GetLooseEnds: answers(p.LooseEnds(loose_ends=ends)),
        r.CancelLooseEnd: does(cancel),
    }
    async with desk(at, shown):
        done = await run(console, "reminders")
        assert (await run(console, "reminders", "--cancel", "5")).out == "reminder 5 is taken back\n"
    assert "\x1b" not in done.out
    assert "no reminder" not in done.out
    [_, first, second] = done.out.splitlines()
    assert ("alice" in first, "look" in first, "it is a link" in first) == (True, True, True)
    assert ("operator" in second, "certificate" in second) == (True, True)
    assert cancelled == [r.CancelLooseEnd(kind="reminder", id=5)]
    async with desk(at, {r.GetLooseEnds: answers(p.LooseEnds(loose_ends=[]))}):
        assert (await run(console, "reminders")).out == "no reminder is still to come\n"
