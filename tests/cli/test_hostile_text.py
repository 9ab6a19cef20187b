"""Attack S7 on every command: whatever the hive's replies say, a terminal that shows them is steered by nobody.

Replies are the recorded ones of the wire with a hostile text wherever the wire takes any: the body of a message, a
question, a tool's input, the name of a file or of an agent. Commands run in this process, in a thread, with a terminal
for their output.
"""

import io
import json
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

from desk import answers, desk, raises
from hyperhive import cli
from hyperhive.cli import frames
from hyperhive.cli.app import names
from hyperhive.errors import HiveError
from hyperhive.protocol import requests as r
from hyperhive.protocol.answers import ANSWERS
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.replies import Reply

GOLDEN = Path(__file__).parents[1] / "protocol" / "golden"
EVIL = "\x1b]52;c;ZXZpbA==\x07\x9b2J\x1b]8;;x\x1b\\\u202eevil\u2066\r\x00\u200b\U000e0041\ue000\u2028 end\n\x1b[2A"
OUR_COLOURS = re.compile(r"\x1b\[\d+m")

COMMANDS: list[list[str]] = [
    ["status"], ["status", "x"], ["list"], ["notices"], ["reload"],
    ["spawn", "x"], ["start", "x"], ["kill", "x"], ["restart", "x"], ["destroy", "x", "--yes"], ["restore", "x"],
    ["model", "x", "opus"], ["cancel", "x"], ["compact", "x"], ["new-session", "x"],
    ["request-spawn", "x"], ["rebuild", "x"], ["update", "x"], ["rollback", "x", "1"],
    ["budget"], ["budget", "x", "--by", "chain"], ["tool-rules"],
    ["send", "x", "hi"], ["inbox"], ["file", "x", "/state/y.md"], ["dead"], ["drop", "1"],
    ["ask", "x", "hi?"], ["questions", "--all"], ["answer", "7", "1"], ["remind", "x", "later", "--in", "5m"],
    ["reminders"],
    ["pending"], ["show", "7"], ["approve", "7"], ["deny", "7"], ["audit"],
    ["logs", "x"], ["events", "x"], ["turns", "x"], ["stats", "x"],
    ["search", "x"], ["messages"], ["config", "x"], ["digest", "--since", "1h"],
]  # fmt: skip
ELSEWHERE = {
    "up", "serve", "demo", "doctor", "login", "service", "backup", "restore-backup", "open", "agent", "top", "attach",
}  # fmt: skip
"""What prints no text of an agent's, or runs until it is ended: tests/cli/test_up.py, test_top.py, test_attach.py."""


def hostile(kind: type[Reply]) -> Reply:
    """The fullest reply of this kind with the hostile text wherever it may stand."""
    tag = kind.__struct_config__.tag
    fields = max((one for one in recorded("replies") if one["kind"] == tag), key=lambda one: len(str(one)))
    for holder, key in list(texts(fields)):
        before = holder[key]
        holder[key] = EVIL
        try:
            msgspec.convert(fields, kind)
        except msgspec.ValidationError:
            holder[key] = before
    return msgspec.convert(fields, kind)


def recorded(union: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in (GOLDEN / f"{union}.jsonl").read_bytes().splitlines()]


def texts(value: Any) -> Any:
    """Where the texts of a document stand, and the free-form parts of it."""
    pairs: Any = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, one in pairs:
        if isinstance(one, str):
            yield value, key
        else:
            yield from texts(one)


class Terminal(io.StringIO):
    """A terminal that keeps what it is sent."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command writes to its terminal, both streams."""
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        patch.setattr(sys, "stdin", io.StringIO())
        cli.run(words)
    return terminal.getvalue()


def steering(text: str) -> list[str]:
    """The characters of a text that do more than stand there; the line's end and our own colours are allowed."""
    return [char for char in OUR_COLOURS.sub("", text) if not char.isprintable() and char != "\n"]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which the commands look for the hive."""
    monkeypatch.setenv("HYPERHIVE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("HYPERHIVE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TERM", "xterm")
    return tmp_path / "run"


HOSTILE: Mapping[type[r.Request], Handler] = {
    request: answers(hostile(kind)) for request, kind in ANSWERS.items() if request is not r.Subscribe
}
REFUSED: Mapping[type[r.Request], Handler] = dict.fromkeys(HOSTILE, raises(HiveError(EVIL, hint=EVIL)))


def test_every_command_is_here() -> None:
    assert {words[0] for words in COMMANDS} | ELSEWHERE == set(names())


@pytest.mark.parametrize("handlers", [HOSTILE, REFUSED], ids=["reply", "error"])
async def test_no_reply_of_the_hive_steers_the_operators_terminal(
    at: Path, monkeypatch: pytest.MonkeyPatch, handlers: Mapping[type[r.Request], Handler]
) -> None:
    said: dict[str, str] = {}
    async with desk(at, handlers):
        for words in COMMANDS:
            for more in ([], ["--json"]):
                argv = [*words, *more]
                said[" ".join(argv)] = await anyio.to_thread.run_sync(partial(run, argv, monkeypatch))
    assert {argv: text for argv, text in said.items() if steering(text)} == {}
    assert [argv for argv, text in said.items() if "Traceback" in text] == []
    assert sum("evil" in text for text in said.values()) > len(COMMANDS)


@pytest.mark.parametrize("union", ["live_events", "dashboard_events", "stream_frames", "helper_events"])
def test_no_frame_of_a_stream_steers_the_operators_terminal(union: str) -> None:
    """Each with all its texts hostile, its kind among them, and as mail that an event is told by."""
    said = []
    for frame in recorded(union):
        for holder, key in list(texts(frame)):
            if key not in {"kind", "type"}:
                holder[key] = EVIL
        mail = {"kind": "sent", "id": 1, "to": EVIL, "from": "system", "body": json.dumps(frame)}
        for one in (frame, {**frame, "kind": EVIL}, mail, {**mail, "from": EVIL}):
            for line in (frames.hive_line(one, 500), frames.agent_line(one, 500)):
                assert not steering(line or ""), one
                assert "\n" not in (line or "")
                said.append(line or "")
    assert any("evil" in line for line in said)
