"""What the client commands send, wait for and print, against the real sockets with handlers of the test's choice."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from console import PROGRAM, Console, Done
from desk import answers, desk, does
from hyperhive.protocol import events as e
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.types import ContainerView, DeadLetter, OperatorInboxRow, TurnRow

EVIL = "\x1b]52;c;ZXZpbA==\x07\x9b2J\u202eevil\u2066\r\x00\u200b\U000e0041 end"
HEAVY = {"litestar", "mcp", "sqlite_utils", "structlog", "pydantic", "anyio", "asyncio", "rich", "sqlite3"}


def view(name: str, **changes: object) -> ContainerView:
    fields = {
        "name": name, "role": "manager" if name == "manager" else "agent", "running": True, "state": "idle",
        "turn_state": "idle", "turn_state_since": int(time.time()) - 200, "unread": 0, "model": "haiku",
        "isolation": "bwrap", "network": "none", "account": "default", "needs_login": False, "needs_update": False,
        "held_by_operator": False, "pending_reminders": 0, **changes,
    }  # fmt: skip
    return ContainerView(**fields)  # type: ignore[arg-type]


def status(*views: ContainerView, warnings: tuple[str, ...] = ()) -> p.HiveStatus:
    info = p.HiveInfo(
        revision="0.1.0", runtime="bwrap", started_at=int(time.time()) - 7300, pid=42, state_dir="/s", run_dir="/r",
        operator_unread=2, dead=1, warnings=warnings,
    )  # fmt: skip
    return p.HiveStatus(
        hive=info, agents=[p.AgentDetail(view=each, warnings=("network is the host's",)) for each in views]
    )


def fleet() -> p.HiveStatus:
    """Two agents, and how long they have been at it now."""
    return status(
        view("manager"), view("alice", state="needs_you", turn_state="waiting", waiting_reason="login")
    )


async def run(console: Console, *words: str, stdin: str | None = None) -> Done:
    return await anyio.to_thread.run_sync(partial(console.run, *words, stdin=stdin))


@pytest.fixture
def at(console: Console, tmp_path: Path) -> Path:
    """The run directory that the console is told."""
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")
    return tmp_path / "run"


# --- printing -------------------------------------------------------------------------------------------------------


async def test_an_agent_that_shares_the_hosts_network_is_told_apart_in_the_table(
    console: Console, at: Path
) -> None:
    shown = status(
        view("alice", network="host"),
        view("bob", network="out"),
        view("carol", isolation="none", network="host"),
    )
    async with desk(at, {r.Status: answers(shown)}):
        done = await run(console, "list")
    cells = {line.split()[0]: line.split("  ")[-1].strip() for line in done.out.splitlines()[1:]}
    assert cells == {"alice": "bwrap, host network", "bob": "bwrap", "carol": "none"}


async def test_the_fleet_is_a_table_with_who_needs_the_operator_first(console: Console, at: Path) -> None:
    async with desk(at, {r.Status: answers(fleet())}):
        done = await run(console, "list")
    assert done.code == 0, done.err
    header, first, second = done.out.splitlines()
    assert header.split() == ["NAME", "STATE", "DOING", "UNREAD", "MODEL", "ISOLATION"]
    assert first.startswith("alice    needs you  waiting (login) 3m")
    assert second.startswith("manager  idle       idle 3m")
    assert "\x1b" not in done.out


async def test_status_says_what_is_not_isolated_once(console: Console, at: Path) -> None:
    async with desk(at, {r.Status: answers(fleet())}):
        done = await run(console, "status")
        one = await run(console, "status", "alice")
    assert "up since 2h ago" in done.out
    assert "2 messages for you: hyperhive inbox" in done.out
    assert "1 dead letter: hyperhive dead" in done.out
    assert done.out.count("network is the host's") == 1
    assert "! all agents: network is the host's" in done.out
    assert "isolation   bwrap" in one.out


async def test_eighty_columns_are_enough_for_any_name(console: Console, at: Path) -> None:
    long = [view("a" * 63, model="m" * 200), view("b", state="failed", model="日本" * 30)]
    async with desk(at, {r.Status: answers(status(*long))}):
        done = await run(console, "list")
    for line in done.out.splitlines():
        assert sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line) <= 80


def in_a_terminal(console: Console, *words: str) -> str:
    """What a terminal receives."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [str(PROGRAM), *words], stdin=slave, stdout=slave, stderr=slave, env={**console.environ(), "TERM": "xterm"},
        start_new_session=True,
    ) as child:  # fmt: skip
        os.close(slave)
        received = bytearray()
        try:
            while chunk := os.read(master, 65536):
                received += chunk
        except OSError:
            pass  # the terminal is closed: the command has ended
        child.wait(20)
    os.close(master)
    return received.decode()


