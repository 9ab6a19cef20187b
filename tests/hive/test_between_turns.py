"""Mail that a program in an agent's box takes by the tool `recv`: inside a turn it is the turn's, else nobody's."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from hyperhive.client import RemoteHive
from hyperhive.host import Hive
from hyperhive.names import AgentName
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import TurnRows
from mcp_lines import INITIALIZE, Line

ALICE = AgentName("alice")


async def call(hive: Hive, tool: str) -> str:
    """What a program in alice's box is answered by this tool, over the socket that is there."""
    lines: list[dict[str, object]] = [
        {"id": 1, "method": "initialize", "params": INITIALIZE},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": tool, "arguments": {}}},
    ]
    answer: Line = {}
    async with await anyio.connect_unix(hive.paths.tools_socket(ALICE)) as stream:
        replies = BufferedByteReceiveStream(stream)
        with anyio.fail_after(20):
            for line in lines:
                await stream.send(json.dumps({"jsonrpc": "2.0", **line}).encode() + b"\n")
                if "id" in line:
                    answer = json.loads(await replies.receive_until(b"\n", 1 << 20))
    return str(answer["result"]["content"][0]["text"])


def attempts(path: Path) -> dict[str, int]:
    """How often each of the operator's messages was put back."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return dict(db.execute("SELECT body, attempt FROM messages WHERE sender = 'operator'").fetchall())


async def until_turn_state(hive: Hive, state: str) -> None:
    with anyio.fail_after(40):
        async with hive.bus.subscribe() as events:
            while hive.lifecycle.view(ALICE).turn_state != state:
                await anext(events)


async def worked(hive: Hive, operator: RemoteHive, count: int) -> list[str]:
    """What alice's turns came to, oldest first, once there are so many and she has nothing left to do."""
    with anyio.fail_after(40):
        while True:  # no event says that a turn's row is written
            reply = await operator.request(r.Turns(name=ALICE))
            assert isinstance(reply, TurnRows)
            rest = hive.broker.pending_now(ALICE) or hive.broker.in_flight_now(ALICE)
            if len(reply.turns) >= count and not rest:
                return [row.result_kind for row in reversed(reply.turns)]
            await anyio.sleep(0.02)


async def test_what_was_taken_while_no_turn_ran_comes_again_marked(hive: Hive, operator: RemoteHive) -> None:
    """A good turn acks what was part of it, and nothing that a script took before."""
    await hive.lifecycle.spawn(ALICE)
    await until_turn_state(hive, "idle")
    account = hive.accounts.bind(ALICE).state
    account.limit(4_000_000_000)
    await until_turn_state(hive, "waiting")
    await operator.broker.send("operator", ALICE, "[[say two]]")
    assert "[[say two]]" in await call(hive, "recv")
    account.login_landed()
    await operator.broker.send("operator", ALICE, "[[say one]]")
    assert await worked(hive, operator, 2) == ["ok", "ok"]
    assert await anyio.to_thread.run_sync(attempts, hive.paths.state_dir / "hive.sqlite") == {
        "[[say one]]": 0,
        "[[say two]]": 1,
    }


async def test_what_was_taken_inside_a_turn_is_done_with_it(hive: Hive, operator: RemoteHive) -> None:
    await hive.lifecycle.spawn(ALICE)
    await operator.broker.send("operator", ALICE, "[[sleep 3]]")
    await until_turn_state(hive, "thinking")
    await operator.broker.send("operator", ALICE, "[[say two]]")
    assert "[[say two]]" in await call(hive, "recv")
    assert await worked(hive, operator, 1) == ["ok"]


async def test_a_cancelled_turn_takes_nothing_with_it_that_a_script_took_before(
    hive: Hive, operator: RemoteHive
) -> None:
    await hive.lifecycle.spawn(ALICE)
    await until_turn_state(hive, "idle")
    account = hive.accounts.bind(ALICE).state
    account.limit(4_000_000_000)
    await until_turn_state(hive, "waiting")
    await operator.broker.send("operator", ALICE, "[[say two]]")
    assert "[[say two]]" in await call(hive, "recv")
    account.login_landed()
    await operator.broker.send("operator", ALICE, "[[sleep 60]]")
    await until_turn_state(hive, "thinking")
    await operator.request(r.Cancel(name=ALICE))
    assert await worked(hive, operator, 2) == ["cancelled", "ok"]
    assert [letter.body for letter in await hive.broker.dead()] == ["[[sleep 60]]"]
