"""`hyperhive top` on a real terminal, on a real hive: the table, its keys, and how it ends; and as plain lines."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from console import PROGRAM, Console
from hyperhive.cli.tui.fleet import Fleet
from hyperhive.cli.tui.fleet_picture import Look, picture_of
from hyperhive.protocol.replies import HiveSnapshot
from hyperhive.protocol.screens import HiveSummary
from hyperhive.protocol.types import ContainerView
from pty_screen import PtyScreen
from up import Running, scripted

LONG = "billing-review-of-the-north-west"
LEAVING = b"\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[?1049l\x1b[23;2t"


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A hive with a manager, alice, and an agent with a long name."""
    place = tmp_path_factory.mktemp("t")
    home = place / "h"
    home.mkdir(mode=0o700)
    console = scripted(Console(home), place / "p")
    with Running(console) as running:
        running.ready()
        for name in ("alice", LONG):
            assert console.run("spawn", name).code == 0
        yield console


def test_the_table_shows_every_agent_with_its_whole_name_on_a_small_terminal(hive: Console) -> None:
    with PtyScreen(hive, "top", columns=80, rows=24) as top:
        top.sees("manager", "alice", LONG)
        assert all(len(line) <= 80 for line in top.lines)
        assert top.lines[0].startswith("hive  ! ")
        assert "q quit" in top.lines[23]
        top.resize(120, 40)
        top.until(lambda: "q quit" in top.lines[39])
        assert "MODEL" in top.line_with("NAME")
        top.resize(40, 10)
        top.until(lambda: LONG in top.text and "Enter" in top.lines[9])
        top.type("q")
        assert top.end() == 0


def test_keys_move_filter_and_open_as_on_the_page(hive: Console) -> None:
    with PtyScreen(hive, "top", columns=100, rows=30) as top:
        top.sees(LONG)
        top.until(lambda: "manager" in top.line_with(">"))
        top.type("j")
        top.until(lambda: "alice" in top.line_with(">"))
        top.type("\x1b[B")  # the arrow
        top.until(lambda: LONG in top.line_with(">"))
        top.type("/!billing")
        top.loses(LONG)
        top.type("\r\x1b")
        top.sees(LONG)
        top.type("?")
        top.sees("mark; S and A are then about all that are marked")
        top.type("q")
        top.sees("SINCE")
        top.type("/alice\r ")
        top.sees("isolation", "agent CLI")
        top.type("\x1b")
        top.sees("SINCE")
        top.type("gi")
        top.sees("Your inbox")
        top.type("q\r")  # back, and open the agent
        top.sees("alice", "write to alice")
        top.type("q")
        top.sees("SINCE")
        top.type("q")
        assert top.end() == 0


def test_stopping_takes_a_key_and_a_yes_and_starting_brings_it_back(hive: Console) -> None:
    with PtyScreen(hive, "top", columns=100, rows=30) as top:
        top.sees("alice")
        top.type("/alice\rS")
        top.sees("stop alice? Its running turn ends first.")
        top.type("n")
        top.sees("nothing was done")
        assert "stopped" not in top.line_with(">")
        top.type("Sy")
        top.until(lambda: "- stopped" in top.line_with(">"))
        top.type("Ay")
        top.until(lambda: "○ idle" in top.line_with(">"))
        top.type("\x1bx")  # marked, with another one: both have to be named in what is typed
        top.until(lambda: "1 marked" in top.text)
        top.type("k")
        top.until(lambda: LONG not in top.line_with(">"))
        top.type("xS")
        top.sees("stop 2 agents", "type: stop 2")
        top.type("y\r")
        top.sees("to stop them, type: stop 2")
        top.type("\x1b")
        top.sees("nothing was done")
        assert "- stopped" not in top.text.replace("0 stopped", "")
        top.type("q")
        assert top.end() == 0


@pytest.mark.parametrize("how", ["ctrl-c", "terminate"])
def test_however_it_ends_the_terminal_is_as_it_was(hive: Console, how: str) -> None:
    with PtyScreen(hive, "top") as top:
        top.sees("alice")
        assert top.modes() != top.modes_before
        if how == "ctrl-c":
            top.type("\x03")
        else:
            top.signal(signal.SIGTERM)
        assert top.end() == {"ctrl-c": 130, "terminate": 143}[how]
        assert top.modes() == top.modes_before
        assert top.raw.endswith(LEAVING)


def test_no_colour_means_no_colour_and_nothing_that_only_colour_said(hive: Console) -> None:
    with PtyScreen(hive, "top", NO_COLOR="1") as top:
        top.sees("alice", "○ idle", ">")
        top.type("q")
        assert top.end() == 0
    assert re.search(rb"\x1b\[[\d;]+m", top.raw.removesuffix(LEAVING).replace(b"\x1b[0m", b"")) is None


