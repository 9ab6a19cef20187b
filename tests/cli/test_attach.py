"""`hyperhive attach` on a real terminal: an agent's rows, the send box, restarts of the hive, and text that attacks."""

import re
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from console import Console
from desk import answers, desk, does
from hyperhive.cli.tui.commands import Fault, parse
from hyperhive.cli.tui.keys import Keys, Paste
from hyperhive.cli.tui.log_view import LogView, plain_line
from hyperhive.cli.tui.rows import ROWS_MAX, Rows
from hyperhive.protocol import events as e
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import Handler
from pty_screen import PtyScreen
from up import Running, scripted

FIXTURE = Path(__file__).parents[2] / "src/hyperhive/web/frontend/src/rows/fixtures/turn.jsonl"
EVIL = "\x1b]52;c;ZXZpbA==\x07\x9b2J\x1b]8;;x\x1b\\\u202eevil\u2066\r\x00\u200b\x1b[?1049l\x1b]2;owned\x07\x0e end"
OURS = re.compile(
    rb"\x1b\[(\d+;1H|\d+;\d+H|K|2J|\d*m|22;2t|23;2t|\?(1049|25|7|2004|2026)[hl])|\x1b\]2;[^\x00-\x1f]*\x07"
)


# --- on a real hive -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Console:
    root = tmp_path_factory.mktemp("a")
    home = root / "h"
    home.mkdir(mode=0o700)
    return scripted(Console(home), root / "p")


def test_an_agent_is_watched_and_written_to_also_through_a_restart_of_its_hive(place: Console) -> None:
    """What is written while the hive is away is sent once, when it is back."""
    with Running(place) as first:
        first.ready()
        assert place.run("spawn", "alice").code == 0
        assert place.run("send", "--wait", "alice", "first words").code == 0
        with PtyScreen(place, "attach", "alice", rows=40) as attach:
            attach.sees("from operator", "first words", "I answered operator.", "> write to alice")
            attach.type("second words\r")
            attach.sees("You said: second words", "is done (turn 2)")
            first.signal(signal.SIGTERM)
            attach.sees("the hive does not answer; trying again")
            attach.type("third words\r")
            assert first.end() == 0
            with Running(place) as second:
                second.ready()
                attach.sees("You said: third words", "is done (turn 3)")
                attach.type("/model opus\r")
                attach.sees("model: opus")
                attach.type("\x04")
                assert attach.end() == 0
                rows = place.run("messages", "alice", "--json").json["rows"]
            assert "detached from alice; it goes on" in attach.raw.decode()
    bodies = [row["body"] for row in rows if row["from"] == "operator"]
    assert bodies == ["third words", "second words", "first words"]


# --- against replies of the test's choice ---------------------------------------------------------------------------


PAGE = p.AgentPage(
    seq=1, label="alice", dashboard_port=0, status="online", session=None, inbox=[], turn_state="idle",
    turn_state_since=1, model="opus", ctx_usage=None, cost_usage=None, running=True,
)  # fmt: skip


async def on_a_desk(
    console: Console,
    at: Path,
    events: list[dict[str, object]],
    act: Callable[[PtyScreen], None],
    more: dict[type[r.Request], Handler] | None = None,
) -> PtyScreen:
    """Runs `attach alice` on a terminal against a hive with this history, and `act` with it, to its end."""

    async def stream(name: str) -> AsyncIterator[bytes]:
        del name
        yield encode(e.Resume(resume="new", id="x:1"))
        await anyio.sleep_forever()

    page = p.EventPage(seq=1, events=events)
    handlers: dict[type[r.Request], Handler] = {r.AgentState: answers(PAGE), r.Events: answers(page)}
    handlers |= more or {}
    console.env["HYPERHIVE_RUN_DIR"] = str(at)
    screen = PtyScreen(console, "attach", "alice")

    def run() -> None:
        with screen:
            act(screen)

    async with desk(at, handlers, stream):
        await anyio.to_thread.run_sync(run)
    return screen


def notes(*texts: str) -> list[dict[str, object]]:
    return [{"kind": "note", "text": text, "eid": n, "ts": 1000 + n} for n, text in enumerate(texts, 1)]


