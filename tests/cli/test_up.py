"""A hive from the command line, from its start to its end, with every command that acts on it. Scripted agents."""

import json
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console import Console
from up import Running, scripted

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path: the names of sockets end at 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="hh-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def user(console: Console, place: Path) -> Console:
    return scripted(console, place)


def ok(console: Console, *words: str, stdin: str | None = None) -> Any:
    done = console.run(*words, "--json", stdin=stdin, timeout=60)
    assert done.code == 0, (words, done.out, done.err)
    return done.json


def states(console: Console) -> dict[str, str]:
    return {each["view"]["name"]: each["view"]["state"] for each in ok(console, "status")["agents"]}


def works(hive: Running, name: str) -> bool:
    """Whether the hive has said that this agent is in a turn."""
    views = [frame["container"] for frame in hive.frames("container_state_changed")]
    return any(view["name"] == name and view["turn_state"] == "thinking" for view in views)


def test_a_day_in_the_life_of_an_agent(user: Console) -> None:
    """Spawn, work, look, steer, stop, remove, bring back: each command does what it says."""
    with Running(user) as hive:
        assert hive.ready()["agents"] == ["manager"]
        ok(user, "spawn", "alice")
        assert user.run("spawn", "alice", "--json").code == 4
        assert ok(user, "list")["agents"] == ["manager", "alice"]

        worked = ok(user, "send", "--wait", "alice", "hello")
        assert worked["state"] == "acked"
        assert [answer["body"] for answer in worked["answers"]] == ["You said: hello"]
        [mail] = ok(user, "inbox")["messages"]
        assert (mail["from"], mail["body"]) == ("alice", "You said: hello")
        assert ok(user, "inbox", "--done", str(mail["id"]))["count"] == 1
        assert ok(user, "inbox")["messages"] == []
        assert len(ok(user, "inbox", "--all")["messages"]) == 1

        [turn] = ok(user, "turns", "alice")["turns"]
        assert (turn["result_kind"], turn["wake_from"]) == ("ok", "operator")
        kinds = [event["kind"] for event in ok(user, "events", "alice")["events"]]
        assert kinds.index("turn_start") < kinds.index("turn_end")
        assert ok(user, "stats", "alice")["window"] == "24h"
        assert ok(user, "logs", "alice")["ok"] is True
        assert any('"hive_started"' in line for line in ok(user, "logs")["lines"])

        ok(user, "model", "alice", "opus")
        ok(user, "new-session", "alice")
        assert user.run("cancel", "alice", "--json").code == 4
        ok(user, "kill", "alice")
        assert states(user)["alice"] == "stopped"
        ok(user, "start", "alice")
        assert "opus" in user.run("status", "alice").out
        ok(user, "restart", "alice")
        ok(user, "destroy", "alice")
        assert ok(user, "list")["agents"] == ["manager"]
        ok(user, "restore", "alice")
        assert "opus" in user.run("status", "alice").out
        ok(user, "destroy", "alice", "--purge")
        assert user.run("restore", "alice", "--json").code == 3
        assert user.run("send", "nobody", "hi", "--json").code == 3
        assert user.run("destroy", "manager", "--json").code != 0


def test_a_cancelled_turn_is_a_dead_letter_that_can_be_given_another_try(user: Console) -> None:
    with Running(user) as hive:
        hive.ready()
        ok(user, "spawn", "alice")
        message = ok(user, "send", "alice", "[[say begun]][[once a]][[stall]]")["id"]
        hive.until(lambda: "says: begun" in user.run("events", "alice").out)
        ok(user, "cancel", "alice")
        hive.until(lambda: hive.state_of(message) == "dead")
        [letter] = ok(user, "dead")["dead"]
        assert (letter["to"], letter["reason"]) == ("alice", "cancelled")
        assert "cancelled" in user.run("dead").out
        ok(user, "dead", "requeue", str(letter["id"]))
        hive.until(lambda: hive.state_of(message) == "acked")
        assert ok(user, "dead")["dead"] == []


def test_the_first_signal_lets_turns_end_and_says_which(user: Console) -> None:
    with Running(user) as hive:
        hive.ready()
        ok(user, "spawn", "alice")
        message = ok(user, "send", "alice", "[[slow 2]]")["id"]
        hive.until(lambda: works(hive, "alice"))
        hive.signal(signal.SIGINT)
        assert hive.end() == 0
        assert re.search("waiting for the running turns of .*alice", hive.err)
        assert hive.state_of(message) == "acked"
    with Running(user) as hive:
        hive.ready()
        assert len(ok(user, "turns", "alice")["turns"]) == 1


