"""Claims about the tools in the hands of the real agent CLI, both versions: over its own stdio, and by the bridge."""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

from hyperhive.agent_cli import AgentCli
from hyperhive.mcp import bridge
from hyperhive.mcp.remote import RemoteToolServer
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import CALL_ID
from hyperhive.protocol.policy import Caller
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from hyperhive.testing.turns import message
from parts import CLEAN_ENV, claude_path
from small_hive import harness, small_hive
from turn_tools import Benches, told

VERSIONS = [
    pytest.param("2.1.328", marks=pytest.mark.needs("claude")),
    pytest.param("2.1.200", marks=pytest.mark.needs("claude-2.1.200")),
]
SEND = ("mcp__hyperhive__send", {"to": "bob", "body": "from the real one"})
RECV = ("mcp__hyperhive__recv", {"wait_seconds": 100})


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def api() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture
async def benches(version: str, tmp_path: Path, api: FakeAnthropic) -> AsyncIterator[Benches]:
    made = Benches(tmp_path, AgentCli(path=claude_path(version), version=version), api)
    yield made
    await made.aclose()


async def test_a_turn_sends_and_receives_over_the_clis_own_stdio(
    root: Path, benches: Benches, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": [tool_turn("go", SEND, ("mcp__hyperhive__recv", {"max": 5}))]}
    async with small_hive(root) as hive:
        for body in ("one", "two"):
            await hive.broker.send("bob", "alice", body)
        bench = benches.bench(tools=hive.tools.tool_server(harness("alice")))
        runner = await benches.runner(bench)
        assert (await runner.run([message(1, "go")])).ok
        assert [row.body for row in await hive.broker.recent("bob")] == ["from the real one"]
        assert "popped 2 message(s)" in told(api), "plain text, as it stands"
        assert "structuredContent" not in told(api)
        assert "inbox: 0 unread" in told(api)
        assert await hive.broker.ack_turn("alice", [], taken=True) == 2
        offered = {tool["name"]: tool for tool in api.requests[0]["body"]["tools"]}
        assert {"mcp__hyperhive__send", "mcp__hyperhive__recv", "mcp__hyperhive__whoami"} <= set(offered)
        assert offered["mcp__hyperhive__send"]["input_schema"]["required"] == ["to", "body"]


async def test_an_error_reaches_the_model_with_the_way_to_mend_it(
    root: Path, benches: Benches, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": [tool_turn("go", ("mcp__hyperhive__recv", {"max": 0}))]}
    async with small_hive(root) as hive:
        runner = await benches.runner(benches.bench(tools=hive.tools.tool_server(harness("alice"))))
        assert (await runner.run([message(1, "go")])).ok
        assert "error: no valid `recv` request" in told(api)


async def test_a_turn_that_is_cancelled_while_recv_waits_takes_no_message(
    root: Path, benches: Benches, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": [tool_turn("go", RECV)]}
    async with small_hive(root) as hive:
        runner = await benches.runner(benches.bench(tools=hive.tools.tool_server(harness("alice"))))
        async with anyio.create_task_group() as group:
            group.start_soon(runner.run, [message(1, "go")])
            await hive.receiving.wait()
            await runner.cancel()
        with anyio.fail_after(20):
            while hive.tools._calls._tasks:
                await anyio.lowlevel.checkpoint()
        await hive.broker.send("bob", "alice", "hi")
        assert await hive.broker.pending("alice") == 1


class Waitable(Protocol):
    """An event of asyncio's or of anyio's."""

    async def wait(self) -> object: ...


async def test_a_restart_of_the_core_in_mid_call_is_not_noticed_by_a_turn_of_a_harness_of_its_own(
    root: Path, benches: Benches, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": [tool_turn("go", SEND, RECV)]}
    committed = anyio.Event()

    async def send(caller: Caller, request: r.Send) -> a.Reply:
        await hive.broker.send(caller.name, request.to, request.body, call_id=CALL_ID.get())
        committed.set()
        await anyio.sleep_forever()
        return a.Ok()

    async with small_hive(root, handlers={r.Send: send}) as hive:
        tools = RemoteToolServer(hive.harness_socket("alice"))
        runner = await benches.runner(benches.bench(tools=tools))
        ended: list[bool] = []
        over = anyio.Event()

        async def run() -> None:
            ended.append((await runner.run([message(1, "go")])).ok)
            over.set()

        async def come(what: str, event: Waitable) -> None:
            with anyio.move_on_after(20):
                await event.wait()
                return
            raise AssertionError(f"in vain: {what}; the turn {ended or 'runs'}; {len(api.requests)} requests")

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await come("sent", committed)
            await hive.kill()
            async with small_hive(root) as second:
                await come("asked for mail", second.receiving)
                await second.kill()
            async with small_hive(root) as third:
                await come("asked for mail again", third.receiving)
                await third.broker.send("bob", "alice", "at last")
                await come("the turn's end", over)
                assert ended == [True]
                assert [row.body for row in await third.broker.recent("bob")] == ["from the real one"]
                assert "at last" in told(api)
                assert await third.broker.ack_turn("alice", [], taken=True) == 1


async def cli_with_bridge(
    version: str, api: FakeAnthropic, home: Path, socket: Path, prompt: str
) -> list[dict[str, Any]]:
    """One turn of the CLI, started by hand, with the bridge as its MCP server. Its stream-json lines."""
    server = {"type": "stdio", "command": sys.executable, "args": ["-IS", bridge.__file__, str(socket)]}
    config = home / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"hyperhive": {**server, "alwaysLoad": True}}}))
    environ = CLEAN_ENV | {
        "HOME": str(home),
        "ANTHROPIC_API_KEY": "dummy-key-for-tests",
        "ANTHROPIC_BASE_URL": api.url,
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
    }
    flags = ["--print", "--output-format", "stream-json", "--verbose", "--strict-mcp-config"]
    argv = [
        str(claude_path(version)),
        *flags,
        "--mcp-config",
        str(config),
        "--allowedTools",
        "mcp__hyperhive",
    ]
    done = await anyio.run_process([*argv, "--", prompt], env=environ, cwd=home, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_the_cli_uses_the_tools_by_the_bridge(
    root: Path, version: str, api: FakeAnthropic, tmp_path: Path
) -> None:
    api.scenario = {"rules": [tool_turn("go", SEND, ("mcp__hyperhive__recv", {}))]}
    async with small_hive(root) as hive:
        await hive.broker.send("bob", "alice", "hi")
        lines = await cli_with_bridge(version, api, tmp_path, hive.tools_socket("alice"), "go")
        assert lines[-1]["is_error"] is False
        [init] = [line for line in lines if line.get("subtype") == "init"]
        assert [server["status"] for server in init["mcp_servers"]] == ["connected"]
        assert [row.body for row in await hive.broker.recent("bob")] == ["from the real one"]
        assert "from: bob\n\nhi\n\ninbox: 0 unread" in lines[-1]["result"]


async def test_the_cli_by_the_bridge_does_not_notice_that_the_core_restarts_in_mid_call(
    root: Path, version: str, api: FakeAnthropic, tmp_path: Path
) -> None:
    api.scenario = {"rules": [tool_turn("go", SEND, RECV)]}
    committed = anyio.Event()
    ended: list[list[dict[str, Any]]] = []
    over = anyio.Event()

    async def send(caller: Caller, request: r.Send) -> a.Reply:
        await hive.broker.send(caller.name, request.to, request.body, call_id=CALL_ID.get())
        committed.set()
        await anyio.sleep_forever()
        return a.Ok()

    async with small_hive(root, handlers={r.Send: send}) as hive, anyio.create_task_group() as group:

        async def run() -> None:
            ended.append(await cli_with_bridge(version, api, tmp_path, hive.tools_socket("alice"), "go"))
            over.set()

        group.start_soon(run)
        await committed.wait()
        await hive.kill()
        async with small_hive(root) as again:
            await again.receiving.wait()
            await again.broker.send("bob", "alice", "at last")
            with anyio.fail_after(30):
                await over.wait()
            assert "at last" in ended[0][-1]["result"]
            assert [row.body for row in await again.broker.recent("bob")] == ["from the real one"]
