"""Every way in which a turn of the real CLI can end badly has its outcome, and loses nothing.

The rows follow the table of measured endings. Retries are off (CLAUDE_CODE_MAX_RETRIES=0) but for the campaign.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from hyperhive.config import AgentConfig, McpServer, Tools
from hyperhive.errors import WorldError
from hyperhive.harness.turns import TurnResult
from hyperhive.protocol.types import ResultKind
from hyperhive.testing.fake_anthropic import FakeAnthropic, error, tool_turn
from hyperhive.testing.tools import LocalTools, LocalToolSession
from hyperhive.testing.turns import message
from turn_tools import KEY, Benches, frames, notes, told, tool_is_open, until

WITH_BASH = AgentConfig(tools=Tools(allow=("Bash", "Read")))
SLEEP = ("Bash", {"command": "python3 -c 'import time; time.sleep(31)'; echo slept", "description": "x"})


class Row(NamedTuple):
    """What the API answers, and what becomes of the turn."""

    answer: dict[str, Any]
    kind: ResultKind
    parked: bool = False
    blame: bool = False


API = {
    "500": Row(error(500, "api_error", "boom"), "limited"),
    "503": Row(error(503, "api_error", "unavailable"), "limited"),
    "429": Row(error(429, "rate_limit_error", "slow down"), "limited"),
    "529": Row(error(529, "overloaded_error", "Overloaded"), "limited"),
    "401": Row(error(401, "authentication_error", "invalid x-api-key"), "needs_login"),
    "403": Row(error(403, "permission_error", "not allowed"), "failed", parked=True),
    "unknown model": Row(error(404, "not_found_error", "model: nope"), "failed", parked=True),
    "billing": Row(
        error(400, "invalid_request_error", "Your credit balance is too low"), "failed", parked=True
    ),
    "bad request": Row(error(400, "invalid_request_error", "messages.0: bad"), "failed"),
    "too long": Row(
        error(400, "invalid_request_error", "prompt is too long: 9 > 8"), "prompt_too_long", blame=True
    ),
}


async def test_every_refusal_of_the_api_has_its_outcome_and_costs_no_message(
    real: Benches, api: FakeAnthropic
) -> None:
    runner = await real.runner(real.bench())
    found = {}
    for number, (name, row) in enumerate(API.items(), 1):
        api.scenario = row.answer
        result = await runner.run([message(number, f"try {name}")], turn=number)
        found[name] = (result.kind, result.park is not None, result.blame, result.done, result.pending)
        assert result.note, name
    assert found == {
        name: (row.kind, row.parked, row.blame, (), (number,))
        for number, (name, row) in enumerate(API.items(), 1)
    }
    api.scenario = {}
    assert (await runner.run([message(99, "well again")], turn=99)).done == (99,)


async def test_a_failed_turn_between_two_good_ones_is_acked_by_neither(
    real: Benches, api: FakeAnthropic
) -> None:
    runner = await real.runner(real.bench())
    assert (await runner.run([message(1, "hello one")])).done == (1,)
    api.scenario = error(500, "api_error", "boom")
    assert (await runner.run([message(2, "hello two")])).pending == (2,)
    api.scenario = {}
    assert (await runner.run([message(3, "hello three")])).done == (3,)
    again = await runner.run([message(2, "hello two", redelivered=True)])
    assert again.done == (2,)
    assert told(api).count("hello two") == 1, "its text stands in the session: it is announced, not repeated"
    assert "[message 2 from operator" in api.requests[-1]["text"]
    assert "already be handled" in api.requests[-1]["text"]


async def test_what_stands_in_the_session_stands_there_after_a_rest_too(
    real: Benches, api: FakeAnthropic
) -> None:
    runner = await real.runner(real.bench())
    assert (await runner.run([message(1, "hello one")])).done == (1,)
    api.scenario = error(500, "api_error", "boom")
    assert (await runner.run([message(2, "hello two")])).pending == (2,)
    await runner.retire()
    api.scenario = {}
    assert (await runner.run([message(2, "hello two", redelivered=True)])).done == (2,)
    assert told(api).count("hello two") == 1


async def test_without_a_login_nothing_is_asked_of_the_api(real: Benches, api: FakeAnthropic) -> None:
    runner = await real.runner(real.bench(account={}))
    result = await runner.run([message(1, "hello")])
    assert (result.kind, result.pending, result.blame, result.park) == ("needs_login", (1,), False, None)
    assert api.requests == []


async def test_a_refused_token_needs_login(real: Benches, api: FakeAnthropic) -> None:
    api.scenario = error(401, "authentication_error", "bad token")
    runner = await real.runner(real.bench(account={"CLAUDE_CODE_OAUTH_TOKEN": "dummy-token-for-tests"}))
    assert (await runner.run([message(1, "hello")])).kind == "needs_login"


async def test_a_usage_limit_says_when_it_ends(real: Benches, api: FakeAnthropic) -> None:
    resets = int(time.time()) + 3600
    limit = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(resets),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
    }
    api.scenario = error(429, "rate_limit_error", "limit", **limit)
    runner = await real.runner(real.bench(account={"CLAUDE_CODE_OAUTH_TOKEN": "dummy-token-for-tests"}))
    result = await runner.run([message(1, "hello")])
    assert (result.kind, result.reset_at, result.blame) == ("limited", resets, False)


async def test_a_refused_connection_is_tried_again_later(real: Benches) -> None:
    runner = await real.runner(real.bench(environ={"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}))
    result = await runner.run([message(1, "hello")])
    assert (result.kind, result.pending, result.blame, result.park) == ("limited", (1,), False, None)


@pytest.mark.parametrize("fault", ["cut", "error event"])
async def test_a_broken_stream_is_mended_by_the_cli(real: Benches, api: FakeAnthropic, fault: str) -> None:
    broken: dict[str, Any] = {"blocks": ["abc def"], "times": 1}
    broken |= (
        {"cut_after": 4} if fault == "cut" else {"sse_error": {"type": "overloaded_error", "message": "x"}}
    )
    api.scenario = {"rules": [broken]}
    runner = await real.runner(real.bench(environ={"CLAUDE_CODE_MAX_RETRIES": "1"}))
    assert (await runner.run([message(1, "hello")])).done == (1,)


@pytest.mark.needs("claude")
async def test_a_denied_tool_does_not_fail_the_turn(newest: Benches, api: FakeAnthropic) -> None:
    api.scenario = {"rules": [tool_turn("peek", ("Read", {"file_path": "/etc/passwd"}))]}
    bench = newest.bench()
    runner = await newest.runner(bench)
    assert (await runner.run([message(1, "peek")])).done == (1,)
    assert "root:" not in told(api)


@pytest.mark.parametrize(
    ("flags", "blame", "parked"),
    [(("--max-turns", "1"), True, False), (("--max-budget-usd", "0.000001"), False, True)],
    ids=["max turns", "CLI budget"],
)
async def test_the_clis_own_limits_fail_the_turn(
    real: Benches, api: FakeAnthropic, flags: tuple[str, ...], blame: bool, parked: bool
) -> None:
    api.scenario = {
        "rules": [tool_turn("work", ("mcp__hyperhive__whoami", {}), ("mcp__hyperhive__whoami", {}))]
    }
    real.with_flags(*flags)
    runner = await real.runner(real.bench())
    result = await runner.run([message(1, "work")])
    assert (result.kind, result.pending) == ("failed", (1,))
    assert (result.blame, result.park is not None) == (blame, parked)


@pytest.mark.needs("claude")
async def test_a_cli_that_refuses_its_flags_crashes_before_the_message(newest: Benches) -> None:
    newest.with_flags("--no-such-flag")
    runner = await newest.runner(newest.bench())
    result = await runner.run([message(1, "hello")])
    assert (result.kind, result.pending, result.blame) == ("crashed", (1,), False)
    assert "--no-such-flag" in (result.note or "")
    assert not runner.warm


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.campaign),
        pytest.param(signal.SIGHUP, marks=pytest.mark.campaign),
    ],
)
async def test_a_signal_from_outside_ends_the_turn_and_its_tools(
    real: Benches, api: FakeAnthropic, number: signal.Signals
) -> None:
    api.scenario = {"rules": [tool_turn("work", SLEEP)]}
    bench = real.bench(config=WITH_BASH)
    runner = await real.runner(bench)
    ended: list[TurnResult] = []

    async def run() -> None:
        ended.append(await runner.run([message(1, "work")]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await tool_is_open(bench, "Bash")
        await until(lambda: sleeping(bench.state.as_posix()))
        assert runner.pid is not None
        os.kill(runner.pid, number)
    assert ended[0].pending == (1,)
    assert ended[0].kind == ("failed" if number == signal.SIGINT else "crashed")
    assert ended[0].interrupted == (number == signal.SIGINT)
    await until(lambda: not runner.warm)
    assert not sleeping(bench.state.as_posix()), "no tool outlives the CLI"
    api.scenario = {}
    assert (await runner.run([message(1, "work", redelivered=True)])).done == (1,)


def sleeping(cwd: str) -> list[int]:
    """The tool's processes: those that sleep in the agent's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if str((entry / "cwd").readlink()) == cwd and b"time.sleep(31)" in cmdline(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


class DeafTools(LocalTools):
    """A core that refuses every call."""

    async def open_session(self) -> LocalToolSession:
        return DeafSession(self)


class DeafSession(LocalToolSession):
    async def handle(self, message: bytes) -> bytes | None:  # noqa: ARG002 (the port's signature)
        raise WorldError("the core is not there")


async def test_a_turn_never_runs_without_the_hives_tools(real: Benches) -> None:
    runner = await real.runner(real.bench(tools=DeafTools({})))
    result = await runner.run([message(1, "hello")])
    assert (result.kind, result.pending, result.blame) == ("failed", (1,), False)
    assert "tools are not connected" in (result.note or "")
    assert not runner.warm, "the next turn gets a new process"


@pytest.mark.needs("claude")
async def test_a_core_that_cannot_be_reached_fails_the_turn_before_it_begins(
    newest: Benches, api: FakeAnthropic
) -> None:
    class Away(LocalTools):
        async def open_session(self) -> LocalToolSession:
            raise WorldError("no core")

    runner = await newest.runner(newest.bench(tools=Away({})))
    result = await runner.run([message(1, "hello")])
    assert (result.kind, result.pending, result.note, result.blame) == ("crashed", (1,), "no core", False)
    assert api.requests == []


@pytest.mark.needs("claude")
async def test_a_faulty_extra_mcp_server_does_not_stop_the_turn(newest: Benches) -> None:
    config = AgentConfig(mcp={"gone": McpServer(command="/no/such/program", env={"TOKEN": "canary-value"})})
    bench = newest.bench(config=config)
    runner = await newest.runner(bench)
    assert (await runner.run([message(1, "hello")])).done == (1,)
    init = next(frame for frame in frames(bench) if frame.get("subtype") == "init")
    assert {server["name"] for server in init["mcp_servers"]} == {"hyperhive", "gone"}
    assert runner.pid is not None
    assert b"canary-value" not in cmdline(runner.pid), "an extra server's secrets are not in argv"
    assert KEY["ANTHROPIC_API_KEY"].encode() not in cmdline(runner.pid)
    assert not [note for note in notes(bench) if "canary" in note]


@pytest.mark.campaign
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["500", "401", "529"])
async def test_with_default_retries_the_outcome_is_the_same(
    real: Benches, api: FakeAnthropic, name: str
) -> None:
    del real.environ["CLAUDE_CODE_MAX_RETRIES"]
    api.scenario = API[name].answer
    bench = real.bench()
    runner = await real.runner(bench)
    result = await runner.run([message(1, "hello")])
    assert (result.kind, result.pending) == (API[name].kind, (1,))
    assert [frame for frame in frames(bench) if frame.get("subtype") == "api_retry"]
