"""Claims about tool calls: made once however often they are asked for, given back when nobody gets the result."""

import asyncio
from pathlib import Path

import anyio
import pytest

from hyperhive.errors import Closed
from hyperhive.mcp import calls as calls_module
from hyperhive.mcp.calls import Calls
from hyperhive.mcp.session import CALL_ID_MAX
from mcp_lines import Lines, text_of
from small_hive import SmallHive, agent, small_hive


async def session(hive: SmallHive, name: str = "alice") -> Lines:
    return await Lines(await hive.tools.tool_server(agent(name)).open_session()).introduce()


async def test_a_call_that_is_asked_for_again_is_made_once(root: Path) -> None:
    async with small_hive(root) as hive:
        alice = await session(hive)
        first = await alice.call("send", call="c1", to="bob", body="hi")
        again = await (await session(hive)).call("send", call="c1", to="bob", body="hi")
        assert text_of(first) == text_of(again)
        assert await hive.broker.pending("bob") == 1


async def test_two_equal_calls_with_ids_of_their_own_both_happen(root: Path) -> None:
    async with small_hive(root) as hive:
        alice = await session(hive)
        await alice.call("send", call="c1", to="bob", body="hi")
        await alice.call("send", call="c2", to="bob", body="hi")
        await alice.call("send", to="bob", body="hi")
        assert await hive.broker.pending("bob") == 3


async def test_anothers_call_id_means_nothing(root: Path) -> None:
    async with small_hive(root) as hive:
        await (await session(hive)).call("send", call="c1", to="bob", body="hi")
        await (await session(hive, "bob")).call("send", call="c1", to="alice", body="ho")
        assert await hive.broker.pending("alice") == 1


async def test_a_call_id_that_is_no_id_for_its_length_counts_as_none(root: Path) -> None:
    """S4: ids are kept for a day, and cost their caller nothing."""
    async with small_hive(root) as hive:
        alice = await session(hive)
        for _ in range(2):
            await alice.call("send", call="c" * (CALL_ID_MAX + 1), to="bob", body="hi")
            await alice.call("send", call="c" * CALL_ID_MAX, to="bob", body="ho")
        assert await hive.broker.pending("bob") == 3


async def test_a_call_that_was_made_before_the_core_restarted_is_not_made_again(root: Path) -> None:
    async with small_hive(root) as hive:
        await (await session(hive)).call("send", call="c1", to="bob", body="hi")
    async with small_hive(root) as hive:
        result = await (await session(hive)).call("send", call="c1", to="bob", body="hi")
        assert "message 1" in text_of(result)
        assert await hive.broker.pending("bob") == 1


async def test_messages_that_a_call_took_are_in_the_replays_result_too(root: Path) -> None:
    async with small_hive(root) as hive:
        await hive.broker.send("bob", "alice", "hi")
        first = await (await session(hive)).call("recv", call="c1", wait_seconds=0)
        again = await (await session(hive)).call("recv", call="c1", wait_seconds=0)
        assert text_of(first) == text_of(again) == "from: bob\n\nhi\n\ninbox: 0 unread"
        assert hive.broker.in_flight_now("alice") == [1]


async def test_a_cancelled_recv_takes_nothing(root: Path) -> None:
    async with small_hive(root) as hive:
        alice = await session(hive)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: alice.call("recv", wait_seconds=100))
            await hive.receiving.wait()
            group.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        await hive.broker.send("bob", "alice", "hi")
        assert await hive.broker.pending("alice") == 1
        assert await alice.text("recv", wait_seconds=0) == "from: bob\n\nhi\n\ninbox: 0 unread"


async def test_a_recv_that_the_client_cancels_is_not_answered_and_takes_nothing(root: Path) -> None:
    async with small_hive(root) as hive:
        alice = await session(hive)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    with pytest.raises(AssertionError, match="not answered"):
                        await alice.call("recv", number=77, wait_seconds=100)

                group.start_soon(call)
                await hive.receiving.wait()
                await alice.note("notifications/cancelled", {"requestId": 77, "reason": "changed my mind"})
        await anyio.wait_all_tasks_blocked()
        await hive.broker.send("bob", "alice", "hi")
        assert await hive.broker.pending("alice") == 1


async def test_a_result_that_nobody_could_be_given_goes_back_unmarked(root: Path) -> None:
    async with small_hive(root) as hive:
        tools = await hive.tools.open_for(agent("alice"))
        await Lines(tools).introduce()
        await hive.broker.send("bob", "alice", "hi")

        async def gone(line: bytes) -> None:
            raise Closed(line.decode())

        call = b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"recv","_meta":{"hyperhive/call":"c"}}}'
        with pytest.raises(Closed):
            await tools.serve(call, gone)
        assert await hive.broker.pending("alice") == 1
        again = await Lines(tools).call("recv", call="c")
        assert text_of(again) == "from: bob\n\nhi\n\ninbox: 0 unread", "not marked, and the id is free again"


