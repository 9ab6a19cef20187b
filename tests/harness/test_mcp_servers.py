"""Further MCP servers: the agent's own and the host's, allowed by pattern, started by the CLI in the agent's box."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hyperhive.config import AgentConfig, McpServer, Tools, parse_hive_file
from hyperhive.errors import BadConfig
from hyperhive.harness.drivers.mcp_servers import CREDENTIALS, cli_servers, read_extra
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from hyperhive.testing.turns import message
from turn_tools import Benches, frames, told

SERVER = '''#!/usr/bin/python3
"""A stdio MCP server with three tools, each of which tells a part of its environment."""
import json, os, sys

TOOLS = ("list_things", "list_more", "drop_all")


def result(method, params):
    if method == "initialize":
        info = {"name": "tracker", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    if method == "tools/call":
        if params["name"] == "drop_all":
            open("/state/dropped", "w").close()
        told = {name: os.environ.get(name) for name in ("ANTHROPIC_API_KEY", "TRACKER_KEY")}
        return {"content": [{"type": "text", "text": "ran " + params["name"] + " " + json.dumps(told)}]}
    return {}


for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": result(asked["method"], asked.get("params"))}
        print(json.dumps(answer), flush=True)
'''


def install(state: Path) -> None:
    state.mkdir(parents=True, exist_ok=True)
    (state / "tracker.py").write_text(SERVER)


def exists(path: Path) -> bool:
    return path.exists()


def config(*ask: str) -> AgentConfig:
    tracker = McpServer(
        command="/usr/bin/python3",
        args=("/state/tracker.py",),
        env={"TRACKER_KEY": "its own"},
        allowedTools=("list_*",),
    )
    return AgentConfig(mcp={"tracker": tracker}, tools=Tools(ask=ask))


@pytest.mark.needs("bwrap")
@pytest.mark.skipif(not os.access("/usr/bin/python3", os.X_OK), reason="the server is a program of the box's")
async def test_allowed_tools_run_others_do_not_and_the_key_stays_with_the_cli(
    real: Benches, api: FakeAnthropic
) -> None:
    bench = real.bench(boxed=True, config=config())
    install(bench.state)
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("mcp__tracker__list_things", {}),
        ("mcp__tracker__drop_all", {}),
    )
    api.scenario = {"rules": [tool_turn("work", *calls)]}
    runner = await real.runner(bench)
    assert (await runner.run([message(1, "work")])).done == (1,)
    init = next(frame for frame in frames(bench) if frame.get("subtype") == "init")
    assert {server["name"]: server["status"] for server in init["mcp_servers"]} == {
        "hyperhive": "connected",
        "tracker": "connected",
    }
    assert 'ran list_things {"ANTHROPIC_API_KEY": "", "TRACKER_KEY": "its own"}' in told(api).replace(
        "\\", ""
    )
    assert "ran drop_all" not in told(api)
    assert not exists(bench.state / "dropped")


def test_credentials_are_blanked_unless_the_server_has_its_own() -> None:
    servers = {
        "plain": McpServer(command="x"),
        "own": McpServer(command="x", env={"ANTHROPIC_API_KEY": "another"}),
    }
    told = json.loads(cli_servers(servers))["mcpServers"]
    assert told["plain"]["env"] == dict.fromkeys(CREDENTIALS, "")
    assert told["own"]["env"]["ANTHROPIC_API_KEY"] == "another"


def test_the_hosts_file_is_a_map_of_servers(tmp_path: Path) -> None:
    path = tmp_path / "extra-mcp.json"
    assert read_extra(path) == read_extra(None) == {}
    path.write_text(
        '{"tracker": {"command": "t", "args": ["-v"], "env": {"A": "1"}, "allowedTools": ["list_*"]}}'
    )
    expected = McpServer(command="t", args=("-v",), env={"A": "1"}, allowedTools=("list_*",))
    assert read_extra(path) == {"tracker": expected}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        ('{"t": {}}', "command"),
        ('{"t": {"command": "x", "urll": "y"}}', "urll"),
        ('{"hyperhive": {"command": "x"}}', "is the hive's own server"),
        ('{"a__b": {"command": "x"}}', "single '_'"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "extra-mcp.json"
    path.write_text(text)
    with pytest.raises(BadConfig) as refused:
        read_extra(path)
    assert str(path) in str(refused.value)
    assert word in str(refused.value)


def test_the_hives_own_name_is_refused_in_hive_toml_too() -> None:
    with pytest.raises(BadConfig, match="the hive's own server"):
        parse_hive_file('[agents.alice.mcp.hyperhive]\ncommand = "x"\n')
