"""Every way a command can end, as a script sees it: one exit code, and one JSON object or one line with a hint."""

import json
import socket
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest

from console import Console, Done
from desk import answers, desk, raises
from hyperhive import errors
from hyperhive.cli import run as command_line
from hyperhive.cli.app import COMMANDS
from hyperhive.cli.exits import EXIT_CODES, exit_code
from hyperhive.errors import HiveError
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import error_from
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller


async def run(console: Console, *words: str, stdin: str | None = None) -> Done:
    return await anyio.to_thread.run_sync(partial(console.run, *words, stdin=stdin))


@pytest.fixture
async def serving(console: Console, tmp_path: Path) -> AsyncIterator[Console]:
    """A hive whose `restart` fails with the code that the agent is named for, and whose `list` is empty."""
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")

    async def restart(caller: Caller, request: r.Restart) -> p.Reply:
        del caller
        raise error_from(request.name.replace("-", "_"), "it is so", "mend it")

    async with desk(tmp_path / "run", {r.Restart: restart, r.List: answers(p.Agents(agents=["manager"]))}):
        yield console


def codes(root: type[HiveError]) -> set[str]:
    return {root.code}.union(*(codes(child) for child in root.__subclasses__()))


@pytest.mark.parametrize("code", sorted((codes(HiveError) | EXIT_CODES.keys()) - {"usage", "interrupted"}))
async def test_every_error_code_has_its_exit_code(
    serving: Console, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, place = code.replace("_", "-"), serving.env["HYPERHIVE_RUN_DIR"]
    ended = await anyio.to_thread.run_sync(command_line, ["restart", name, "--json", "--run-dir", place])
    shown = capsys.readouterr()
    assert ended == exit_code(code)
    assert json.loads(shown.out) == {"ok": False, "error": "it is so", "code": code, "hint": "mend it"}
    assert shown.err == ""


async def test_people_get_the_error_and_the_hint_on_standard_error(serving: Console) -> None:
    done = await run(serving, "restart", "conflict")
    assert (done.code, done.out) == (4, "")
    assert done.err == "error: it is so\nhint:  mend it\n"


async def test_a_request_that_this_version_does_not_serve_fails_honestly(
    serving: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of a later release sends its request and prints the hive's own word."""
    later = [c.name for group in COMMANDS.values() for c in group if c.target.startswith("later:")]
    assert later
    place = ["--json", "--run-dir", serving.env["HYPERHIVE_RUN_DIR"]]
    for name in later:
        code = await anyio.to_thread.run_sync(command_line, [name, *place])
        assert (name, code, json.loads(capsys.readouterr().out)["code"]) == (name, 1, "not_available")


async def test_a_reply_is_printed_as_it_is_on_the_wire(serving: Console) -> None:
    done = await run(serving, "list", "--json")
    assert (done.code, done.json) == (0, {"ok": True, "agents": ["manager"]})


def test_without_a_hive_every_place_that_was_tried_is_named(console: Console, tmp_path: Path) -> None:
    console.env["XDG_RUNTIME_DIR"] = str(tmp_path / "xdg")
    done = console.run("list", "--json", "--state-dir", str(tmp_path / "state"))
    assert (done.code, done.json["code"]) == (5, "unreachable")
    for place in (tmp_path / "xdg/hyperhive", tmp_path / "state/run", Path("/run/hyperhive")):
        assert f"{place}/host.sock" in done.json["error"]
    assert "hyperhive up" in done.json["hint"]


def test_a_named_place_is_the_only_one_tried(console: Console, tmp_path: Path) -> None:
    """A command must not reach another hive than the one it was told; the flag wins over the variable."""
    console.env |= {"HYPERHIVE_RUN_DIR": str(tmp_path / "variable"), "XDG_RUNTIME_DIR": str(tmp_path / "xdg")}
    error = console.run("list", "--json").json["error"]
    assert "variable/host.sock" in error
    assert "xdg" not in error
    error = console.run("list", "--json", "--run-dir", str(tmp_path / "flag")).json["error"]
    assert "flag/host.sock" in error
    assert "variable" not in error


def status_of(state: Path) -> p.HiveStatus:
    return p.HiveStatus(
        hive=p.HiveInfo(
            revision="1", runtime="process", started_at=1, pid=1, state_dir=str(state), run_dir="/r"
        ),
        agents=[],
    )


async def test_a_named_state_directory_is_another_hives_only_if_that_hive_says_so(
    console: Console, tmp_path: Path
) -> None:
    """A hive elsewhere is passed over, however early its place is looked at."""
    console.env["XDG_RUNTIME_DIR"] = str(tmp_path / "xdg")
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    handlers: dict[type[r.Request], Handler] = {
        r.Status: answers(status_of(one)),
        r.List: answers(p.Agents(agents=["manager"])),
    }
    async with desk(tmp_path / "xdg" / "hyperhive", handlers):
        done = await run(console, "list", "--json", "--state-dir", str(one))
        assert done.json["agents"] == ["manager"]
        done = await run(console, "list", "--json", "--state-dir", str(other))
        assert (done.code, done.json["code"]) == (5, "unreachable")
        assert str(one) in done.json["error"]
        console.env["HYPERHIVE_STATE_DIR"] = str(other)
        assert (await run(console, "list", "--json")).code == 5
        handlers = {r.Status: answers(status_of(other)), r.List: answers(p.Agents(agents=["manager", "bob"]))}
        async with desk(other / "run", handlers):
            done = await run(console, "list", "--json")
            assert done.json["agents"] == ["manager", "bob"]


@pytest.mark.parametrize(
    "words",
    [
        ["ask", "why?", "--to", "alice"], ["ask", "alice", "why?", "--option", "a"],
        ["remind", "later", "--in", "90"], ["remind", "operator", "later", "--in", "10m"],
        ["remind", "alice", "later", "--in", "2h"], ["remind", "later", "--due-at", "1900000000"],
    ],
    ids=" ".join,
)  # fmt: skip
async def test_questions_and_reminders_take_a_name_before_the_text(
    serving: Console, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    place = ["--json", "--run-dir", serving.env["HYPERHIVE_RUN_DIR"]]
    code = await anyio.to_thread.run_sync(command_line, [*words, *place])
    assert (code, json.loads(capsys.readouterr().out)["code"]) == (1, "not_available")


@pytest.mark.parametrize(
    "words",
    [
        ["remind", "x", "--in", "soon"], ["ask", "alice", "why?", "--to", "bob"],
        ["nonsense"], ["send"], ["list", "--nonsense"], ["kill"], ["kill", "a", "--all"],
        ["stats", "a", "--window", "1h"],
        ["dead", "requeue"], ["answer", "x", "y"], ["remind", "x"], ["ask", "why?"], ["--nonsense"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_exit_code_2_before_any_hive_is_asked(console: Console, words: list[str]) -> None:
    done = console.run(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert console.run(*words, "--json").json["ok"] is False


def test_a_misspelt_command_is_guessed(console: Console) -> None:
    assert "did you mean 'restart'?" in console.run("restrat").err


def test_common_flags_stand_before_or_behind_the_command(console: Console, tmp_path: Path) -> None:
    for words in (
        ["--run-dir", str(tmp_path), "--json", "list"],
        ["list", f"--run-dir={tmp_path}", "--json"],
    ):
        done = console.run(*words)
        assert (done.code, done.json["code"]) == (5, "unreachable")


def test_help_and_version_need_nothing(console: Console) -> None:
    for words in (["--help"], ["-h"]):
        done = console.run(*words)
        assert (done.code, done.err) == (0, "")
        assert "restore-backup" in done.out
        assert max(len(line) for line in done.out.splitlines()) <= 96
    assert console.run("--version").out.startswith("hyperhive 0.")
    assert console.run().code == 2


@pytest.mark.parametrize("name", [c.name for group in COMMANDS.values() for c in group if c.target])
def test_every_command_says_what_it_takes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert command_line([name, "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert f"Usage: hyperhive {name}" in shown.out
    assert "--json" in shown.out
    assert max(len(line) for line in shown.out.splitlines()) <= 80


@pytest.mark.parametrize("alias", ["ls", "stop", "approvals"])
def test_aliases_work_and_are_not_listed(console: Console, alias: str) -> None:
    assert console.run(alias, "--help").code == 0
    assert f"\n  {alias} " not in console.run("--help").out


def test_a_reader_that_has_seen_enough_is_no_error(console: Console) -> None:
    import subprocess

    from console import PROGRAM

    done = subprocess.run(
        ["/bin/sh", "-c", f"{PROGRAM} --help | head -n 1"], env=console.environ(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.startswith("Usage")


def test_every_code_of_the_table_is_a_code_of_the_tree_or_of_a_later_version() -> None:
    later = {"usage", "interrupted", "foreign", "moved", "unseen", "stale_base", "superseded"}
    assert EXIT_CODES.keys() <= codes(errors.HiveError) | later


async def test_a_bug_in_the_hive_is_a_failure_that_says_so(console: Console, tmp_path: Path) -> None:
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")
    async with desk(tmp_path / "run", {r.List: raises(ZeroDivisionError())}):
        done = await run(console, "list", "--json")
    assert (done.code, done.json["code"]) == (1, "bug")


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (b"", "closed"),
        (b"rubbish\n", "error"),
        (b'{"ok":true,"agents":7}\n', "error"),
        (b'{"ok":tr', "closed"),
    ],
    ids=["nothing", "rubbish", "another shape", "half a line"],
)
def test_a_hive_that_goes_away_or_talks_nonsense_is_one_clear_error(
    console: Console, tmp_path: Path, says: bytes, code: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "host.sock"))
        listening.listen()

        def answer() -> None:
            for _ in range(2):
                peer, _ = listening.accept()
                with peer:
                    peer.recv(4096)
                    peer.sendall(says)

        thread = threading.Thread(target=answer)
        thread.start()
        wanted = 0 if b"agents" in says else 5 if code == "closed" else 1
        done = console.run("list", "--json", "--run-dir", str(tmp_path))
        assert done.code == wanted
        assert wanted == 0 or done.json["code"] == code
        done = console.run("list", "--run-dir", str(tmp_path))
        thread.join()
    assert (done.code, done.out) == (5 if code == "closed" else 1, "")
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err


def test_a_file_that_cannot_be_written_is_one_clear_error(console: Console, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    done = console.run("login", "--state-dir", str(tmp_path / "state"), "--json", stdin="sk-ant-dummy")
    assert (done.code, done.json["ok"], done.err) == (1, False, "")


def test_a_terminal_that_is_not_utf8_gets_escapes(console: Console, tmp_path: Path) -> None:
    console.env["PYTHONIOENCODING"] = "ascii"
    done = console.run("list", "--run-dir", str(tmp_path / "größe"))
    assert done.code == 5
    assert "gr\\xf6\\xdfe" in done.err


def test_a_harness_for_an_agent_that_the_hive_runs_itself_is_refused(console: Console) -> None:
    done = console.run("agent", "serve", "alice")
    assert done.code == 4
    assert 'put `harness = "own"` under [agents.alice]' in done.err