async def test_of_two_who_ask_for_one_call_it_is_enough_that_one_gets_the_result(root: Path) -> None:
    async with small_hive(root) as hive:
        tools = Calls(hive.dispatcher)
        async with anyio.create_task_group() as group:
            got = []

            async def ask() -> None:
                got.append(await tools.make(agent("alice"), "recv", {"wait_seconds": 100}, "c1"))

            group.start_soon(ask)
            group.start_soon(ask)
            await hive.receiving.wait()
            await hive.broker.send("bob", "alice", "hi")
        assert [handed.result.text for handed in got] == ["from: bob\n\nhi\n\ninbox: 0 unread"] * 2
        got[0].undo()
        assert await hive.broker.pending("alice") == 0
        got[1].written()
        assert hive.broker.in_flight_now("alice") == [1]
        await tools.aclose()


async def test_if_none_of_them_gets_it_the_message_goes_back_once(root: Path) -> None:
    async with small_hive(root) as hive:
        await hive.broker.send("bob", "alice", "hi")
        tools = Calls(hive.dispatcher)
        got = [await tools.make(agent("alice"), "recv", {"wait_seconds": 0}, "c1") for _ in range(2)]
        for handed in got:
            handed.undo()
        assert await hive.broker.pending("alice") == 1
        await tools.aclose()


async def test_a_send_whose_asker_goes_is_carried_out_and_its_result_kept(root: Path) -> None:
    async with small_hive(root) as hive:
        tools = Calls(hive.dispatcher)
        task = asyncio.create_task(tools.make(agent("alice"), "send", {"to": "bob", "body": "hi"}, "c1"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        handed = await tools.make(agent("alice"), "send", {"to": "bob", "body": "hi"}, "c1")
        handed.written()
        assert "message 1" in handed.result.text
        assert await hive.broker.pending("bob") == 1
        await tools.aclose()


async def test_results_are_kept_within_bounds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "KEPT_CALLS", 3)
    async with small_hive(root) as hive:
        tools = Calls(hive.dispatcher)
        for number in range(10):
            (await tools.make(agent("alice"), "whoami", {}, f"c{number}")).written()
        assert len(tools._kept) == 3
        assert not tools._open
        await tools.aclose()


async def test_a_session_that_ends_takes_its_waiting_calls_with_it(root: Path) -> None:
    async with small_hive(root) as hive:
        alice = await session(hive)
        async with anyio.create_task_group() as group:

            async def call() -> None:
                with pytest.raises(Closed):
                    await alice.call("recv", wait_seconds=100)

            group.start_soon(call)
            await hive.receiving.wait()
            await alice.session.aclose()
        with pytest.raises(Closed):
            await alice.call("whoami")
        await anyio.wait_all_tasks_blocked()
        await hive.broker.send("bob", "alice", "hi")
        assert await hive.broker.pending("alice") == 1


@pytest.mark.parametrize(
    "line", [b"rubbish", b"", b"[]", b"7", b'{"jsonrpc":"1.0","id":1}', b"[" * 50_000, b"\xff"]
)
async def test_what_is_no_message_is_answered_and_the_session_lives_on(root: Path, line: bytes) -> None:
    async with small_hive(root) as hive:
        alice = await session(hive)
        reply = await alice.session.handle(line)
        assert reply is not None
        assert b'"error"' in reply
        assert (await alice.text("whoami")).startswith("name: alice")


@pytest.mark.parametrize("number", [[], {"a": 1}, None, 1.5, True, 10**400])
async def test_a_cancellation_of_what_cannot_be_an_id_cancels_nothing(root: Path, number: object) -> None:
    async with small_hive(root) as hive:
        alice = await session(hive)
        await alice.note("notifications/cancelled", {"requestId": number})
        await alice.note("notifications/cancelled", {})
        assert (await alice.text("whoami")).startswith("name: alice")


async def test_an_id_that_is_under_way_cannot_be_used_twice(root: Path) -> None:
    async with small_hive(root) as hive:
        alice = await session(hive)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: alice.call("recv", number=5, wait_seconds=100))
            await hive.receiving.wait()
            refused = await alice.ask("tools/list", number=5)
            assert "under way" in refused["error"]["message"]
            group.cancel_scope.cancel()
