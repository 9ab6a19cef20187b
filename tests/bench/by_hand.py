"""The agent CLI driven by hand, against the stand-in for the API: the baselines of the harness's rows.

By hand means: no box and no hive, a line written and lines read.
"""

import json
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from tests.bench.table import Contender, Sample

from hyperhive.agent_cli import AgentCli
from hyperhive.harness.drivers.claude import ClaudeDriver, Profile
from hyperhive.harness.wake import wake_prompt
from hyperhive.names import parse_resident
from hyperhive.paths import Paths
from hyperhive.testing.turns import message
from parts import CLEAN_ENV, claude_path

Json = dict[str, Any]

TURNS, WARM_UP = 30, 5


# --- the API, and an environment for the CLI --------------------------------------------------------------------------


@contextmanager
def api() -> Iterator[dict[str, str]]:
    """A stand-in for the API; gives the variables that lead to it."""
    argv = [sys.executable, "-m", "hyperhive.testing.fake_anthropic", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            yield {
                **CLEAN_ENV,
                "ANTHROPIC_BASE_URL": url,
                "ANTHROPIC_API_KEY": "dummy-key-for-tests",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
                "DISABLE_TELEMETRY": "1",
                "DISABLE_ERROR_REPORTING": "1",
            }
        finally:
            server.kill()


def fixed(value: float) -> Contender:
    """A goal that is a number, as a contender."""
    return lambda _: Sample(value)


# --- by hand ----------------------------------------------------------------------------------------------------------


class Hand:
    """The CLI's pipes, a line written and lines read; just enough MCP to be a server with one tool."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], cwd: Path) -> None:
        self._cli = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environ), cwd=cwd
        )

    def write(self, message: Json) -> None:
        assert self._cli.stdin is not None
        self._cli.stdin.write(json.dumps(message).encode() + b"\n")
        self._cli.stdin.flush()

    def read_until(self, mark: bytes) -> None:
        """Reads to the next line that has this in it; answers what is asked meanwhile."""
        assert self._cli.stdout is not None
        while mark not in (line := self._cli.stdout.readline()):
            assert line, "the CLI ended"
            if line.startswith(b'{"type":"control_request"'):
                self._answer(json.loads(line))

    def _answer(self, asked: Json) -> None:
        rpc = asked["request"]["message"]
        results: Json = {
            "initialize": {
                "protocolVersion": rpc.get("params", {}).get("protocolVersion"),
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "hyperhive", "version": "0"},
            },
            "tools/list": {"tools": [{"name": "send", "inputSchema": {"type": "object"}}]},
        }
        reply = {"jsonrpc": "2.0", "id": rpc.get("id", 0), "result": results.get(rpc["method"], {})}
        response = {
            "subtype": "success",
            "request_id": asked["request_id"],
            "response": {"mcp_response": reply},
        }
        self.write({"type": "control_response", "response": response})

    def turns(self, prompt: Callable[[int], str]) -> Sample:
        """The median turn; the process is ended then."""
        took: list[float] = []
        for number in range(WARM_UP + TURNS):
            message = {"role": "user", "content": prompt(number)}
            begun = time.perf_counter()
            self.write({"type": "user", "message": message, "uuid": str(uuid.uuid4())})
            self.read_until(b'"type":"result"')
            took.append(time.perf_counter() - begun)
        self._cli.communicate()
        return Sample(statistics.median(took[WARM_UP:]) * 1000, TURNS)


def plain_by_hand(directory: Path) -> Sample:
    """The CLI as anyone would start it."""
    with api() as environ:
        argv = [
            str(claude_path("2.1.328")),
            "-p",
            "--input-format",
            "stream-json",
            "--output-format",
            "stream-json",
        ]
        hand = Hand([*argv, "--verbose", "--model", "haiku"], {**environ, "HOME": str(directory)}, directory)
        return hand.turns(lambda number: f"hello {number}")


def same_by_hand(directory: Path) -> Sample:
    """The CLI with the flags, tools and prompts that the hive gives it, so that both have the same to do."""
    paths = Paths(directory, directory / "run")
    name = parse_resident("alice")
    paths.make_hive()
    paths.make_agent(name)

    async def find() -> AgentCli:
        return AgentCli(path=claude_path("2.1.328").resolve(), version="2.1.328")

    with api() as environ:
        driver = ClaudeDriver(lambda: Profile(name=name), find, paths.agent_harness(name), environ=environ)
        command = anyio.run(driver.prepare, paths.box(name, isolated=False), "bwrap")
        key = {"ANTHROPIC_API_KEY": environ["ANTHROPIC_API_KEY"]}
        argv = [*command.argv, "--session-id", str(uuid.uuid4()), "--model", "haiku"]
        hand = Hand(argv, {**command.env, **key}, paths.agent_state(name))
        request = {"subtype": "initialize", "appendSystemPrompt": command.append_prompt}
        hand.write({"type": "control_request", "request_id": "1", "request": request})
        hand.read_until(b'"control_response"')
        return hand.turns(
            lambda number: wake_prompt([message(number, f"hello {number}")], boundary="12345678")
        )


def alone(directory: Path) -> Sample:
    """`claude -p`, until its result is there."""
    with api() as environ:
        home = directory / "home"
        home.mkdir()
        argv = [
            str(claude_path("2.1.328")),
            "-p",
            "--output-format",
            "stream-json",
            "--verbose",
            "--model",
            "haiku",
        ]
        begun = time.perf_counter()
        with subprocess.Popen(
            [*argv, "--", "hello"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**environ, "HOME": str(home)},
            cwd=home,
        ) as cli:
            assert cli.stdout is not None
            while b'"type":"result"' not in cli.stdout.readline():
                pass
            return Sample((time.perf_counter() - begun) * 1000, 1)
