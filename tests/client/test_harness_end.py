"""Claims about a harness in a process of its own: how it asks the core, and its line."""

import contextlib
import sqlite3
from pathlib import Path

import anyio
import pytest

from hyperhive.client.attached import AttachedHarness
from hyperhive.client.core import SocketCore
from hyperhive.errors import Closed, Conflict, Forbidden, HiveError
from hyperhive.mcp.remote import RemoteToolServer
from hyperhive.names import AgentName
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.line import HarnessLine
from mcp_lines import Lines
from small_hive import small_hive

HELLO = r.Hello(protocol=1, hyperhive_rev="abc", cli_version="2.1.328")


async def test_a_harness_receives_and_acks(root: Path) -> None:
    async with small_hive(root) as hive:
        core = SocketCore(hive.harness_socket("bob"), HELLO)
        sent = await hive.broker.send("alice", "bob", "hi")
        reply = await core.ask(r.Recv(wait_seconds=5))
        assert isinstance(reply, a.Messages)
        assert [message.id for message in reply.messages] == [sent.id]
        assert await core.ask(r.AckTurn(ids=[sent.id])) == a.Ok(count=1)
        await core.aclose()


async def test_an_error_of_the_core_is_raised(root: Path) -> None:
    async with small_hive(root) as hive:
        core = SocketCore(hive.harness_socket("bob"), HELLO)
        with pytest.raises(Forbidden):
            await core.ask(r.List())
        await core.aclose()


async def test_a_recv_waits_through_a_restart_of_the_core(root: Path) -> None:
    core = SocketCore(root / "run" / "harness" / "bob" / "harness.sock", HELLO)
    got: list[a.Reply] = []

    async def receive() -> None:
        got.append(await core.ask(r.Recv(wait_seconds=100)))

    async with anyio.create_task_group() as group:
        group.start_soon(receive)  # there is no core yet
        async with small_hive(root) as hive:
            await hive.receiving.wait()
        async with small_hive(root) as hive:
            await hive.receiving.wait()
            await hive.broker.send("alice", "bob", "hi")
            while not got:
                await anyio.lowlevel.checkpoint()
    [reply] = got
    assert isinstance(reply, a.Messages)
    assert [(message.body, message.redelivered) for message in reply.messages] == [("hi", False)]
    await core.aclose()


async def test_a_recv_that_is_given_up_takes_no_message(root: Path) -> None:
    async with small_hive(root) as hive:
        core = SocketCore(hive.harness_socket("bob"), HELLO)
        async with anyio.create_task_group() as group:
            group.start_soon(core.ask, r.Recv(wait_seconds=100))
            await hive.receiving.wait()
            group.cancel_scope.cancel()
        await hive.broker.send("alice", "bob", "hi")
        reply = await core.ask(r.Recv(wait_seconds=5))
        assert isinstance(reply, a.Messages)
        assert [message.body for message in reply.messages] == ["hi"]
        await core.aclose()


async def test_what_the_core_handed_out_and_the_harness_never_saw_comes_again(root: Path) -> None:
    async with small_hive(root) as hive:
        core = SocketCore(hive.harness_socket("bob"), HELLO)
        for body in ("seen", "lost"):
            await hive.broker.send("alice", "bob", body)
        first = await core.ask(r.Recv())
        assert isinstance(first, a.Messages)
        await hive.broker.recv("bob")  # as if its reply had been on the way
    async with small_hive(root) as hive:
        again = await core.ask(r.Recv(wait_seconds=5))
        assert isinstance(again, a.Messages)
        assert [(message.body, message.redelivered) for message in again.messages] == [("lost", True)]
        held = [message.id for reply in (first, again) for message in reply.messages]
        assert hive.broker.in_flight_now("bob") == held
        await core.ask(r.AckTurn(ids=held))
        assert hive.broker.in_flight_now("bob") == []
        await core.aclose()


async def test_what_a_tool_call_took_is_acked_with_its_turn_though_the_core_restarted(root: Path) -> None:
    async with small_hive(root) as hive:
        core = SocketCore(hive.harness_socket("bob"), HELLO)
        await core.ask(r.Status())
        await hive.broker.send("alice", "bob", "by tool")
        [taken] = await hive.broker.recv("bob")
        core.took([taken.id])
    async with small_hive(root) as hive:
        await core.ask(r.AckTurn(ids=[], taken=True))
        assert hive.broker.in_flight_now("bob") == []
        assert await hive.broker.pending("bob") == 0
        await core.aclose()


