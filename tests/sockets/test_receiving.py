"""Claims about replies that hand something over: a peer that goes away takes nothing with it."""

import contextlib
import socket
from pathlib import Path

import anyio
import pytest

from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Answer
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.types import REQUEST_LINE_MAX_BYTES
from hyperhive.sockets import Limits
from peer import peer
from small_hive import small_hive


async def test_a_recv_waits_and_is_answered_the_moment_a_message_is_there(root: Path) -> None:
    async with small_hive(root) as hive, peer(hive.harness_socket("bob")) as bob:
        await bob.say({"cmd": "recv", "wait_seconds": 100})
        await hive.receiving.wait()
        await hive.broker.send("alice", "bob", "hi")
        [message] = (await bob.hear())["messages"]
        assert set(message) == {"id", "from", "body", "at", "redelivered", "urgency", "file_refs"}
        assert (message["from"], message["body"], message["redelivered"]) == ("alice", "hi", False)


@pytest.mark.parametrize("req", [None, 5])
async def test_a_peer_that_hangs_up_while_it_waits_takes_no_message(root: Path, req: int | None) -> None:
    async with small_hive(root) as hive:
        async with peer(hive.harness_socket("bob")) as bob:
            number = {} if req is None else {"req": req}
            await bob.say({"cmd": "recv", "wait_seconds": 100, **number})
            await hive.receiving.wait()
        with anyio.fail_after(5):
            while any(hive.sockets._tasks):
                await anyio.lowlevel.checkpoint()
        await hive.broker.send("alice", "bob", "hi")
        async with peer(hive.harness_socket("bob")) as again:
            [message] = (await again.ask({"cmd": "recv", "wait_seconds": 5}))["messages"]
            assert (message["body"], message["redelivered"]) == ("hi", False)


async def test_a_message_whose_reply_cannot_be_written_goes_back_unmarked(root: Path) -> None:
    async with small_hive(root) as hive:
        async with peer(hive.harness_socket("bob")) as bob:
            await bob.say({"cmd": "recv", "wait_seconds": 100})
            await hive.receiving.wait()
            # The message is committed in the same moment in which the peer goes.
            async with anyio.create_task_group() as group:
                group.start_soon(hive.broker.send, "alice", "bob", "hi")
                bob.socket.shutdown(socket.SHUT_RDWR)
                with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    await bob.hear()
        async with peer(hive.harness_socket("bob")) as again:
            [message] = (await again.ask({"cmd": "recv", "wait_seconds": 5}))["messages"]
            assert (message["body"], message["redelivered"]) == ("hi", False)


class Fate:
    """A handler of `recv` that hands over `size` bytes, and what became of each reply."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.written = 0
        self.undone = 0
        self.settled = anyio.Event()

    async def recv(self, caller: Caller, request: r.Recv) -> Answer:
        del caller, request

        def written() -> None:
            self.written += 1
            self.settled.set()

        def undo() -> None:
            self.undone += 1
            self.settled.set()

        return Answer(reply=a.LogLines(lines=["x" * self.size]), written=written, undo=undo)


async def test_a_reply_counts_as_written_only_when_all_of_it_is_out(root: Path) -> None:
    fate = Fate(1_500_000)
    async with (
        small_hive(root, handlers={r.Recv: fate.recv}) as hive,
        peer(hive.harness_socket("bob")) as bob,
    ):
        await bob.say({"cmd": "recv"})
        await anyio.wait_all_tasks_blocked()
        assert (fate.written, fate.undone) == (0, 0)
        await bob.hear()
        await fate.settled.wait()
        assert (fate.written, fate.undone) == (1, 0)


async def test_a_reply_of_which_the_peer_took_only_a_part_is_undone(root: Path) -> None:
    fate = Fate(1_500_000)
    async with small_hive(root, handlers={r.Recv: fate.recv}) as hive:
        async with peer(hive.harness_socket("bob")) as bob:
            await bob.say({"cmd": "recv"})
            await anyio.wait_all_tasks_blocked()
        await fate.settled.wait()
        assert (fate.written, fate.undone) == (0, 1)


async def test_a_reply_that_comes_after_the_peer_was_refused_is_undone(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with small_hive(root) as hive, peer(hive.harness_socket("bob")) as bob:
        await bob.say({"cmd": "recv", "wait_seconds": 100, "req": 1})
        await hive.receiving.wait()
        await bob.raw(b"x" * (REQUEST_LINE_MAX_BYTES + 2))
        assert (await bob.hear())["code"] == "bad_request"
        await hive.broker.send("alice", "bob", "hi")
        assert await bob.ended()
        async with peer(hive.harness_socket("bob")) as again:
            [message] = (await again.ask({"cmd": "recv", "wait_seconds": 5}))["messages"]
            assert (message["body"], message["redelivered"]) == ("hi", False)
    assert caplog.messages == []


async def test_a_reply_that_waits_for_a_peer_that_is_refused_meanwhile_is_undone(root: Path) -> None:
    fate = Fate(1_500_000)
    async with (
        small_hive(root, handlers={r.Recv: fate.recv}) as hive,
        peer(hive.harness_socket("bob")) as bob,
    ):
        await bob.say({"cmd": "recv", "req": 1}, {"cmd": "recv", "req": 2})
        await anyio.wait_all_tasks_blocked()
        await bob.raw(b"x" * (REQUEST_LINE_MAX_BYTES + 2))
        await anyio.wait_all_tasks_blocked()
        assert [(await bob.hear()).get("req") for _ in range(2)] == [1, None]
        await fate.settled.wait()
        assert await bob.ended()
        assert (fate.written, fate.undone) == (1, 1)


async def test_a_reply_that_is_too_long_to_send_is_undone(root: Path) -> None:
    fate = Fate(2_200_000)
    async with (
        small_hive(root, handlers={r.Recv: fate.recv}) as hive,
        peer(hive.harness_socket("bob")) as bob,
    ):
        assert (await bob.ask({"cmd": "recv"}))["code"] == "limit"
        assert (fate.written, fate.undone) == (0, 1)


async def test_a_peer_that_reads_nothing_for_too_long_is_cut_off(root: Path) -> None:
    fate = Fate(1_500_000)
    async with (
        small_hive(root, handlers={r.Recv: fate.recv}, limits=Limits(stall=0.1)) as hive,
        peer(hive.harness_socket("bob")) as bob,
    ):
        await bob.say({"cmd": "recv"})
        with anyio.fail_after(5):
            await fate.settled.wait()
        assert (fate.written, fate.undone) == (0, 1)