async def test_no_text_of_an_agent_steers_the_terminal(console: Console, tmp_path: Path) -> None:
    """The same screen with harmless text of the same look: cursor, modes, title and all other lines are equal."""
    seen = []

    def act(screen: PtyScreen) -> None:
        screen.sees("evil", "the end", "idle")
        screen.drain(0.3)
        screen.type("\x1b")
        screen.sees("r write")
        state = screen.screen
        lines = [re.sub(r"idle \d+\w", "idle", line) for line in screen.lines]
        seen.append(
            (lines, state.cursor.x, state.cursor.y, frozenset(state.mode), state.title, state.margins)
        )
        screen.type("q")
        assert screen.end() == 0
        assert all(part >= 0x20 for part in OURS.sub(b"", screen.raw.split(b"\x1b[23;2t")[0]))

    evil = [
        {"kind": "turn_start", "from": EVIL, "body": EVIL, "unread": 0, "eid": 1, "ts": 1001},
        *({**note, "eid": 2} for note in notes(EVIL)),
        {"kind": EVIL, "eid": 3, "ts": 1003, "x": EVIL},
        {"kind": "stream", "type": "assistant", "eid": 4, "ts": 1004, "message": {"content": [
            {"type": "text", "text": EVIL}, {"type": "tool_use", "name": EVIL, "id": "1", "input": {EVIL: EVIL}},
        ]}},
        {"kind": "note", "text": "the end", "eid": 5, "ts": 1005},
    ]  # fmt: skip
    tame = msgspec.json.decode(msgspec.json.encode(evil).replace(b"evil", b"good").replace(b"x", b"x"))
    await on_a_desk(console, tmp_path / "r", evil, act)
    await on_a_desk(console, tmp_path / "r", tame, lambda s: act_like(s, act))
    lines, *state = seen[0]
    assert any("\\u{1b}]52;" in line for line in lines)
    assert [line.replace("good", "evil") for line in seen[1][0]] == lines
    assert state == list(seen[1][1:])
    assert state[3] == "alice - hive"


def act_like(screen: PtyScreen, act: Callable[[PtyScreen], None]) -> None:
    screen.sees("good")
    original = screen.sees
    screen.sees = lambda *texts: original(*(text.replace("evil", "good") for text in texts))  # type: ignore[method-assign]
    act(screen)


async def test_the_reader_is_not_moved_and_is_told_what_came(console: Console, tmp_path: Path) -> None:
    def act(screen: PtyScreen) -> None:
        screen.sees("number 60")
        assert "number 1 " not in screen.text + " "
        screen.type("\x1b")
        screen.sees("j/k rows")
        screen.type("\x1b[5~")
        screen.loses("number 60")
        screen.sees("paused: G goes on")
        screen.type("/number 3\r")
        screen.sees("number 33")
        screen.loses("number 45")
        screen.type("\x1b")
        screen.until(lambda: "number 45" in screen.text)
        screen.type("G")
        screen.sees("number 60")
        screen.resize(100, 12)
        screen.until(lambda: "number 60" in screen.text and "j/k rows" in screen.lines[11])
        screen.type("\x03")
        assert screen.end() == 130
        assert screen.modes() == screen.modes_before

    await on_a_desk(console, tmp_path / "r", notes(*(f"number {n}" for n in range(1, 61))), act)


async def test_a_paste_and_an_unknown_command_send_nothing(console: Console, tmp_path: Path) -> None:
    sent: list[str] = []

    async def send(request: r.Request) -> p.Reply:
        assert isinstance(request, r.Send)
        assert request.dedupe_key
        sent.append(request.body)
        return p.Ok(id=len(sent))

    def act(screen: PtyScreen) -> None:
        screen.sees("write to alice")
        screen.type("/cancle\r")
        screen.sees("there is no /cancle")
        screen.type("\x15\x1b[200~two\nlines\n\x1b[201~")
        screen.sees("two⏎lines⏎")
        assert sent == []
        screen.type("\r")
        screen.sees("#1 is in the inbox of alice")
        screen.type("\x04")
        assert screen.end() == 0

    await on_a_desk(console, tmp_path / "r", [], act, {r.Send: does(send)})
    assert sent == ["two\nlines"]


async def test_after_an_error_the_terminal_is_as_it_was(console: Console, tmp_path: Path) -> None:
    """A hive of another version, whose answer cannot be read."""

    async def other(request: r.Request) -> p.Reply:
        del request
        return p.Ok(note="not what was asked for")

    def act(screen: PtyScreen) -> None:
        assert screen.end() == 1
        assert screen.modes() == screen.modes_before
        assert b"\x1b[?1049l" in screen.raw
        assert "cannot be read" in screen.raw.decode()

    await on_a_desk(console, tmp_path / "r", [], act, {r.AgentState: does(other)})