async def test_what_a_harness_was_given_is_on_disk_as_given_before_it_has_it(root: Path) -> None:
    core = SocketCore(root / "run" / "harness" / "bob" / "harness.sock", HELLO)
    async with small_hive(root) as hive:
        sent = await hive.broker.send("alice", "bob", "hi")
        await core.ask(r.Recv(wait_seconds=5))
        await hive.broker.store.abandon()  # as in a kill
    await core.aclose()
    async with small_hive(root) as hive:
        assert hive.broker.in_flight_now("bob") == [sent.id]


async def test_what_a_harness_holds_is_not_handed_out_again_though_the_disk_lost_the_mark(root: Path) -> None:
    core = SocketCore(root / "run" / "harness" / "bob" / "harness.sock", HELLO)
    async with small_hive(root) as hive:
        sent = await hive.broker.send("alice", "bob", "hi")
        await core.ask(r.Recv(wait_seconds=5))
    with contextlib.closing(sqlite3.connect(root / "hive.sqlite")) as database:
        database.execute("UPDATE messages SET delivered_at = NULL")
        database.commit()
    async with small_hive(root) as hive:
        assert await core.ask(r.Recv(wait_seconds=0)) == a.Messages(messages=[])
        assert hive.broker.in_flight_now("bob") == [sent.id]
        assert await core.ask(r.AckTurn(ids=[sent.id])) == a.Ok(count=1)
        await core.aclose()


async def test_what_another_client_of_the_box_took_inside_a_good_turn_is_acked_with_it(root: Path) -> None:
    async with small_hive(root) as hive:
        core = SocketCore(hive.harness_socket("bob"), HELLO)
        box = await RemoteToolServer(hive.tools_socket("bob")).open_session()  # it tells the harness nothing
        woke = await hive.broker.send("alice", "bob", "the turn's")
        await core.ask(r.Recv(wait_seconds=5))
        await hive.broker.send("alice", "bob", "for a script")
        hive.receiving.clear()
        script = await Lines(box).introduce()
        assert "for a script" in await script.text("recv", wait_seconds=5)
        hive.receiving.clear()
        async with anyio.create_task_group() as group:  # the turn ends: the watch for urgent mail is given up
            group.start_soon(core.ask, r.Recv(wait_seconds=100, min_urgency="soon"))
            await hive.receiving.wait()
            group.cancel_scope.cancel()
        assert await core.ask(r.AckTurn(ids=[woke.id], taken=True)) == a.Ok(count=2)
        assert await hive.broker.pending("bob") == 0
        assert hive.broker.in_flight_now("bob") == []
        await box.aclose()
        await core.aclose()


async def test_a_message_that_is_being_received_while_the_harness_reports_is_not_handed_out_twice(
    root: Path,
) -> None:
    async with small_hive(root) as hive:
        core = SocketCore(hive.harness_socket("bob"), HELLO)
        got: list[a.Reply] = []

        async def receive() -> None:
            got.append(await core.ask(r.Recv(wait_seconds=100)))

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await hive.receiving.wait()
            core._doubt()  # as if the other connection had been lost
            hive.receiving.clear()
            await core.ask(r.Status())
            await hive.receiving.wait()
            await hive.broker.send("alice", "bob", "hi")
        [reply] = got
        assert isinstance(reply, a.Messages)
        assert [(message.body, message.redelivered) for message in reply.messages] == [("hi", False)]
        assert await hive.broker.pending("bob") == 0
        await core.aclose()


async def test_a_harness_that_hung_up_asks_no_more(root: Path) -> None:
    core = SocketCore(root / "nowhere.sock", HELLO)
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            with pytest.raises(Closed):
                await core.ask(r.Status())

        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await core.aclose()


class Commands:
    """Answers what comes down the line."""

    def __init__(self) -> None:
        self.heard: list[line.HarnessCommand] = []

    async def answer(self, command: line.HarnessCommand) -> a.Reply:
        self.heard.append(command)
        match command:
            case line.LineModel(model=model):
                return a.Ok(note=model)
            case line.LineCompact():
                raise Conflict("a turn runs", hint="wait for it")
            case _:
                await anyio.sleep_forever()
        raise AssertionError