def test_the_second_signal_ends_at_once_and_the_message_comes_again(user: Console) -> None:
    with Running(user) as hive:
        hive.ready()
        ok(user, "spawn", "alice")
        message = ok(user, "send", "alice", "[[slow 3]]")["id"]
        hive.until(lambda: works(hive, "alice"))
        hive.signal(signal.SIGTERM)
        hive.until(lambda: "waiting for the running turns" in hive.err)
        hive.signal(signal.SIGTERM)
        assert hive.end() == 0
        assert "ending now" in hive.err
        assert hive.state_of(message) != "acked"
    with Running(user) as hive:
        hive.ready()
        hive.until(lambda: hive.state_of(message) == "acked")


def test_a_terminal_sees_where_the_hive_is_what_is_not_isolated_and_who_writes(user: Console) -> None:
    with Running(user, "up") as hive:
        hive.until(lambda: "Ctrl-C stops the hive" in hive.out)
        assert f"state    {user.env['HYPERHIVE_STATE_DIR']}" in hive.out
        assert f"sockets  {user.env['HYPERHIVE_RUN_DIR']}" in hive.out
        assert "in no box" in hive.out
        ok(user, "spawn", "alice")
        ok(user, "send", "--wait", "alice", "hello there")
        hive.until(lambda: "alice -> operator" in hive.out)
        assert "operator -> alice    hello there" in hive.out
        hive.signal(signal.SIGINT)
        assert hive.end() == 0
        assert "\x1b" not in hive.out + hive.err
    log = (Path(user.env["HYPERHIVE_STATE_DIR"]) / "log" / "hive.log").read_text()
    assert all(json.loads(line)["event"] for line in log.splitlines())
    assert "hello there" not in log


def test_one_state_has_one_hive(user: Console) -> None:
    with Running(user) as hive:
        hive.ready()
        done = user.run("up", "--json", "--run-dir", str(user.home / "other"), timeout=60)
        assert (done.code, done.json["code"]) == (4, "store_locked")
        assert states(user) == {"manager": "idle"}


def test_a_service_says_what_it_does_in_its_log_alone(user: Console) -> None:
    with Running(user, "serve", "--port", "0") as hive:
        hive.until(lambda: '"event":"hive_started"' in hive.err)
        assert ok(user, "list")["agents"] == ["manager"]
        hive.signal(signal.SIGTERM)
        assert hive.end() == 0
        assert hive.out == ""
        events = [json.loads(line) for line in hive.err.splitlines()]
        assert events[-1]["event"] == "hive_stopped"


def test_sighup_reads_the_configuration_again_and_keeps_the_old_where_the_new_is_wrong(user: Console) -> None:
    file = user.home / "hive.toml"
    file.write_text("")
    user.env["HYPERHIVE_CONFIG"] = str(file)
    with Running(user) as hive:
        hive.ready()
        file.write_text('[agents.alice]\nmodel = "sonnet"\n')
        hive.signal(signal.SIGHUP)
        hive.until(lambda: "was read again" in hive.err)
        ok(user, "spawn", "alice")
        assert "sonnet" in user.run("status", "alice").out
        file.write_text("nonsense = 1\n")
        hive.signal(signal.SIGHUP)
        hive.until(lambda: "stays as it was" in hive.err)
        assert "nonsense" in hive.err
        assert user.run("reload", "--json").json["code"] == "bad_config"
        assert states(user)["alice"] == "idle"


def test_a_wrong_configuration_keeps_a_hive_from_starting_with_every_fault(user: Console) -> None:
    file = user.home / "hive.toml"
    file.write_text("nonsense = 1\nidle_seconds = -1\n")
    user.env["HYPERHIVE_CONFIG"] = str(file)
    done = user.run("up")
    assert done.code == 1
    assert "hive.toml:1" in done.err
    assert "hive.toml:2" in done.err


def test_without_bubblewrap_the_package_is_named(user: Console) -> None:
    user.env |= {"HYPERHIVE_RUNTIME": "auto", "PATH": str(user.home)}
    done = user.run("up", "--json")
    assert (done.code, done.json["code"]) == (1, "missing_part")
    assert "bubblewrap" in done.json["error"] + done.json["hint"]


