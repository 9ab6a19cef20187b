"""Claims about a harness in a process of its own: how it asks the core, and its line."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import anyio
import msgspec
import pytest

from hyperhive.client.attached import AttachedHarness
from hyperhive.client.core import SocketCore
from hyperhive.errors import Closed, Conflict, Forbidden, HiveError, LimitReached
from hyperhive.mcp.remote import RemoteToolServer
from hyperhive.names import AgentName
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.events import Stream
from hyperhive.protocol.line import HarnessLine
from hyperhive.protocol.live import encode_live
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.types import REQUEST_LINE_MAX_BYTES
from mcp_lines import Lines
from small_hive import SmallHive, small_hive

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


async def test_a_blame_whose_reply_was_lost_with_the_core_counts_once(root: Path) -> None:
    counted = anyio.Event()

    async def requeue(caller: Caller, request: r.RequeueInflight) -> a.Reply:
        await hive.broker.requeue_inflight(
            caller.name, request.ids, blame=request.blame, call_id=request.call_id
        )
        counted.set()
        await anyio.sleep_forever()
        raise AssertionError

    core = SocketCore(root / "run" / "harness" / "bob" / "harness.sock", HELLO)
    async with anyio.create_task_group() as group:
        async with small_hive(root, handlers={r.RequeueInflight: requeue}) as hive:
            sent = await hive.broker.send("alice", "bob", "hi")
            await core.ask(r.Recv(wait_seconds=5))
            group.start_soon(core.ask, r.RequeueInflight(ids=[sent.id], blame="stuck"))
            await counted.wait()
        async with small_hive(root) as hive:
            while not hive.broker.pending_now("bob") or await attempts(hive) != 2:
                await anyio.lowlevel.checkpoint()
            with contextlib.closing(sqlite3.connect(root / "hive.sqlite")) as database:
                assert database.execute("SELECT tries, attempt FROM messages").fetchall() == [(1, 2)]
            await core.aclose()


async def attempts(hive: SmallHive) -> int:
    """How often the first message was requeued."""
    return await hive.broker.store.read(
        lambda db: int(db.execute("SELECT attempt FROM messages").fetchone()[0])
    )


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
            await hive.lines.until("event", 2)
            assert "lagged" in hive.lines.heard[-2][1]
            assert "opus" in hive.lines.heard[-1][1]
            harness.publish(b'{"kind":"note","text":"again"}')
            await hive.lines.until("event", 3)
        assert len(times) == 2
        group.cancel_scope.cancel()


async def until_attached(harness: AttachedHarness) -> None:
    while not harness.attached:
        await anyio.lowlevel.checkpoint()


async def test_an_event_too_long_for_the_line_goes_up_as_a_note_and_the_line_lives(root: Path) -> None:
    async with small_hive(root) as hive, anyio.create_task_group() as group:
        harness = AttachedHarness(hive.harness_socket("bob"), Commands().answer)
        group.start_soon(harness.run)
        await until_attached(harness)
        image = msgspec.json.encode({"type": "user", "x": "y" * REQUEST_LINE_MAX_BYTES})
        harness.publish(encode_live(Stream(line=image), eid=5, turn=2))
        harness.publish(b'{"kind":"note","text":"after"}')
        await hive.lines.until("event", 2)
        [note, after] = [msgspec.json.decode(text) for kind, text in hive.lines.heard if kind == "event"]
        assert (note["kind"], note["eid"], note["turn"]) == ("note", 5, 2)
        assert "bytes" in note["text"]
        assert after["text"] == "after"
        assert [kind for kind, _ in hive.lines.heard] == ["attached", "event", "event"]
        group.cancel_scope.cancel()


async def test_a_page_of_history_too_long_for_the_line_keeps_its_newest_rows(root: Path) -> None:
    rows = [{"kind": "note", "eid": number, "text": "x" * 6000} for number in range(1, 201)]
    rows[-1]["text"] = "x" * REQUEST_LINE_MAX_BYTES

    async def answer(command: line.HarnessCommand) -> a.Reply:
        return (
            a.EventPage(seq=1, events=rows)
            if isinstance(command, line.History)
            else a.LogLines(lines=["y" * 2**20])
        )

    async with small_hive(root) as hive, anyio.create_task_group() as group:
        harness = AttachedHarness(hive.harness_socket("bob"), answer)
        group.start_soon(harness.run)
        await until_attached(harness)
        attached = hive.sockets.line(hive_name("bob"))
        assert attached is not None
        page = await attached.ask(line.History(req=0))
        assert isinstance(page, a.EventPage)
        assert 150 < len(page.events) < 200
        assert [row["eid"] for row in page.events] == list(range(201 - len(page.events), 201))
        assert "bytes" in page.events[-1]["text"], "the one that is too long by itself is said to be"
        with pytest.raises(LimitReached):
            await attached.ask(line.LineStats(req=0))
        group.cancel_scope.cancel()


async def test_a_core_that_sends_the_line_away_for_now_is_dialled_again(root: Path) -> None:
    answers = [
        b'{"kind":"err","message":"too many connections","code":"limit"}',
        b"rubbish",
        b'{"kind":"ok"}',
    ]

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answers.pop(0) + b"\n")
        if answers:
            writer.close()
        else:
            await reader.read()
            writer.close()

    server = await asyncio.start_unix_server(welcome, root / "core.sock")
    async with server, anyio.create_task_group() as group:
        harness = AttachedHarness(root / "core.sock", Commands().answer)
        group.start_soon(harness.run)
        with anyio.fail_after(10):
            await until_attached(harness)
        group.cancel_scope.cancel()


async def test_what_nobody_took_is_counted_and_told_to_the_next_who_does(root: Path) -> None:
    async with anyio.create_task_group() as group:
        harness = AttachedHarness(root / "run" / "harness" / "bob" / "harness.sock", Commands().answer)
        for number in range(3):
            harness.publish(b'{"kind":"note","text":"%d"}' % number)
        async with small_hive(root) as hive:
            group.start_soon(harness.run)
            await until_attached(harness)
            harness.publish(b'{"kind":"note","text":"heard"}')
            await hive.lines.until("event", 2)
            lagged, heard = [text for kind, text in hive.lines.heard if kind == "event"]
            assert msgspec.json.decode(lagged) == {"kind": "lagged", "missed": 3}
            assert "heard" in heard
            group.cancel_scope.cancel()


def hive_name(text: str) -> AgentName:
    return AgentName(text)
