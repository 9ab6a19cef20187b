"""Why did it fail? From the list of failed turns to the last tool call, the notes, and the log of that minute."""

import logging

import anyio
import pytest

from hyperhive.client import RemoteHive
from hyperhive.host import Hive
from hyperhive.logs import configured
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r


async def turns(operator: RemoteHive, request: r.Turns) -> p.TurnRows:
    reply = await operator.request(request)
    assert isinstance(reply, p.TurnRows)
    return reply


async def logs(operator: RemoteHive, request: r.Logs) -> list[str]:
    reply = await operator.request(request)
    assert isinstance(reply, p.LogLines)
    return reply.lines


@pytest.mark.may_block("the test sets logging up itself")
async def test_a_failed_turn_tells_its_last_tool_call_and_what_was_said_at_its_end(
    hive: Hive, operator: RemoteHive
) -> None:
    with configured(directory=hive.paths.log):
        await hive.lifecycle.spawn("alice")
        await operator.broker.send("operator", "alice", "[[say fine]]")
        await operator.broker.send("operator", "alice", "[[call whoami {}]][[exit 3]]")
        with anyio.fail_after(40):
            while not (found := (await turns(operator, r.Turns(name="alice", failed=True))).turns):
                await hive.bus.next_published()
        logging.getLogger("hyperhive.lifecycle").warning(
            "agent_crashed agent=%s reason=%s", "alice", "scripted"
        )
        logging.getLogger("hyperhive.lifecycle").warning(
            "agent_crashed agent=%s reason=%s", "bob", "scripted"
        )
    [row] = [row for row in found if row.turn == found[-1].turn]
    assert row.result_kind == "crashed"
    assert row.last_tool is not None
    assert row.last_tool.startswith("mcp__hyperhive__whoami {")
    assert row.error
    assert row.stderr
    [alone] = (await turns(operator, r.Turns(name="alice", turn=row.turn))).turns
    assert (alone.last_tool, alone.error) == (row.last_tool, row.error)
    listed = await turns(operator, r.Turns(name="alice", since=row.ended_at, until=row.ended_at + 1))
    assert row.turn in [one.turn for one in listed.turns]
    assert {one.last_tool for one in listed.turns} == {None}, "a look at the events is only for who asks"

    minute = r.Logs(name="alice", since=row.started_at - 30, until=row.ended_at + 30)
    lines = await logs(operator, minute)
    assert any(f"turn {row.turn} failed" in line for line in lines)
    [logged] = [line for line in lines if "agent_crashed" in line]
    assert "alice" in logged, "what the core's own log says of this agent in that time, and of no other"
    assert not await logs(operator, r.Logs(name="alice", since=1, until=2))
    assert not await logs(operator, r.Logs(since=1, until=2))
    assert await logs(operator, r.Logs(since=row.started_at - 30))
