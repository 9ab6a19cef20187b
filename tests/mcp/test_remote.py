"""Claims about the tools of a harness in a process of its own."""

import json
from pathlib import Path

import anyio
import pytest

from hyperhive.client.core import SocketCore
from hyperhive.errors import Closed
from hyperhive.mcp.remote import RemoteToolServer
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import CALL_ID
from hyperhive.protocol.policy import Caller
from mcp_lines import Lines
from small_hive import small_hive


async def test_a_harness_gets_its_agents_tools_over_its_own_socket(root: Path) -> None:
    async with small_hive(root) as hive:
        session = await RemoteToolServer(hive.harness_socket("alice")).open_session()
        alice = await Lines(session).introduce()
        assert await alice.text("send", to="bob", body="hi") == "sent as message 1\n\ninbox: 0 unread"
        assert (await hive.broker.recent("bob"))[0].sender == "alice"
        await session.aclose()


async def test_a_call_waits_for_a_core_that_is_not_there_yet(root: Path) -> None:
    session = await RemoteToolServer(root / "run" / "harness" / "alice" / "harness.sock").open_session()
    got: list[str] = []

    async def talk() -> None:
        alice = await Lines(session).introduce()
        got.append(await alice.text("whoami"))

    async with anyio.create_task_group() as group:
        group.start_soon(talk)
        await anyio.wait_all_tasks_blocked()
        async with small_hive(root):
            while not got:
                await anyio.lowlevel.checkpoint()
    await session.aclose()


async def test_two_clients_that_count_alike_both_get_their_answers(root: Path) -> None:
    """CLI 2.1.200 connects a second time where the first connection takes long; both count from 0."""
    session = await RemoteToolServer(root / "run" / "harness" / "alice" / "harness.sock").open_session()
    got: list[str] = []

    async def talk() -> None:
        alice = await Lines(session).introduce()
        got.append(await alice.text("whoami"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(talk)
            group.start_soon(talk)
            await anyio.wait_all_tasks_blocked()
            async with small_hive(root):
                while len(got) < 2:
                    await anyio.lowlevel.checkpoint()
    assert "alice" in got[0]
    assert got[0] == got[1]
    await session.aclose()


async def test_who_waits_behind_a_client_that_counts_alike_hears_of_the_end(root: Path) -> None:
    session = await RemoteToolServer(root / "run" / "harness" / "alice" / "harness.sock").open_session()
    ended: list[type[Exception]] = []

    async def talk() -> None:
        try:
            await Lines(session).introduce()
        except Closed as error:
            ended.append(type(error))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(talk)
            group.start_soon(talk)
            await anyio.wait_all_tasks_blocked()
            await session.aclose()
    assert ended == [Closed, Closed]


async def test_a_restart_of_the_core_in_the_middle_of_a_send_is_not_noticed_and_it_happens_once(
    root: Path,
) -> None:
    committed = anyio.Event()
    got: list[str] = []

    async def send(caller: Caller, request: r.Send) -> a.Reply:
        await hive.broker.send(caller.name, request.to, request.body, call_id=CALL_ID.get())
        committed.set()
        await anyio.sleep_forever()
        return a.Ok()

    async with small_hive(root, handlers={r.Send: send}) as hive:
        session = await RemoteToolServer(hive.harness_socket("alice")).open_session()
        alice = await Lines(session).introduce()
        async with anyio.create_task_group() as group:

            async def call() -> None:
                got.append(await alice.text("send", to="bob", body="once"))

            group.start_soon(call)
            await committed.wait()
            await hive.kill()
            async with small_hive(root) as again:
                while not got:
                    await anyio.lowlevel.checkpoint()
                assert "message 1" in got[0]
                assert await again.broker.pending("bob") == 1
    await session.aclose()


async def test_a_cancelled_recv_takes_nothing_and_the_session_lives_on(root: Path) -> None:
    async with small_hive(root) as hive:
        session = await RemoteToolServer(hive.harness_socket("alice")).open_session()
        alice = await Lines(session).introduce()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: alice.call("recv", wait_seconds=100))
            await hive.receiving.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            while hive.tools._calls._tasks:
                await anyio.lowlevel.checkpoint()
        await hive.broker.send("bob", "alice", "hi")
        assert await alice.text("recv", wait_seconds=5) == "from: bob\n\nhi\n\ninbox: 0 unread"
        await session.aclose()


async def test_a_call_that_the_cli_cancels_is_not_answered(root: Path) -> None:
    async with small_hive(root) as hive:
        session = await RemoteToolServer(hive.harness_socket("alice")).open_session()
        alice = await Lines(session).introduce()
        async with anyio.create_task_group() as group:

            async def call() -> None:
                message = {"name": "recv", "arguments": {"wait_seconds": 100}}
                line = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": message}
                assert await session.handle(json.dumps(line).encode()) is None

            group.start_soon(call)
            await hive.receiving.wait()
            await alice.note("notifications/cancelled", {"requestId": 9})
        await session.aclose()


async def test_messages_that_a_tool_took_are_acked_with_the_turn_though_the_core_restarted_in_between(
    root: Path,
) -> None:
    hello = r.Hello(protocol=1, hyperhive_rev="abc", cli_version="2.1.328")
    async with small_hive(root) as hive:
        core = SocketCore(hive.harness_socket("alice"), hello)
        session = await RemoteToolServer(hive.harness_socket("alice"), on_took=core.took).open_session()
        alice = await Lines(session).introduce()
        for body in ("wakes", "taken"):
            await hive.broker.send("bob", "alice", body)
        woke = await core.ask(r.Recv(wait_seconds=5))
        assert isinstance(woke, a.Messages)
        assert "taken" in await alice.text("recv", wait_seconds=5)
    async with small_hive(root) as hive:
        assert (await alice.text("whoami")).startswith("name: alice")
        await core.ask(r.AckTurn(ids=[message.id for message in woke.messages], taken=True))
        assert hive.broker.in_flight_now("alice") == []
        assert await hive.broker.pending("alice") == 0
        await core.aclose()
        await session.aclose()


async def test_a_result_as_long_as_a_result_can_be_arrives(root: Path) -> None:
    async with small_hive(root) as hive:
        session = await RemoteToolServer(hive.harness_socket("alice")).open_session()
        alice = await Lines(session).introduce()
        for _ in range(8):
            await hive.broker.send("bob", "alice", "---\nfrom: \n" * 23_000)
        assert (await alice.text("recv", max=8)).startswith("popped 7 message(s)")
        await session.aclose()


async def test_a_session_that_was_closed_answers_no_more(root: Path) -> None:
    session = await RemoteToolServer(root / "nowhere.sock").open_session()
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            with pytest.raises(Closed):
                await Lines(session).ask("ping")

        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await session.aclose()
    with pytest.raises(Closed):
        await Lines(session).ask("ping")


async def test_what_is_no_message_is_answered_at_once(root: Path) -> None:
    session = await RemoteToolServer(root / "nowhere.sock").open_session()
    reply = await session.handle(b"rubbish")
    assert reply is not None
    assert json.loads(reply)["error"]["code"] == -32600
    long = await Lines(session).ask("ping", {"x": "y" * 1_100_000})
    assert long["error"]["code"] == -32600
    await session.aclose()
