"""Reminders in a whole hive: from an agent's tool, from the operator, over restarts, and what the fleet shows."""

import json

import anyio
import pytest

from hive_mail import mail_from
from hyperhive.bus import Missed
from hyperhive.client import RemoteHive, connect
from hyperhive.config import HiveConfig
from hyperhive.errors import Forbidden, NotFound
from hyperhive.host import Hive
from hyperhive.names import AgentName
from hyperhive.protocol import requests as r
from hyperhive.protocol.events import ContainerStateChanged, Sent
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.replies import Err, ReminderQueued, TurnRows

ALICE = AgentName("alice")
AS_ALICE = Actor(name=ALICE, role="agent", channel="tools")


REPORT = '[[call send {"to": "operator", "body": "reminded"}]]'
"""A reminder's text is worked like any other message's."""


async def test_an_agents_reminder_wakes_it_for_a_turn(operator: RemoteHive) -> None:
    await operator.lifecycle.spawn("alice")
    call = json.dumps({"message": REPORT, "delay_seconds": 1})
    with anyio.fail_after(20):
        await operator.broker.send("operator", "alice", f"[[call remind {call}]]")
        assert (await mail_from(operator, "alice")).body == "reminded"


async def test_a_reminder_outlives_the_hive_and_a_stopped_agents_waits(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    """Pain: timers that lived in a process were gone after its restart (23)."""
    async with Hive.open(config=config, environ=environ) as hive:
        await hive.lifecycle.spawn("alice")
        await hive.lifecycle.stop("alice")
        await hive.broker.reminders.set("operator", REPORT, due_at=1, to="alice")
        await hive.broker.reminders.set("operator", "later", delay_seconds=3600, to="alice")
    async with Hive.open(config=config, environ=environ) as hive:
        assert hive.lifecycle.view(ALICE).pending_reminders == 1
        assert hive.lifecycle.view(ALICE).unread == 1
        async with connect(run_dir=hive.paths.run_dir) as operator:
            with anyio.fail_after(20):
                await operator.lifecycle.start("alice")
                assert (await mail_from(operator, "alice")).body == "reminded"


async def test_the_operator_sets_one_for_an_agent_and_no_agent_for_another(
    operator: RemoteHive, hive: Hive
) -> None:
    await operator.lifecycle.spawn("alice")
    with anyio.fail_after(10):
        async with hive.bus.subscribe() as events:
            reply = await operator.request(r.Remind(message="x", delay_seconds=3600, to="alice"))
            assert isinstance(reply, ReminderQueued)
            async for frame in events:  # its fleet row says so
                event = None if isinstance(frame, Missed) else frame.event
                if isinstance(event, ContainerStateChanged) and event.container.pending_reminders == 1:
                    break
    with pytest.raises(NotFound):
        await operator.request(r.Remind(message="x", delay_seconds=1, to="nobody"))
    refused = await hive.dispatcher.dispatch(AS_ALICE, r.Remind(message="x", delay_seconds=1, to="manager"))
    assert isinstance(refused.reply, Err)
    assert refused.reply.code == Forbidden.code


async def test_destroying_keeps_reminders_and_purging_takes_them(operator: RemoteHive, hive: Hive) -> None:
    await operator.lifecycle.spawn("alice")
    await hive.broker.reminders.set("alice", "x", delay_seconds=3600)
    await operator.lifecycle.destroy("alice")
    assert hive.broker.reminders.pending_now("alice") == 1
    await operator.request(r.Restore(name="alice"))
    await operator.lifecycle.destroy("alice", purge=True)
    assert hive.broker.reminders.pending_now("alice") == 0


async def test_a_file_of_a_reminder_is_where_the_agent_sees_it(operator: RemoteHive, hive: Hive) -> None:
    await operator.lifecycle.spawn("alice")
    await operator.lifecycle.stop("alice")
    with anyio.fail_after(10):
        async with hive.bus.subscribe() as events:
            await hive.broker.reminders.set("alice", "the plan", delay_seconds=0, file_path="notes/plan.md")
            async for frame in events:
                if not isinstance(frame, Missed) and isinstance(frame.event, Sent):
                    break
    rows = await hive.broker.recent("alice")
    file = hive.paths.agent_state(ALICE) / "notes" / "plan.md"
    assert await anyio.Path(file).read_text() == "the plan"
    assert f"in the file {file}]" in rows[0].body


async def test_a_running_hives_reminders_are_set_listed_and_cancelled_from_outside(
    operator: RemoteHive, hive: Hive
) -> None:
    await operator.lifecycle.spawn("alice")
    number = await operator.broker.reminders.set("operator", "x", delay_seconds=3600, to="alice")
    mine = await operator.broker.reminders.set("operator", "y", delay_seconds=3600)
    assert {end.id for end in await operator.broker.reminders.loose_ends()} == {number, mine}
    assert [end.message for end in await operator.broker.reminders.loose_ends("alice")] == ["x"]
    with pytest.raises(Forbidden):
        await operator.broker.reminders.set("alice", "x", delay_seconds=1)
    await operator.broker.reminders.cancel(number)
    with pytest.raises(NotFound):
        await operator.broker.reminders.cancel(number)
    assert hive.broker.reminders.pending_now("alice") == 0


async def test_a_turns_statistics_count_the_reminders_that_are_open(operator: RemoteHive) -> None:
    await operator.lifecycle.spawn("alice")
    call = json.dumps({"message": "later", "delay_seconds": 3600})
    with anyio.fail_after(20):
        await operator.broker.send("operator", "alice", f"[[call remind {call}]]{REPORT}")
        await mail_from(operator, "alice")
        await operator.lifecycle.stop("alice")  # when its turn has ended
        rows = await operator.request(r.Turns(name="alice"))
        assert isinstance(rows, TurnRows)
    assert [row.open_reminders_count for row in rows.turns] == [1]