@pytest.mark.parametrize(
    "words",
    [["inbox"], ["inbox", "--json"], ["dead"], ["status"], ["status", "x"], ["logs", "x"], ["events", "x"]],
)
async def test_no_text_of_an_agent_steers_the_terminal(console: Console, at: Path, words: list[str]) -> None:
    """Our own colours are the only escapes that reach a terminal."""
    rows = [OperatorInboxRow(id=1, sender="x" + EVIL, body=f"hi\n{EVIL}\tx", at=1)]
    letters = [DeadLetter(id=1, sender="x", recipient="y", body=EVIL, at=1, dead_at=2, reason=EVIL)]
    stream = {"kind": "stream", "type": "assistant", "message": {"content": [{"type": "text", "text": EVIL}]}}
    page = p.EventPage(seq=0, events=[{"kind": "note", "text": EVIL}, {"kind": EVIL, "id": EVIL}, stream])
    handlers: dict[type[r.Request], Handler] = {
        r.Inbox: answers(p.InboxRows(messages=rows)),
        r.Dead: answers(p.DeadLetters(dead=letters)),
        r.Status: answers(status(view("x", model=EVIL, account=EVIL), warnings=(EVIL,))),
        r.Logs: answers(p.LogLines(lines=[EVIL, json.dumps({"event": EVIL})])),
        r.Events: answers(page),
    }
    async with desk(at, handlers):
        received = await anyio.to_thread.run_sync(partial(in_a_terminal, console, *words))
    assert "evil" in received
    assert "Traceback" not in received
    left = re.sub(r"\x1b\[\d+m", "", received)
    assert [char for char in left if unicodedata.category(char) in {"Cc", "Cf"} and char not in "\r\n"] == []
    console.env["NO_COLOR"] = "1"
    async with desk(at, handlers):
        received = await anyio.to_thread.run_sync(partial(in_a_terminal, console, *words))
    assert "\x1b" not in received


# --- cost -----------------------------------------------------------------------------------------------------------

VERBS: list[list[str]] = [
    ["list"], ["list", "--json"], ["status"], ["inbox"], ["dead"], ["send", "alice", "hi"], ["kill", "alice"],
    ["turns", "alice"], ["events", "alice"], ["logs", "alice"], ["model", "alice", "opus"], ["pending"],
    ["search", "word"],
]  # fmt: skip


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
async def test_a_client_command_pays_for_no_framework(console: Console, at: Path, words: list[str]) -> None:
    program = (
        "import sys\nfrom hyperhive.cli import run\n"
        f"code = run({words!r})\nprint(code, *sorted(sys.modules), file=sys.stderr)"
    )
    handlers: dict[type[r.Request], Handler] = {
        r.Status: answers(fleet()), r.List: answers(p.Agents(agents=[])), r.Inbox: answers(p.InboxRows(messages=[])),
        r.Dead: answers(p.DeadLetters(dead=[])), r.Send: answers(p.Ok(id=1)), r.Kill: answers(p.Ok()),
        r.Turns: answers(p.TurnRows(turns=[])), r.Events: answers(p.EventPage(seq=0, events=[])),
        r.Logs: answers(p.LogLines(lines=[])), r.Model: answers(p.Ok()), r.Pending: answers(p.Approvals(approvals=[])),
        r.Search: answers(p.SearchHits(hits=[])),
    }  # fmt: skip
    async with desk(at, handlers):
        argv = [sys.executable, "-c", program]
        done = await anyio.to_thread.run_sync(
            partial(subprocess.run, argv, env=console.environ(), capture_output=True, text=True, check=False)
        )
    code, *modules = done.stderr.split()
    assert code == "0"
    assert HEAVY & set(modules) == set()


