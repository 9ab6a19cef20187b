"""The operator answers a tool call from the command line, and takes back what was allowed for good."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console import Console
from up import Running, scripted

ASKS = "[[control {}]]".format(
    json.dumps({"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "make \x1b[31mall"}})
)


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hh-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 40
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)  # another process's doing: there is nothing to wait on


def test_a_rule_is_made_listed_and_taken_back(console: Console, place: Path) -> None:
    user = scripted(console, place)
    config = place / "hive.toml"
    config.write_text('[agents.alice.tools]\nask = ["Bash"]\n')
    user.env["HYPERHIVE_CONFIG"] = str(config)
    with Running(user) as hive:
        hive.ready()
        assert user.run("spawn", "alice", "--json").code == 0
        assert user.run("tool-rules").out == "no rules: every marked tool asks\n"
        assert user.run("send", "alice", ASKS, "--json").code == 0
        until(lambda: user.run("questions", "--json").json["questions"])
        shown = user.run("questions").out
        assert "alice wants to use Bash." in shown
        assert '"command": "make' in shown
        assert "\x1b" not in shown, "an input cannot paint over what the operator reads"
        [question] = user.run("questions", "--json").json["questions"]
        assert user.run("answer", str(question["id"]), "allow").code != 0, "half a permission"
        assert user.run("answer", str(question["id"]), "2", "--json").code == 0
        [rule] = user.run("tool-rules", "--json").json["rules"]
        assert (rule["agent"], rule["tool"], rule["question"]) == ("alice", "Bash", question["id"])
        listed = user.run("tool-rules").out
        assert "alice" in listed
        assert "\x1b" not in listed
        assert (
            user.run("tool-rules", "--revoke", str(rule["id"])).out
            == "alice asks again before it uses Bash\n"
        )
        again = user.run("tool-rules", "--revoke", str(rule["id"]))
        assert (again.code, "no tool rule" in again.err) == (3, True)
