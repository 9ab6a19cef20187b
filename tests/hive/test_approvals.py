"""Approvals in a whole hive: what agents ask for happens once, nobody decides for the operator, loose ends and news."""

import anyio
import msgspec
import pytest

from hyperhive.client import RemoteHive
from hyperhive.config import HiveFile
from hyperhive.config_code import up_seconds
from hyperhive.errors import Conflict, Forbidden, NotFound
from hyperhive.host import Hive
from hyperhive.names import MANAGER
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import error_from
from hyperhive.protocol.dispatch import CALL_ID
from hyperhive.protocol.events import ApprovalResolved, ApprovalResolvedMail
from hyperhive.protocol.policy import Actor

MANAGERS_TOOLS = Actor(name=MANAGER, role="manager", channel="tools")


async def ask(hive: Hive, request: r.Request, actor: Actor = MANAGERS_TOOLS) -> p.Reply:
    """As a tool call of the manager's."""
    reply = (await hive.dispatcher.dispatch(actor, request)).reply
    if isinstance(reply, p.Err):
        raise error_from(reply.code, reply.message, reply.hint)
    return reply


async def number(hive: Hive, request: r.Request) -> int:
    reply = await ask(hive, request)
    assert isinstance(reply, p.Ok)
    assert reply.id is not None
    return reply.id


async def test_a_turn_that_runs_again_asks_for_nothing_twice(hive: Hive) -> None:
    await hive.lifecycle.stop(MANAGER)  # its mail is taken by hand here
    await hive.broker.send("operator", MANAGER, "we need bob and carol")
    bob, carol = r.RequestSpawn(name="bob"), r.RequestSpawn(name="carol")
    await hive.broker.recv(MANAGER, wait_seconds=0)
    asked = [await number(hive, one) for one in (bob, carol, bob)]
    assert len(set(asked)) == 3, "two equal ones in one turn both happen"
    await hive.broker.requeue_inflight(MANAGER)
    await hive.broker.recv(MANAGER, wait_seconds=0)
    assert [await number(hive, one) for one in (bob, carol, bob)] == asked
    assert [one.id for one in await hive.approvals.pending()] == asked


async def test_a_tool_call_that_is_replayed_gets_its_first_answer(hive: Hive) -> None:
    token = CALL_ID.set("call-1")
    try:
        first = await number(hive, r.RequestSpawn(name="bob"))
        assert await number(hive, r.RequestSpawn(name="bob")) == first
    finally:
        CALL_ID.reset(token)
    assert await number(hive, r.RequestSpawn(name="bob")) != first


async def test_nobody_but_the_operator_decides_or_looks(hive: Hive) -> None:
    asked = await number(hive, r.RequestSpawn(name="bob"))
    await hive.lifecycle.spawn("alice")
    agent = Actor(name=hive.lifecycle.names()[-1], role="agent", channel="tools")
    decisions = (
        r.Approve(id=asked),
        r.Deny(id=asked),
        r.Rollback(name="alice", to=0),
        r.Rebuild(name="alice"),
    )
    for request in (*decisions, r.Show(id=asked), r.Pending(), r.Audit()):
        for actor in (MANAGERS_TOOLS, agent, msgspec.structs.replace(agent, role="harness")):
            with pytest.raises(Forbidden):
                await ask(hive, request, actor)
    for wish in (r.RequestSpawn(name="eve"), r.RequestApplyCommit(agent="alice", commit_ref="0123456")):
        with pytest.raises(Forbidden):
            await ask(hive, wish, agent)
    assert [one.id for one in await hive.approvals.pending()] == [asked]


async def test_the_operator_decides_from_outside_and_the_agent_comes(
    operator: RemoteHive, hive: Hive
) -> None:
    asked = await number(hive, r.RequestSpawn(name="bob"))
    ends = await ask(hive, r.GetLooseEnds())
    assert isinstance(ends, p.LooseEnds)
    assert [(end.id, type(end).__name__) for end in ends.loose_ends] == [(asked, "ApprovalEnd")]
    (waiting,) = await operator.approvals.pending()
    assert (waiting.id, waiting.kind, waiting.requested_by) == (asked, "spawn", MANAGER)
    async with hive.bus.subscribe() as events:
        await operator.approvals.approve(asked)
        with anyio.fail_after(20):
            async for item in events:
                if isinstance(getattr(item, "event", None), ApprovalResolved):
                    break
    assert (await operator.approvals.show(asked)).approval.stage == "deployed"
    assert await operator.lifecycle.list() == [MANAGER, "bob"]
    with pytest.raises(Conflict, match="approved by operator already"):
        await operator.approvals.deny(asked)
    assert [entry.action for entry in await operator.approvals.audit()] == [
        "deployed",
        "approved",
        "requested",
    ]
    with pytest.raises(NotFound):
        await operator.approvals.diff(99)


async def test_who_asked_is_told_how_it_ended(operator: RemoteHive, hive: Hive) -> None:
    await hive.lifecycle.stop(MANAGER)
    asked = await number(hive, r.RequestSpawn(name="bob"))
    denied = await operator.approvals.deny(asked, "not now")
    assert (denied.status, denied.note) == ("denied", "not now")
    (mail,) = await hive.broker.recent(MANAGER)
    event = msgspec.json.decode(mail.body, type=ApprovalResolvedMail)
    assert (event.id, event.agent, event.status, event.note) == (asked, "bob", "denied", "not now")


async def test_a_rebuild_ends_on_what_is_deployed_and_well(operator: RemoteHive, hive: Hive) -> None:
    await operator.lifecycle.spawn("alice")
    await operator.lifecycle.rebuild("alice")
    view = hive.lifecycle.view("alice")
    assert view.running
    assert view.deployed_sha == await hive.config_code.repos.main(hive.lifecycle.names()[-1])
    with pytest.raises(NotFound):
        await operator.lifecycle.rollback("alice", 7)


def test_an_agent_in_a_container_must_be_up_longer_to_count_as_well() -> None:
    assert [up_seconds(HiveFile(), containers=containers) for containers in (False, True)] == [1, 5]
    assert up_seconds(HiveFile(up_seconds=0), containers=True) == 0


async def test_nobody_who_is_stopped_is_said_to_be_well(operator: RemoteHive) -> None:
    await operator.lifecycle.spawn("alice")
    await operator.lifecycle.stop("alice")
    for request, what in ((r.Rebuild(name="alice"), "rebuilt"), (r.Update(name="alice"), "built anew")):
        done = await operator.request(request)
        assert isinstance(done, p.Ok)
        assert done.note == f"alice is {what}; it is stopped: its health is not known"