# --- mail -----------------------------------------------------------------------------------------------------------

Act = Callable[[r.Request], Awaitable[p.Reply]]


class Mail:
    """A hive that takes one message and then lets these frames of its stream out."""

    def __init__(self, *frames: e.StreamEvent) -> None:
        self.sent: list[r.Send] = []
        self._frames = frames
        self._taken = anyio.Event()

    async def send(self, request: r.Request) -> p.Reply:
        assert isinstance(request, r.Send)
        self.sent.append(request)
        self._taken.set()
        return p.Ok(id=7)

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        assert name == "hive"
        yield encode(e.Resume(resume="new", id="x:1"))
        await self._taken.wait()
        for frame in self._frames:
            yield encode(frame)
        await anyio.sleep_forever()

    def handlers(self) -> dict[type[r.Request], Handler]:
        answer = OperatorInboxRow(id=9, sender="alice", body="here it is\nall of it", at=1)
        return {
            r.Send: does(self.send),
            r.Inbox: answers(p.InboxRows(messages=[answer])),
            r.Status: answers(fleet()),
        }


def reply(id: int = 9, sender: str = "alice") -> e.Sent:  # noqa: A002
    return e.Sent(id=id, sender=sender, recipient="operator", body="here it is", at=1)


def moved(state: str, id: int = 7, note: str | None = None) -> e.MessageState:  # noqa: A002
    return e.MessageState(id=id, state=state, note=note)  # type: ignore[arg-type]


async def test_sending_says_where_the_message_is(console: Console, at: Path) -> None:
    mail = Mail()
    async with desk(at, mail.handlers(), mail.stream):
        done = await run(
            console, "send", "alice", "-x", "two", "words", "--urgency", "soon", "--dedupe-key", "k"
        )
        piped = await run(console, "send", "alice", "-", stdin="from a pipe\n")
        quiet = await run(console, "send", "alice", "--json", stdin="also")
    assert (done.code, done.out) == (0, "message 7 is in the inbox of alice\n")
    assert quiet.json == {"ok": True, "id": 7}
    assert piped.code == 0
    assert [(s.to, s.body, s.urgency, s.dedupe_key) for s in mail.sent] == [
        ("alice", "-x two words", "soon", "k"), ("alice", "from a pipe\n", "next_turn", None),
        ("alice", "also", "next_turn", None),
    ]  # fmt: skip


async def test_waiting_ends_with_the_ack_of_this_message_and_prints_what_came_back(
    console: Console, at: Path
) -> None:
    frames = (moved("in_flight"), reply(8, "bob"), moved("acked", id=6), reply(), moved("acked"))
    mail = Mail(*frames)
    async with desk(at, mail.handlers(), mail.stream):
        done = await run(console, "send", "--wait", "alice", "hi")
    assert (done.code, done.out) == (0, "here it is\nall of it\n")
    mail = Mail(*frames)
    async with desk(at, mail.handlers(), mail.stream):
        done = await run(console, "send", "--wait", "alice", "hi", "--json")
    assert (done.json["id"], done.json["state"]) == (7, "acked")
    assert [answer["body"] for answer in done.json["answers"]] == ["here it is\nall of it"]


async def test_waiting_for_a_message_that_is_given_up_fails_with_the_reason(
    console: Console, at: Path
) -> None:
    mail = Mail(moved("in_flight"), moved("dead", note="stuck"))
    async with desk(at, mail.handlers(), mail.stream):
        done = await run(console, "send", "--wait", "alice", "hi", "--json")
    assert (done.code, done.json["code"]) == (1, "dead")
    assert "stuck" in done.json["error"]


