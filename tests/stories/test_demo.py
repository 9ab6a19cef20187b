"""The demo, as a new user runs it: on a machine with Python and nothing else."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from console import PROGRAM, Console

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def console(tmp_path: Path) -> Console:
    """A user with a home of their own, a place for temporary files, and no program on PATH at all."""
    for name in ("home", "tmp", "bin"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    return Console(tmp_path / "home", {"PATH": str(tmp_path / "bin"), "TMPDIR": str(tmp_path / "tmp")})


def test_the_demo_plays_through_and_gives_the_facts_as_one_object(console: Console, tmp_path: Path) -> None:
    """No bubblewrap, no node, no agent CLI, no account; and nothing of it is left."""
    done = console.run("demo", "--once", "--json", timeout=100)
    assert done.code == 0, done.err
    facts = done.json
    # operator -> manager -> both -> manager -> operator, and that both were spawned.
    assert facts["messages"] == facts["acked"] == 8
    assert facts["turns"] >= 6
    assert facts["failed_turns"] == 0
    assert facts["agents"] == 3
    assert 0 < facts["seconds"] < 100
    assert "ada" in facts["report"]
    assert "ben" in facts["report"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []


def test_the_terminal_shows_who_writes_to_whom_and_what_to_do_next(console: Console) -> None:
    done = console.run("demo", "--once", "Weigh the parser; measure the printer", timeout=100)
    assert done.code == 0, done.err
    shown = done.out
    for way in (
        "operator -> manager",
        "manager -> ada",
        "manager -> ben",
        "ada -> manager",
        "manager -> operator",
    ):
        assert way in shown
    assert "Weigh the parser" in shown
    assert "turn ends well" in shown
    assert re.search(r"^8 messages, 8 of them done; \d+ turns; [\d.]+ seconds\.$", shown, re.MULTILINE)
    assert "hyperhive login" in shown
    assert "hyperhive doctor --install-cli" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert done.err == ""


async def test_without_once_the_hive_stays_up_for_more_until_ctrl_c(console: Console, tmp_path: Path) -> None:
    """It says how to write to it from a second terminal; doing so works; Ctrl-C ends and removes it."""
    argv = [str(PROGRAM), "demo"]
    async with await anyio.open_process(argv, env=console.environ(), stdin=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        shown = b""
        with anyio.fail_after(100):
            while b"hyperhive turns manager" not in shown:
                shown += await child.stdout.receive()
            [run_dir] = re.findall(rb"export HYPERHIVE_RUN_DIR=(\S+)", shown)
            console.env["HYPERHIVE_RUN_DIR"] = os.fsdecode(run_dir)
            sent = await anyio.to_thread.run_sync(
                lambda: console.run("send", "--wait", "--timeout", "60", "ada", "hello", "--json", timeout=90)
            )
            listed = await anyio.to_thread.run_sync(lambda: console.run("list", "--json"))
            child.send_signal(signal.SIGINT)
            code = await child.wait()
    assert (code, sent.code) == (0, 0), sent.err
    assert [answer["body"] for answer in sent.json["answers"]] == ["You said: hello"]
    assert listed.json["agents"] == ["manager", "ada", "ben"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_users_own_hive_and_settings_are_left_alone(console: Console, tmp_path: Path) -> None:
    """Variables and a configuration file of the user's have no part in the demo."""
    bad = tmp_path / "hive.toml"
    bad.write_text("this is no toml")
    console.env |= {
        "HYPERHIVE_CONFIG": str(bad), "HYPERHIVE_STATE_DIR": str(tmp_path / "mine"), "HYPERHIVE_RUNTIME": "nspawn",
        "HYPERHIVE_CLAUDE": "/nonexistent", "HYPERHIVE_RUN_DIR": str(tmp_path / "run"),
    }  # fmt: skip
    assert console.run("demo", "--once", "--json", timeout=100).code == 0
    assert not (tmp_path / "mine").exists()
    assert not (tmp_path / "run").exists()


def test_the_module_can_be_run_by_name(console: Console) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hyperhive.cli", "demo", "--once", "--json"], env=console.environ(),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert json.loads(done.stdout)["ok"] is True
