"""The scripted CLI plays its parts: what the demo and other tests rely on."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hyperhive.agent_cli import AgentCli
from hyperhive.config import AgentConfig
from hyperhive.harness.runner import TurnRunner
from hyperhive.testing.scripted_play import directives_of
from hyperhive.testing.tools import LocalTools
from hyperhive.testing.turns import SCRIPTED_VERSION, TurnBench, install_scripted_cli, message


class Play:
    """One agent on the scripted CLI, and what it sent."""

    def __init__(self, directory: Path, cli: AgentCli) -> None:
        self.tools = LocalTools({"send": self.sent})
        self.mail: list[tuple[str, str]] = []
        self.bench = TurnBench(directory / "hive", cli, tools=self.tools)
        self.runner: TurnRunner | None = None

    async def sent(self, arguments: dict[str, Any]) -> str:
        self.mail.append((arguments["to"], arguments["body"]))
        return "sent"

    async def tell(self, id_: int, body: str, sender: str) -> None:
        if self.runner is None:
            self.runner = await self.bench.runner()
        assert (await self.runner.run([message(id_, body, sender=sender)])).done == (id_,)


@pytest.fixture
def cli(tmp_path: Path) -> AgentCli:
    return AgentCli(path=install_scripted_cli(tmp_path / "claude"), version=SCRIPTED_VERSION)


@pytest.fixture
async def play(tmp_path: Path, cli: AgentCli) -> AsyncIterator[Play]:
    play = Play(tmp_path, cli)
    yield play
    if play.runner is not None:
        await play.runner.aclose()


async def test_the_manager_splits_collects_and_reports(play: Play) -> None:
    play.bench.config = AgentConfig(prompt="Team: ada, ben")
    await play.tell(5, "write the docs; test the parser; sing", "operator")
    assert play.mail == [
        ("ada", "Part 1 of 2 of task 5: write the docs and sing"),
        ("ben", "Part 2 of 2 of task 5: test the parser"),
    ]
    play.mail.clear()
    await play.tell(6, "Done with part 2 of 2 of task 5: it passes", "ben")
    assert play.mail == []
    assert play.runner is not None
    await play.runner.retire()
    await play.tell(7, "Done with part 1 of 2 of task 5: it is written", "ada")
    assert play.mail == [("operator", "Task 5 is done.\n- ada: it is written\n- ben: it passes")]


async def test_an_agent_works_its_part_and_answers(play: Play) -> None:
    await play.tell(9, "Part 2 of 2 of task 5: test the parser", "manager")
    assert play.mail == [
        ("manager", "Done with part 2 of 2 of task 5: test the parser is written up in task-5-part-2.md")
    ]
    assert exists(play.bench.state / "task-5-part-2.md")


def exists(path: Path) -> bool:
    return path.is_file()


async def test_a_message_is_answered_once_and_an_answer_never(play: Play) -> None:
    await play.tell(1, "hello", "operator")
    await play.tell(2, "You said: hello", "bob")
    assert play.mail == [("operator", "You said: hello")]


async def test_running_again_says_the_same(play: Play) -> None:
    for _ in range(2):
        await play.tell(3, "Part 1 of 2 of task 5: sing", "manager")
    assert play.mail[0] == play.mail[1]


def test_a_directive_may_carry_others_to_somebody_else() -> None:
    text = 'x [[once a]][[call send {"to": "bob", "body": "[[say [hi]]] {"}]] [[say bye]]'
    assert directives_of(text) == [
        ("once", "a"),
        ("call", 'send {"to": "bob", "body": "[[say [hi]]] {"}'),
        ("say", "bye"),
    ]


def test_version_and_login_look_like_the_real_ones(tmp_path: Path) -> None:
    def run(*argv: str, given: str = "", **keys: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "hyperhive.testing.scripted_cli", *argv]
        env = {"CLAUDE_CONFIG_DIR": str(tmp_path / "claude"), "PATH": "/usr/bin:/bin", **keys}
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=env,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.returncode, done.stdout

    def logged_in(**keys: str) -> tuple[int, bool]:
        code, said = run("auth", "status", **keys)
        return code, json.loads(said)["loggedIn"]

    assert run("--version") == (0, "2.1.328 (Claude Code)\n")
    assert logged_in() == (1, False)
    assert logged_in(ANTHROPIC_API_KEY="dummy") == (0, True)
    assert run("auth", "login")[0] == 1, "without a code it ends"
    assert logged_in() == (1, False)
    code, said = run("auth", "login", given="a#code\n")
    assert (code, "https://" in said) == (0, True)
    assert logged_in() == (0, True)
    assert run("auth", "logout")[0] == 0
    assert logged_in() == (1, False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--resume", "x"], "No conversation found with session ID: x"),
        (["--session-id", "y"], "already in use"),
    ],
)
def test_sessions_are_refused_as_the_real_cli_refuses_them(
    tmp_path: Path, flags: list[str], words: str
) -> None:
    slug = "".join(letter if letter.isalnum() else "-" for letter in str(tmp_path))
    transcript = tmp_path / "config/projects" / slug / "y.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_text("{}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "hyperhive.testing.scripted_cli", "-p", *flags],
        cwd=tmp_path,
        env={"CLAUDE_CONFIG_DIR": str(tmp_path / "config"), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 1
    assert words in ended.stderr