async def test_waiting_for_a_message_that_was_taken_back_fails(console: Console, at: Path) -> None:
    mail = Mail(moved("acked", note="dropped"))
    async with desk(at, mail.handlers(), mail.stream):
        done = await run(console, "send", "--wait", "alice", "hi", "--json")
    assert (done.code, done.json["code"]) == (1, "dropped")


async def test_after_missed_frames_a_dead_letter_is_not_taken_for_done(console: Console, at: Path) -> None:
    """The agent is idle, and the frame that told of the letter's death was among those that were missed."""
    mail = Mail(e.Lagged(missed=5))
    letter = DeadLetter(
        id=7, sender="operator", recipient="alice", body="hi", at=1, dead_at=2, reason="stuck", tries=5
    )
    idle = status(view("alice"))
    handlers = mail.handlers() | {r.Status: answers(idle), r.Dead: answers(p.DeadLetters(dead=[letter]))}
    async with desk(at, handlers, mail.stream):
        done = await run(console, "send", "--wait", "alice", "hi", "--json")
    assert (done.code, done.json["code"]) == (1, "dead")
    assert "stuck" in done.json["error"]
    mail = Mail(e.Lagged(missed=5))
    handlers = mail.handlers() | {r.Status: answers(idle), r.Dead: answers(p.DeadLetters(dead=[]))}
    async with desk(at, handlers, mail.stream):
        done = await run(console, "send", "--wait", "alice", "hi", "--json")
    assert done.json["state"] == "acked"


async def test_failed_turns_are_found_behind_good_ones(console: Console, at: Path) -> None:
    def row(kind: str, ended_at: int) -> TurnRow:
        return TurnRow(
            started_at=1, ended_at=ended_at, duration_ms=1, model="haiku", wake_from="operator",
            result_kind=kind,  # type: ignore[arg-type]
        )  # fmt: skip

    rows = [row("ok", 100 - number) for number in range(60)] + [row("stuck", 2), row("crashed", 1)]

    async def turns(request: r.Request) -> p.Reply:
        assert isinstance(request, r.Turns)
        wanted = [row for row in rows if row.result_kind != "ok" or not request.failed]
        return p.TurnRows(turns=wanted[: request.limit])

    async with desk(at, {r.Turns: does(turns)}):
        done = await run(console, "turns", "alice", "--failed", "--json")
        assert [each["result_kind"] for each in done.json["turns"]] == ["stuck", "crashed"]
        done = await run(console, "turns", "alice", "--failed", "--limit", "1")
        assert "stuck" in done.out
        assert "crashed" not in done.out
        assert len((await run(console, "turns", "alice", "--json")).json["turns"]) == 20


async def test_waiting_is_bounded(console: Console, at: Path) -> None:
    mail = Mail(moved("in_flight"))
    async with desk(at, mail.handlers(), mail.stream):
        done = await run(console, "send", "--wait", "--timeout", "0.2", "alice", "hi", "--json")
    assert (done.code, done.json["code"]) == (6, "timed_out")


async def test_a_message_that_is_no_text_is_refused_here(console: Console, at: Path) -> None:
    async with desk(at, {}):
        argv = [str(PROGRAM), "send", "alice", "-"]

        def send() -> subprocess.CompletedProcess[bytes]:
            environ = console.environ()
            return subprocess.run(argv, input=b"\xff\xfe", env=environ, capture_output=True, check=False)

        done = await anyio.to_thread.run_sync(send)
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr


