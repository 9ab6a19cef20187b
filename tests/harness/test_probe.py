"""The probe: whether the CLI would come up with its tools as the config stands, without a turn and without a model."""

import sys
from pathlib import Path

import anyio
import pytest

from hyperhive.clock import SYSTEM_CLOCK
from hyperhive.config import AgentConfig, McpServer
from hyperhive.errors import HiveError
from hyperhive.harness.probe import Probe, judge
from hyperhive.harness.runner import fresh_uuid
from hyperhive.testing.fake_anthropic import FakeAnthropic
from hyperhive.testing.turns import TurnBench
from turn_tools import Benches

SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "small", "version": "1"}}
    elif message.get("method") == "tools/list":
        result = {"tools": []}
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


async def probe(benches: Benches, bench: TurnBench) -> None:
    runner = await benches.runner(bench)
    with anyio.fail_after(50):
        await Probe(
            runner._launcher, bench.tools, runner._driver, SYSTEM_CLOCK, fresh_uuid, lambda: bench.config.mcp
        ).run()


def good(tmp_path: Path) -> AgentConfig:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    return AgentConfig(mcp={"small": McpServer(command=sys.executable, args=("-S", str(script)))})


async def test_a_cli_that_comes_up_with_its_tools_is_well(
    real: Benches, tmp_path: Path, api: FakeAnthropic
) -> None:
    await probe(real, real.bench())
    await probe(real, real.bench(config=good(tmp_path)))
    assert api.requests == [], "no model was asked"


@pytest.mark.needs("claude")
async def test_a_server_that_cannot_be_started_is_named(newest: Benches) -> None:
    config = AgentConfig(mcp={"tracker": McpServer(command="/nowhere/tracker")})
    with pytest.raises(HiveError, match="tracker is failed"):
        await probe(newest, newest.bench(config=config))


@pytest.mark.needs("claude")
async def test_a_cli_without_a_login_is_well_all_the_same(newest: Benches) -> None:
    await probe(newest, newest.bench(account={}))


@pytest.mark.needs("claude")
async def test_a_cli_that_ends_at_once_is_not_well(newest: Benches) -> None:
    newest.with_flags("--no-such-flag")
    with pytest.raises(HiveError, match="ended before it was ready"):
        await probe(newest, newest.bench())


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (b'{"mcpServers": [{"name": "hyperhive", "status": "connected"}]}', "well", ""),
        (b'{"mcpServers": [{"name": "hyperhive", "status": "pending"}]}', "pending", ""),
        (b'{"mcpServers": [{"name": "other", "status": "connected"}]}', "pending", ""),
        (b'{"mcpServers": []}', "pending", ""),
        (b'{"mcpServers": [{"name": "x", "status": "failed", "error": "no"}]}', "unwell", "x is failed (no)"),
        (b"nonsense", "unwell", "does not say"),
        (b"\xff", "unwell", "does not say"),
        (b'{"mcpServers": 7}', "unwell", "does not say"),
    ],
)
def test_what_an_answer_means(answer: bytes, state: str, words: str) -> None:
    found, said = judge(answer, ["hyperhive"])
    assert found == state
    assert words in said