def test_a_hive_comes_back_from_its_backup_with_all_mail(user: Console, place: Path) -> None:
    """Taken while it runs; put back while it is down; every agent that was not stopped works again."""
    backup = str(user.home / "b.tar.gz")
    with Running(user) as hive:
        hive.ready()
        ok(user, "spawn", "alice")
        ok(user, "send", "--wait", "alice", "before")
        ok(user, "kill", "alice")
        message = ok(user, "send", "alice", "still to come")["id"]
        assert ok(user, "backup", backup)["databases"] != 0
        assert user.run("restore-backup", backup, "--replace", "--json").code == 4
    shutil.rmtree(place / "state")
    ok(user, "restore-backup", backup)
    with Running(user) as hive:
        hive.ready()
        assert states(user)["alice"] == "stopped"
        [mail] = ok(user, "inbox")["messages"]
        assert mail["body"] == "You said: before"
        ok(user, "start", "alice")
        hive.until(lambda: hive.state_of(message) == "acked")
        assert len(ok(user, "turns", "alice")["turns"]) == 2


def test_a_harness_of_its_own_works_through_a_restart_of_the_hive(user: Console) -> None:
    file = user.home / "hive.toml"
    file.write_text('[agents.alice]\nharness = "own"\n')
    user.env["HYPERHIVE_CONFIG"] = str(file)
    with Running(user) as hive:
        hive.ready()
        ok(user, "spawn", "alice")
        with Running(user, "agent", "serve", "alice") as harness:
            assert [a["body"] for a in ok(user, "send", "--wait", "alice", "one")["answers"]] == [
                "You said: one"
            ]
            assert len(ok(user, "turns", "alice")["turns"]) == 1
            hive.signal(signal.SIGTERM)
            assert hive.end() == 0
            assert harness.process.poll() is None
            with Running(user) as again:
                again.ready()
                assert [a["body"] for a in ok(user, "send", "--wait", "alice", "two")["answers"]] == [
                    "You said: two"
                ]
                harness.signal(signal.SIGTERM)
                assert harness.end() == 0


def test_a_harness_of_its_own_reads_its_settings_again_on_sighup(user: Console) -> None:
    file = user.home / "hive.toml"
    file.write_text('[agents.alice]\nharness = "own"\n')
    user.env["HYPERHIVE_CONFIG"] = str(file)
    with Running(user) as hive:
        hive.ready()
        ok(user, "spawn", "alice")
        assert states(user)["alice"] == "needs_you"
        with Running(user, "agent", "serve", "alice") as harness:
            harness.until(lambda: "harness_started" in harness.err)
            file.write_text('[agents.alice]\nharness = "own"\nmodel = "sonnet"\n')
            assert (
                "alice: a harness of its own reads it when its process gets SIGHUP"
                in ok(user, "reload")["note"]
            )
            harness.signal(signal.SIGHUP)
            harness.until(lambda: "config_read" in harness.err)
            ok(user, "send", "--wait", "alice", "one")
            assert ok(user, "turns", "alice")["turns"][0]["model"] == "sonnet"
            file.write_text("nonsense = 1\n")
            harness.signal(signal.SIGHUP)
            harness.until(lambda: "config_not_read" in harness.err)
            ok(user, "send", "--wait", "alice", "two")


def test_a_harness_that_is_killed_in_a_turn_is_not_shown_at_work_and_its_crash_is_told(user: Console) -> None:
    file = user.home / "hive.toml"
    file.write_text('[agents.alice]\nharness = "own"\n')
    user.env["HYPERHIVE_CONFIG"] = str(file)
    with Running(user) as hive:
        hive.ready()
        ok(user, "spawn", "alice")
        with Running(user, "agent", "serve", "alice") as harness:
            ok(user, "send", "alice", "[[sleep 60]]")
            hive.until(lambda: works(hive, "alice"))
            harness.signal(signal.SIGKILL)
            assert harness.end() == -signal.SIGKILL
        hive.until(lambda: states(user)["alice"] == "needs_you")
        hive.until(lambda: any("container_crash" in frame["body"] for frame in hive.frames("sent")))
        assert "is not on its line" in ok(user, "kill", "alice")["note"]


def test_a_key_is_in_its_file_and_nowhere_else(user: Console, place: Path) -> None:
    """Stored while the hive runs, used by a turn: no log, event, database or command line has it."""
    key = "sk-ant-api03-" + "canary" * 4
    with Running(user) as hive:
        hive.ready()
        ok(user, "login", stdin=key + "\n")
        ok(user, "spawn", "alice")
        ok(user, "send", "--wait", "alice", "hello")
        assert "account     default" in user.run("status", "alice").out
        assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if key.encode() in content(path)]
        hive.signal(signal.SIGTERM)
        assert hive.end() == 0
        assert key not in hive.out + hive.err
    holders = [path for path in place.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert holders == [place / "state" / "accounts" / "default"]


def content(path: Path) -> bytes:
    """What is in a file of a process, nothing where the process has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
