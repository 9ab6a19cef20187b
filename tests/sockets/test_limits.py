"""Claims about peers that flood, stall or never finish (security: S3)."""

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.policy import Caller
from hyperhive.sockets import Limits
from peer import Peer, peer
from small_hive import small_hive


async def test_a_line_that_was_begun_must_end_in_time(root: Path) -> None:
    async with (
        small_hive(root, limits=Limits(frame=0.05)) as hive,
        peer(hive.tools_socket("alice")) as alice,
        peer(hive.tools_socket("alice")) as idle,
    ):
        await alice.raw(b'{"cmd":"sta')
        refused = await alice.hear()
        assert refused["code"] == "timed_out"
        assert await alice.ended()
        assert (await idle.ask({"cmd": "status"}))["kind"] == "status", "who says nothing is not late"


async def test_bytes_that_drip_do_not_put_the_moment_off(root: Path) -> None:
    async with (
        small_hive(root, limits=Limits(frame=0.1, linger=0.1)) as hive,
        peer(hive.tools_socket("alice")) as alice,
    ):
        with anyio.fail_after(5), pytest.raises(anyio.BrokenResourceError):
            await drip(alice)


async def drip(one: Peer) -> None:
    while True:
        await one.raw(b" ")
        await anyio.lowlevel.checkpoint()


async def test_a_peer_too_many_is_refused_and_the_others_are_served(root: Path) -> None:
    async with small_hive(root) as hive:
        async with AsyncExitStack() as stack:
            for _ in range(8):
                one = await stack.enter_async_context(peer(hive.tools_socket("alice")))
                assert (await one.ask({"cmd": "status"}))["kind"] == "status"
            async with peer(hive.tools_socket("alice")) as ninth:
                assert (await ninth.hear())["code"] == "limit"
                assert await ninth.ended()
            async with peer(hive.tools_socket("bob")) as other, peer(hive.host) as operator:
                assert (await other.ask({"cmd": "status"}))["kind"] == "status"
                assert (await operator.ask({"cmd": "list"}))["ok"]
        async with peer(hive.tools_socket("alice")) as again:
            assert (await again.ask({"cmd": "status"}))["kind"] == "status"


class Gate:
    """A handler that waits, and counts who waits with it."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.open = anyio.Event()

    async def whoami(self, caller: Caller, request: r.Whoami) -> a.Reply:
        del caller, request
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.open.wait()
        self.inside -= 1
        return a.Ok()


async def test_no_more_than_so_many_requests_of_one_peer_run_at_once_and_none_is_lost(root: Path) -> None:
    gate = Gate()
    async with (
        small_hive(root, handlers={r.Whoami: gate.whoami}) as hive,
        peer(hive.host) as operator,
    ):
        await operator.say(*({"cmd": "whoami", "req": number} for number in range(200)))
        await anyio.wait_all_tasks_blocked()
        assert gate.inside == 32
        gate.open.set()
        heard = {(await operator.hear())["req"] for _ in range(200)}
        assert heard == set(range(200))
        assert gate.most == 32


async def test_of_one_kind_of_request_an_agents_connection_runs_one_at_a_time_and_others_beside_it(
    root: Path,
) -> None:
    gate = Gate()
    async with (
        small_hive(root, handlers={r.Whoami: gate.whoami}) as hive,
        peer(hive.tools_socket("alice")) as alice,
    ):
        await alice.say(*({"cmd": "whoami", "req": number} for number in range(5)))
        assert (await alice.ask({"cmd": "status", "req": "s"}))["req"] == "s"
        assert gate.inside == 1
        gate.open.set()
        assert {(await alice.hear())["req"] for _ in range(5)} == set(range(5))
        assert gate.most == 1


async def test_replies_that_nobody_reads_are_made_one_at_a_time(root: Path) -> None:
    asked = 0

    async def recent(caller: Caller, request: r.Recent) -> a.Reply:
        nonlocal asked
        del caller, request
        asked += 1
        return a.LogLines(lines=["z" * 1_000_000])

    async with (
        small_hive(root, handlers={r.Recent: recent}) as hive,
        peer(hive.tools_socket("alice")) as alice,
    ):
        await alice.say(*({"cmd": "recent", "req": number} for number in range(30)))
        await anyio.wait_all_tasks_blocked()
        assert asked == 2, "one fills the line, and one waits"
        for _ in range(30):
            await alice.hear()
        assert asked == 30


async def test_reading_stops_where_a_peer_asks_more_than_it_may_and_goes_on_later(root: Path) -> None:
    gate = Gate()
    limits = Limits(in_flight=2, backlog_lines=4)
    async with (
        small_hive(root, handlers={r.Whoami: gate.whoami}, limits=limits) as hive,
        peer(hive.tools_socket("alice")) as alice,
    ):
        padding = "x" * 60_000
        async with anyio.create_task_group() as group:
            lines = ({"cmd": "whoami", "req": padding + str(number)} for number in range(100))
            group.start_soon(alice.say, *lines)
            await anyio.wait_all_tasks_blocked()
            [connection] = hive.sockets._listening[hive.tools_socket("alice")].peers
            assert not connection._reading
            assert len(connection._backlog) <= 4 + 256 * 1024 // 60_000 + 1
            gate.open.set()
            for _ in range(100):
                await alice.hear()


async def test_the_operator_is_served_while_every_agent_holds_half_a_line_on_every_connection(
    root: Path,
) -> None:
    agents = tuple(f"a{number}" for number in range(20))
    async with small_hive(root, agents=agents) as hive, AsyncExitStack() as stack:
        for name in agents:
            for _ in range(8):
                one = await stack.enter_async_context(peer(hive.tools_socket(name)))
                await one.raw(b'{"cmd":')
        async with peer(hive.host) as operator:
            with anyio.fail_after(5):
                for _ in range(20):
                    assert (await operator.ask({"cmd": "list"}))["ok"]


async def test_a_request_that_is_flooded_with_is_still_refused_one_by_one(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.tools_socket("alice")) as alice:

        async def shout(one: Peer) -> None:
            await one.raw(b"rubbish\n" * 5000)

        async with anyio.create_task_group() as group:
            group.start_soon(shout, alice)
            for _ in range(5000):
                assert (await alice.hear())["code"] == "bad_request"


async def test_peers_that_come_and_go_leave_nothing_behind(root: Path) -> None:
    async with small_hive(root) as hive:
        for number in range(300):
            async with peer(hive.tools_socket("alice")) as one:
                if number % 3 == 0:
                    await one.say({"cmd": "status"})
                elif number % 3 == 1:
                    await one.say({"jsonrpc": "2.0", "id": 1, "method": "ping"})
                    await one.hear()
        listener = hive.sockets._listening[hive.tools_socket("alice")]
        with anyio.fail_after(10):
            while listener.peers or hive.sockets._tasks or hive.tools._sessions:
                await anyio.lowlevel.checkpoint()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.binary(max_size=40).filter(lambda line: b"\n" not in line and b"jsonrpc" not in line), max_size=8
    )
)
def test_whatever_lines_come_each_is_answered_and_the_next_peer_is_served(lines: list[bytes]) -> None:
    async def talk() -> None:
        with tempfile.TemporaryDirectory(prefix="hh-") as root:
            alices = Path(root) / "run" / "agents" / "alice" / "mcp.sock"
            async with small_hive(Path(root), agents=("alice",)), peer(alices) as one:
                await one.raw(b"".join(line + b"\n" for line in lines))
                for _ in lines:
                    assert (await one.hear())["kind"] == "err"
                assert (await one.ask({"cmd": "status"}))["kind"] == "status"

    anyio.run(talk)