async def test_a_pipe_gets_plain_lines_and_sends_what_it_is_given(console: Console, tmp_path: Path) -> None:
    sent = anyio.Event()

    async def send(request: r.Request) -> p.Reply:
        assert isinstance(request, r.Send)
        assert request.body == "write this down"
        sent.set()
        return p.Ok(id=1)

    async def stream(name: str) -> AsyncIterator[bytes]:
        yield encode(e.Resume(resume="new", id="x:1"))
        if name == "alice":
            await sent.wait()
            yield encode(e.Note(text="heard"))
        await anyio.sleep_forever()

    at = tmp_path / "r"
    console.env["HYPERHIVE_RUN_DIR"] = str(at)
    handlers: dict[type[r.Request], Handler] = {r.AgentState: answers(PAGE), r.Send: does(send)}
    handlers[r.Events] = answers(p.EventPage(seq=0, events=notes("hello")))
    script = r"printf '\nwrite this down\n' | hyperhive attach alice | head -n 2"
    async with desk(at, handlers, stream):
        with anyio.fail_after(30):
            environ = {**console.environ(), "PATH": f"{Path(_program()).parent}:/usr/bin:/bin"}
            process = await anyio.open_process(["bash", "-c", script], env=environ)
            assert process.stdout is not None
            out = b"".join([chunk async for chunk in process.stdout])
            assert await process.wait() == 0
            await process.aclose()
    assert [line.split()[-2:] for line in out.decode().splitlines()] == [["note", "hello"], ["note", "heard"]]


def _program() -> str:
    from console import PROGRAM

    return str(PROGRAM)


# --- the parts by themselves ----------------------------------------------------------------------------------------


def test_a_recorded_turn_becomes_the_rows_of_its_page() -> None:
    rows = Rows()
    for line in FIXTURE.read_bytes().splitlines():
        rows.add(msgspec.json.decode(line))
    said = [plain_line(row) for row in rows.rows]
    assert said[0].startswith("turn      from operator")
    assert any(line.startswith("thinks    I should look at the file first.") for line in said)
    assert any(line.startswith("Bash      ls -la && false  · failed") for line in said)
    assert any(line.startswith("Edit      /state/app/app.py  +1 -1") for line in said)
    assert any(line.startswith("result    ") for line in said)
    assert all(line.isprintable() for line in said)


def test_rows_are_bounded_taken_once_and_paged_backwards() -> None:
    rows = Rows()
    for number in range(100, 100 + ROWS_MAX + 50):
        rows.add({"kind": "note", "text": str(number), "eid": number})
    assert rows.add({"kind": "note", "text": "again", "eid": 500}) is None
    assert len(rows.rows) == ROWS_MAX
    fewer = Rows()
    fewer.add({"kind": "note", "text": "b", "eid": 2})
    assert (
        fewer.add_older([{"kind": "note", "text": "a", "eid": 1}, {"kind": "note", "text": "b", "eid": 2}])
        == 1
    )
    assert [row.eid for row in fewer.rows] == [1, 2]
    assert fewer.first_eid == 1


def test_rows_that_come_do_not_move_a_reader_further_up() -> None:
    rows = Rows()
    view = LogView(rows)
    for number in range(50):
        rows.add({"kind": "note", "text": str(number), "eid": number})
    view.picture(80, 10)
    view.scroll(-20)
    before = view.picture(80, 10)
    made = rows.add({"kind": "note", "text": "new", "eid": 99})
    view.came(len(made or []))
    assert view.picture(80, 10) == before
    assert (view.follows, view.new) == (False, 1)
    view.scroll(1000)
    assert (view.follows, view.new) == (True, 0)


def test_keys_are_known_whole_however_they_come_apart() -> None:
    keys = Keys()
    assert keys.feed(b"a\x1b[") == ["a"]
    assert keys.feed(b"A\x1b[6~\r\x04\xc3") == ["up", "pagedown", "enter", "ctrl+d"]
    assert keys.feed(b"\xa4") == ["ä"]
    assert (keys.feed(b"\x1b"), keys.waiting, keys.settle()) == ([], True, ["esc"])
    assert keys.feed(b"\x1b\r") == ["newline"]
    (pasted,) = keys.feed(b"\x1b[200~a\r\x1b[Ab\x1b[201~")
    assert isinstance(pasted, Paste)
    assert pasted == "a\n\x1b[Ab"
    assert keys.feed(b"\x1b[99;99;99u") == []


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("hi", r.Send(to="x", body="hi")),
        ("//etc is a path", r.Send(to="x", body="/etc is a path")),
        ("/cancel", r.Cancel(name="x")),
        ("/model opus", r.Model(name="x", model="opus")),
        ("/help", None),
    ],
)
def test_the_box_takes_text_and_commands(typed: str, asked: object) -> None:
    assert parse("x", typed) == asked


@pytest.mark.parametrize("typed", ["/cancle", "/cancel now", "/model", "/model a b"])
def test_a_command_that_is_none_is_never_sent(typed: str) -> None:
    assert isinstance(parse("x", typed), Fault)