def test_screens_load_no_framework_and_no_event_loop() -> None:
    names = "agent_screen, fleet_screen, loop, plain, term"
    program = (
        f"import hyperhive.cli.top\nfrom hyperhive.cli.tui import {names}\nimport sys; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    heavy = {"litestar", "mcp", "sqlite_utils", "structlog", "uvicorn", "rich", "asyncio", "anyio"}
    assert not heavy & set(done.stdout.split())


def test_an_idle_table_is_not_drawn_anew_each_second(hive: Console) -> None:
    """A second changes the clock and the ages: those lines are written, and nothing else."""
    with PtyScreen(hive, "top") as top:
        top.sees("alice")
        top.drain(0.5)
        assert top.drain(2.0) < 3000


# --- without a screen -----------------------------------------------------------------------------------------------


def test_in_a_pipe_it_is_a_line_an_agent_and_then_a_line_a_change(hive: Console) -> None:
    with Running(hive, "top") as top:
        top.until(lambda: LONG in top.out)
        assert hive.run("kill", "alice").code == 0
        top.until(lambda: "stopped    alice" in top.out)
        assert hive.run("start", "alice").code == 0
        top.until(lambda: "idle       alice" in top.out.partition("stopped    alice")[2])
        top.signal(signal.SIGINT)
        assert top.end() == 130
    assert top.err == ""
    assert "\x1b" not in top.out
    assert all(line[2] == ":" and "  " in line for line in top.out.splitlines())


def test_a_reader_that_goes_away_ends_it_at_once_and_silently(hive: Console) -> None:
    command = f"'{PROGRAM}' top | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=hive.environ(), capture_output=True, text=True, timeout=30, check=False
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == ["141"]


def test_a_dumb_terminal_gets_lines(hive: Console) -> None:
    with PtyScreen(hive, "top", TERM="dumb") as top:
        top.sees("idle       alice")
        top.type("\x03")
        assert top.end() == 130
    assert b"\x1b" not in top.raw


# --- the picture by itself ------------------------------------------------------------------------------------------


def agent(name: str, state: str = "idle", **more: object) -> ContainerView:
    facts: dict[str, object] = {
        "name": name, "role": "agent", "running": state != "stopped", "state": state, "turn_state": "idle",
        "turn_state_since": 1000, "unread": 0, "model": "opus", "isolation": "bwrap", "network": "none",
        "account": "default", "needs_login": False, "needs_update": False, "held_by_operator": False,
        "pending_reminders": 0,
    }  # fmt: skip
    return ContainerView(**{**facts, **more})  # type: ignore[arg-type]


def snapshot(*views: ContainerView, seq: int = 10) -> HiveSnapshot:
    summary = HiveSummary(revision="0", runtime="bwrap", started_at=0)
    return HiveSnapshot(
        seq=seq, containers=list(views), approvals=[], questions=[], inbox=[], transients={}, tombstones=[],
        meta_inputs=[], reminders=[], hive=summary,
    )  # fmt: skip


def test_who_needs_the_operator_is_first_in_every_order() -> None:
    fleet = Fleet()
    fleet.asked()
    fleet.load(
        snapshot(agent("a", unread=9), agent("b", "working"), agent("c", "needs_you"), agent("d", "failed"))
    )
    assert [view.name for view in fleet.shown("", "state", 0.0)] == ["c", "d", "b", "a"]
    assert [view.name for view in fleet.shown("", "unread", 0.0)] == ["c", "a", "b", "d"]
    assert [view.name for view in fleet.shown("!needs", "name", 0.0)] == ["a", "b", "d"]


def test_a_frame_that_overtook_the_snapshot_is_not_lost_and_an_older_one_changes_nothing() -> None:
    fleet = Fleet()
    fleet.asked()
    for seq, state in ((9, "stopped"), (11, "working")):
        name = "old" if seq == 9 else "new"
        row = {**_plain(agent(name)), "state": state}
        fleet.apply({"kind": "container_state_changed", "seq": seq, "container": row})
    fleet.load(snapshot(agent("old"), agent("new")))
    assert {view.name: view.state for view in fleet.views.values()} == {"old": "idle", "new": "working"}


def _plain(view: ContainerView) -> dict[str, object]:
    import msgspec

    return msgspec.to_builtins(view)  # type: ignore[no-any-return]


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 200])
def test_a_name_is_never_cut_whatever_else_has_to_go(columns: int) -> None:
    fleet = Fleet()
    fleet.asked()
    fleet.load(snapshot(agent("a" * 63, "needs_you", model="m" * 80), agent("b")))
    views = fleet.shown("", "state", 2000.0)
    lines, _ = picture_of(fleet, Look(), views, 0, 0, columns, 24, 2000.0)
    assert any("a" * 63 in "".join(text for _, text in line) for line in lines)