async def test_ctrl_c_ends_a_follower_with_130(console: Console, at: Path) -> None:
    async def stream(name: str) -> AsyncIterator[bytes]:
        assert name == "hive"
        yield encode(e.Resume(resume="new", id="x:1"))
        yield encode(reply())
        await anyio.sleep_forever()

    async with desk(at, {r.History: answers(p.HivePast(seq=0, events=[]))}, stream):
        argv = [str(PROGRAM), "events", "-f", "--json"]
        async with await anyio.open_process(argv, env=console.environ(), stdin=subprocess.DEVNULL) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            lines = b""
            with anyio.fail_after(20):
                while lines.count(b"\n") < 2:
                    lines += await child.stdout.receive()
                child.send_signal(signal.SIGINT)
                code = await child.wait()
    assert code == 130
    assert [json.loads(line)["kind"] for line in lines.splitlines()] == ["resume", "sent"]


async def test_stopping_all_stops_each_after_what_goes_on_with_it_and_names_who_would_not(
    console: Console, at: Path
) -> None:
    asked: list[str] = []

    async def kill(request: r.Request) -> p.Reply:
        assert isinstance(request, r.Kill)
        assert request.wait
        asked.append(request.name)
        return p.Ok() if request.name != "bob" else p.Err(message="is restarting", code="conflict")

    async with desk(at, {r.List: answers(p.Agents(agents=["manager", "alice", "bob"])), r.Kill: does(kill)}):
        done = await run(console, "kill", "--all", "--json")
    assert sorted(asked) == ["alice", "bob", "manager"]
    assert done.code == 1
    assert done.json["stopped"] == ["manager", "alice"]
    assert done.json["failed"]["bob"]["code"] == "conflict"


async def test_dead_letters_are_requeued_and_dropped_by_id(console: Console, at: Path) -> None:
    asked: list[tuple[str, int]] = []

    async def act(request: r.Request) -> p.Reply:
        assert isinstance(request, r.Requeue | r.Drop)
        asked.append((type(request).__name__, request.id))
        return p.Ok(id=request.id)

    async with desk(at, {r.Requeue: does(act), r.Drop: does(act)}):
        assert (await run(console, "dead", "requeue", "3", "4")).code == 0
        assert (await run(console, "dead", "drop", "5")).code == 0
        assert "2 messages dropped" in (await run(console, "drop", "6", "7")).out
    assert asked == [("Requeue", 3), ("Requeue", 4), ("Drop", 5), ("Drop", 6), ("Drop", 7)]
    assert (await run(console, "drop")).code == 2


# --- login ----------------------------------------------------------------------------------------------------------


async def test_a_key_reaches_the_hive_from_standard_input_and_no_screen(console: Console, at: Path) -> None:
    stored: list[r.Account] = []

    async def account(request: r.Request) -> p.Reply:
        assert isinstance(request, r.Account)
        stored.append(request)
        return p.Accounts(accounts=[])

    async with desk(at, {r.Account: does(account)}):
        key = await run(console, "login", stdin="sk-ant-api03-dummy\n")
        token = await run(
            console, "login", "--json", stdin="Your token:\n\n  sk-ant-oat01-dummy\n\nStore it.\n"
        )
    assert key.code == token.code == 0
    assert [(each.name, each.key, each.token) for each in stored] == [
        ("default", "sk-ant-api03-dummy", None),
        ("default", None, "sk-ant-oat01-dummy"),
    ]
    assert "sk-ant" not in key.out + key.err + token.out + token.err


def test_without_a_hive_the_key_is_kept_in_a_private_file(console: Console, tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = console.run("login", "--state-dir", str(state), "--json", stdin="sk-ant-api03-dummy\n")
    assert (done.code, done.json["kind"]) == (0, "key")
    file = state / "accounts" / "default"
    assert state.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
    assert "sk-ant-api03-dummy" in file.read_text()
    assert "sk-ant" not in done.out + done.err


@pytest.mark.parametrize("text", ["", "  \n", "two words", "grüße"])
def test_what_is_no_key_is_refused_without_repeating_it(console: Console, tmp_path: Path, text: str) -> None:
    done = console.run("login", "--state-dir", str(tmp_path), stdin=text)
    assert done.code == 2
    assert not text.strip() or text not in done.err
    assert not (tmp_path / "accounts").exists()