async def test_commands_go_down_and_replies_and_events_come_up(root: Path) -> None:
    commands = Commands()
    async with small_hive(root) as hive, anyio.create_task_group() as group:
        harness = AttachedHarness(hive.harness_socket("bob"), commands.answer)
        group.start_soon(harness.run)
        await hive.lines.until("attached")
        attached = hive.sockets.line(hive_name("bob"))
        assert attached is not None
        assert await attached.ask(line.LineModel(req=0, model="opus")) == a.Ok(note="opus")
        with pytest.raises(Conflict) as caught:
            await attached.ask(line.LineCompact(req=0))
        assert caught.value.hint == "wait for it"
        harness.publish(b'{"kind":"note","text":"hello"}')
        harness.publish(b'{"kind":"stream","req":1,"type":"result"}')
        await hive.lines.until("event", 2)
        assert [text for kind, text in hive.lines.heard if kind == "event"] == [
            '{"kind":"note","text":"hello"}',
            '{"kind":"stream","req":1,"type":"result"}',
        ]
        group.cancel_scope.cancel()


async def test_a_command_that_is_under_way_when_the_harness_goes_ends_with_an_error(root: Path) -> None:
    commands = Commands()
    life = anyio.CancelScope()

    async def live() -> None:
        with life:
            await AttachedHarness(hive.harness_socket("bob"), commands.answer).run()

    async def ask(attached: HarnessLine) -> None:
        with pytest.raises(Closed):
            await attached.ask(line.Snapshot(req=0))

    async with small_hive(root) as hive, anyio.create_task_group() as group:
        group.start_soon(live)
        await hive.lines.until("attached")
        attached = hive.sockets.line(hive_name("bob"))
        assert attached is not None
        group.start_soon(ask, attached)
        while not commands.heard:
            await anyio.lowlevel.checkpoint()
        life.cancel()
        await hive.lines.until("detached")
        assert hive.sockets.line(hive_name("bob")) is None


async def test_a_newer_harness_ends_the_older_one(root: Path) -> None:
    commands = Commands()
    async with small_hive(root) as hive, anyio.create_task_group() as group:
        older = AttachedHarness(hive.harness_socket("bob"), commands.answer)
        newer = AttachedHarness(hive.harness_socket("bob"), commands.answer)
        ended: list[HiveError] = []

        async def run_older() -> None:
            try:
                await older.run()
            except HiveError as error:
                ended.append(error)

        group.start_soon(run_older)
        await hive.lines.until("attached")
        group.start_soon(newer.run)
        await hive.lines.until("attached", 2)
        while not ended:
            await anyio.lowlevel.checkpoint()
        assert ended[0].wire_code == "superseded"
        assert [kind for kind, _ in hive.lines.heard] == ["attached", "detached", "attached"]
        while not newer.attached:
            await anyio.lowlevel.checkpoint()
        older.publish(b'{"kind":"note","text":"from the grave"}')
        newer.publish(b'{"kind":"note","text":"alive"}')
        await hive.lines.until("event")
        assert "alive" in hive.lines.heard[-1][1]
        group.cancel_scope.cancel()


async def test_the_line_is_dialled_again_when_the_core_comes_back(root: Path) -> None:
    commands = Commands()
    async with anyio.create_task_group() as group:
        times: list[int] = []

        def how_things_stand() -> None:
            times.append(1)
            harness.publish(b'{"kind":"model_changed","model":"opus"}')

        async with small_hive(root) as hive:
            harness = AttachedHarness(
                hive.harness_socket("bob"), commands.answer, on_attached=how_things_stand
            )
            group.start_soon(harness.run)
            await hive.lines.until("event")
        harness.publish(b'{"kind":"note","text":"nobody hears"}')
        async with small_hive(root) as hive:
            await hive.lines.until("event")
            assert "opus" in hive.lines.heard[-1][1]
            harness.publish(b'{"kind":"note","text":"again"}')
            await hive.lines.until("event", 2)
        assert len(times) == 2
        group.cancel_scope.cancel()


def hive_name(text: str) -> AgentName:
    return AgentName(text)
