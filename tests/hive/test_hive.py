"""The whole hive in this process: it comes up and goes down in order, and its parts work on each other."""

import asyncio
from pathlib import Path

import anyio
import pytest

from hive_mail import mail_from
from hyperhive.client import RemoteHive, connect
from hyperhive.config import HiveConfig
from hyperhive.errors import BadConfig, Conflict, Forbidden, NotAvailable, NotFound, StoreLocked
from hyperhive.host import Hive
from hyperhive.names import MANAGER
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import Accounts, EventPage, HiveStatus, Identity, LogLines, Ok, TurnRows


async def test_an_agent_works_its_mail_and_answers_through_the_tools(operator: RemoteHive) -> None:
    await operator.lifecycle.spawn("alice")
    with anyio.fail_after(20):
        await operator.broker.send("operator", "alice", '[[call send {"to": "operator", "body": "done: 7"}]]')
        answer = await mail_from(operator, "alice")
    assert answer.body == "done: 7"


async def test_every_agent_comes_back_at_the_next_start_but_whom_the_operator_stopped(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    async with Hive.open(config=config, environ=environ) as hive:
        await hive.lifecycle.spawn("alice")
        await hive.lifecycle.spawn("bob")
        await hive.lifecycle.stop("bob")
    async with Hive.open(config=config, environ=environ) as hive:
        views = {str(name): hive.lifecycle.view(name) for name in hive.lifecycle.names()}
        assert {name: view.running for name, view in views.items()} == {
            "manager": True,
            "alice": True,
            "bob": False,
        }
        assert views["bob"].held_by_operator


async def test_it_opens_in_one_task_and_closes_in_another(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    async def cell_1() -> Hive:
        return await Hive.open(config=config, environ=environ)

    hive = await asyncio.create_task(cell_1())
    await hive.lifecycle.spawn("alice")
    await asyncio.create_task(hive.aclose())
    await hive.aclose()


async def test_a_second_hive_on_the_same_state_is_refused_and_disturbs_nothing(
    hive: Hive, config: HiveConfig, environ: dict[str, str]
) -> None:
    with pytest.raises(StoreLocked):
        await Hive.open(config=config, environ=environ)
    await hive.lifecycle.spawn("alice")
    assert (await hive.broker.send("operator", "alice", "hi")).id > 0


async def test_mail_to_nobody_is_refused_and_mail_to_a_stopped_agent_waits(hive: Hive) -> None:
    with pytest.raises(NotFound):
        await hive.broker.send("operator", "nobody", "hi")
    await hive.lifecycle.spawn("alice")
    await hive.lifecycle.stop("alice")
    await hive.broker.send("operator", "alice", "hi")
    assert await hive.broker.pending("alice") == 1


async def test_purge_turns_the_waiting_mail_into_dead_letters(hive: Hive) -> None:
    await hive.lifecycle.spawn("alice")
    await hive.lifecycle.stop("alice")
    sent = await hive.broker.send("operator", "alice", "hi")
    await hive.lifecycle.destroy("alice", purge=True)
    assert [letter.id for letter in await hive.broker.dead()] == [sent.id]
    assert not hive.paths.agent_state(hive.lifecycle.names()[0]).parent.parent.joinpath("alice").exists()


async def test_the_manager_is_told_what_became_of_an_agent(hive: Hive) -> None:
    await hive.lifecycle.stop(MANAGER)  # so that its mail stays to be looked at
    await hive.lifecycle.spawn("alice")
    await hive.lifecycle.stop("alice")
    rows = await hive.broker.recent(MANAGER)
    assert [row.body for row in rows][:2] == [
        '{"event":"killed","agent":"alice"}',
        '{"event":"spawned","agent":"alice","ok":true}',
    ]
    assert all(row.sender == "system" for row in rows)


async def test_news_of_the_manager_goes_to_the_operator(hive: Hive) -> None:
    await hive.lifecycle.stop(MANAGER)
    assert [row.body for row in await hive.broker.inbox()] == ['{"event":"killed","agent":"manager"}']


async def test_the_operators_requests_are_answered(operator: RemoteHive, home: Path) -> None:
    await operator.lifecycle.spawn("alice")
    status = await operator.request(r.Status())
    assert isinstance(status, HiveStatus)
    assert [agent.view.name for agent in status.agents] == ["manager", "alice"]
    assert status.hive.state_dir == str(home / "state")
    one = await operator.request(r.Status(name="alice"))
    assert isinstance(one, HiveStatus)
    assert (one.agents[0].view.model, one.agents[0].view.isolation) == ("sonnet", "none")
    assert any("key" in warning for warning in one.agents[0].warnings)
    who = await operator.request(r.Whoami())
    assert isinstance(who, Identity)
    assert (who.name, who.role) == ("operator", "operator")
    with pytest.raises(NotAvailable):
        await operator.request(r.MetaUpdate(inputs=[]))
    with pytest.raises(Forbidden):
        await operator.request(r.Recv())


async def test_status_warns_where_an_agent_can_read_what_its_mcp_servers_are_given(
    operator: RemoteHive, hive: Hive, home: Path
) -> None:
    await operator.lifecycle.spawn("alice")
    mcp = '[agents.alice.mcp.tracker]\ncommand = "tracker"\nenv = {TOKEN = "canary"}\n'
    plain = '[agents.alice.mcp.clock]\ncommand = "clock"\n'
    await anyio.Path(home / "hive.toml").write_text(mcp + plain)
    assert "next process" in await hive.reload()
    one = await operator.request(r.Status(name="alice"))
    assert isinstance(one, HiveStatus)
    [warning] = [warning for warning in one.agents[0].warnings if "MCP" in warning]
    assert "(tracker)" in warning
    assert "canary" not in warning


async def test_turns_events_and_logs_of_an_agent_can_be_read(operator: RemoteHive) -> None:
    await operator.lifecycle.spawn("alice")
    with anyio.fail_after(20):
        async with operator.events("alice") as frames:
            await operator.broker.send("operator", "alice", "[[say good morning]]")
            async for frame in frames:
                if frame["kind"] == "turn_end":
                    break
        while not (turns := await operator.request(r.Turns(name="alice"))).turns:  # type: ignore[attr-defined]
            await anyio.lowlevel.checkpoint()
    assert isinstance(turns, TurnRows)
    assert (turns.turns[0].wake_from, turns.turns[0].result_kind) == ("operator", "ok")
    page = await operator.request(r.Events(name="alice"))
    assert isinstance(page, EventPage)
    kinds = [event["kind"] for event in page.events]
    assert kinds[0] == "turn_state_changed"
    assert {"turn_start", "stream", "turn_end"} <= set(kinds)
    assert all(isinstance(event["ts"], int) for event in page.events)
    log = await operator.request(r.Logs(name="alice"))
    assert isinstance(log, LogLines)
    assert any("ended well" in line for line in log.lines)
    status = await operator.request(r.Status(name="alice"))
    assert isinstance(status, HiveStatus)
    assert (status.agents[0].warm, bool(status.agents[0].session)) == (True, True)


async def test_the_model_of_an_agent_can_be_changed_and_is_remembered(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    async with (
        Hive.open(config=config, environ=environ) as hive,
        connect(run_dir=hive.paths.run_dir) as operator,
    ):
        await operator.lifecycle.spawn("bob")
        await operator.request(r.Model(name="bob", model="opus"))
        assert hive.lifecycle.view("bob").model == "opus"
    async with Hive.open(config=config, environ=environ) as hive:
        with anyio.fail_after(5):
            async with hive.bus.subscribe():
                while hive.lifecycle.view("bob").model != "opus":
                    await anyio.lowlevel.checkpoint()


async def test_an_action_on_a_stopped_agents_turns_says_what_to_do(operator: RemoteHive) -> None:
    await operator.lifecycle.spawn("alice")
    await operator.lifecycle.stop("alice")
    with pytest.raises(Conflict, match="hyperhive start alice"):
        await operator.request(r.Compact(name="alice"))


async def test_accounts_are_set_listed_and_removed_and_never_shown(operator: RemoteHive) -> None:
    listed = await operator.request(r.Account(key="sk-ant-canary-1234"))
    assert isinstance(listed, Accounts)
    assert [(account.name, account.kind) for account in listed.accounts] == [
        ("default", "key"),
        ("env", "env"),
    ]
    assert "canary" not in repr(listed)
    after = await operator.request(r.Account(remove=True))
    assert isinstance(after, Accounts)
    assert [account.name for account in after.accounts] == ["env"]


async def test_an_invalid_configuration_leaves_the_old_one_in_force(
    operator: RemoteHive, hive: Hive, home: Path
) -> None:
    (home / "hive.toml").write_text("idle_seconds = -1\n")
    with pytest.raises(BadConfig):
        await operator.request(r.Reload())
    assert hive.config.file.idle_seconds == 60
    (home / "hive.toml").write_text('[agents.alice]\nmodel = "opus"\n')
    assert isinstance(await operator.request(r.Reload()), Ok)
    await operator.lifecycle.spawn("alice")
    assert hive.lifecycle.view("alice").model == "opus"


async def test_drain_waits_for_the_running_turn_and_its_message_is_acked(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    async with (
        Hive.open(config=config, environ=environ) as hive,
        connect(run_dir=hive.paths.run_dir) as operator,
    ):
        await hive.lifecycle.spawn("alice")
        with anyio.fail_after(20):
            async with operator.events("alice") as frames:
                sent = await hive.broker.send("operator", "alice", "[[sleep 0.3]][[say done]]")
                async for frame in frames:
                    if frame["kind"] == "turn_start":
                        break
            await hive.drain()
        assert await hive.broker.pending("alice") == 0
        assert hive.broker.in_flight_now("alice") == []
        assert sent.id not in [letter.id for letter in await hive.broker.dead()]


async def test_an_agent_that_is_stopped_at_once_gives_its_message_back_marked(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    async with (
        Hive.open(config=config, environ=environ) as hive,
        connect(run_dir=hive.paths.run_dir) as operator,
    ):
        await hive.lifecycle.spawn("alice")
        with anyio.fail_after(20):
            async with operator.events("alice") as frames:
                await hive.broker.send("operator", "alice", "[[sleep 30]]")
                async for frame in frames:
                    if frame["kind"] == "turn_start":
                        break
        await hive.lifecycle.stop("alice", now=True)
        waiting = await hive.broker.recv("alice", wait_seconds=0)
        assert [(message.body, message.redelivered) for message in waiting] == [("[[sleep 30]]", True)]
