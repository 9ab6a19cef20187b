"""Streams over real sockets: readers that vanish, stop, or never read cost nobody else anything."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import httpx
import pytest

from hyperhive.bus import Bus
from hyperhive.web.streaming import Hub
from stream_world import Core, Page, events_in, served

READER = Path(__file__).parents[1] / "support" / "stream_reader.py"


@pytest.fixture
def core() -> Core:
    return Core("hive", "alice")


@pytest.fixture
def hub(core: Core) -> Hub:
    return core.hub()


@pytest.fixture
async def port(hub: Hub) -> AsyncIterator[int]:
    with anyio.fail_after(50):
        async with served(hub) as port:
            yield port


class Reader:
    """A page on a real connection."""

    def __init__(self, core: Core, port: int, *names: str) -> None:
        self.page = Page(core, *names)
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)

    async def read(self, enough: Callable[[], object]) -> None:
        """Reads on one connection until there is enough; then hangs up in the middle of whatever comes."""
        headers = {} if self.page.last_id is None else {"Last-Event-ID": self.page.last_id}
        params = {"streams": self.page.wanted}
        async with self.client.stream("GET", "/stream", params=params, headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            rest = b""
            async for data in response.aiter_bytes():
                whole, mark, rest = (rest + data).rpartition(b"\n\n")
                for number, event in events_in(whole + mark):
                    self.page.take(number, event)
                if enough():
                    return

    def level(self) -> bool:
        return all(
            self.page.seqs.get(name, 0) >= bus.current_seq for name, bus in self.page.core.buses.items()
            if name in self.page.wanted
        )  # fmt: skip


@pytest.mark.parametrize(
    "drops", [30, pytest.param(1_000, marks=[pytest.mark.campaign, pytest.mark.timeout(600)])]
)
async def test_reconnects_over_real_sockets_lose_nothing_and_double_nothing(core: Core, drops: int) -> None:
    with anyio.fail_after(drops):
        async with served(core.hub()) as port:
            reader = Reader(core, port, "hive", "alice")
            await reader.read(lambda: reader.page.stream_id)
            for count in range(drops):
                core.publish("hive", count, "a")
                core.publish("alice", count % 3, "b")
                await reader.read((lambda: True) if count % 2 else reader.level)
            await reader.read(reader.level)
            assert reader.page.gaps == 0
            whole = list(range(1, drops + 1))
            assert reader.page.applied == {"hive": whole, "alice": whole}
            assert reader.page.state == core.state
            await reader.client.aclose()


async def test_a_client_that_never_reads_costs_nobody_anything(core: Core, hub: Hub, port: int) -> None:
    core.buses["hive"] = Bus(keep=10_000, buffer=10_000)
    reader = Reader(core, port, "hive")
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.setblocking(False)  # noqa: FBT003
    await asyncio.get_running_loop().sock_connect(stuck, ("127.0.0.1", port))
    await asyncio.get_running_loop().sock_sendall(
        stuck, b"GET /stream?streams=hive HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    async with anyio.create_task_group() as group:
        group.start_soon(reader.read, lambda: reader.level() and core.buses["hive"].current_seq == 4000)
        await reader.page.until(lambda: reader.page.stream_id)
        while hub.statistics()["connected"] < 2:
            await anyio.lowlevel.checkpoint()
        for batch in range(40):
            for number in range(100):
                core.publish("hive", number, f"{batch} " + "x" * 4000)
            await reader.page.until(reader.level)
    assert reader.page.gaps == 0
    assert reader.page.state["hive"] == core.state["hive"]
    late = [one for one in hub._streams.values() if one.id != reader.page.stream_id]
    assert [one.connection.writing_since is not None for one in late if one.connection] == [True]
    assert sum(len(frame) for _, frame in late[0].ring) <= 4 * 2**20
    stuck.close()
    await reader.client.aclose()


async def test_a_stopped_client_goes_on_where_it_can_and_is_told_what_it_missed(
    core: Core, port: int
) -> None:
    core.buses["hive"] = Bus(keep=10_000, buffer=10_000)
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(READER), str(port), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        assert (await child.stdout.readline()).strip() == b"resume"
        child.send_signal(signal.SIGSTOP)
        for batch in range(60):
            for number in range(100):
                core.publish("hive", number, f"{batch} " + "x" * 4000)
            await anyio.lowlevel.checkpoint()
        child.send_signal(signal.SIGCONT)
        seen: list[bytes] = []
        while not seen or seen[-1] != b"6000":
            seen.append((await child.stdout.readline()).strip())
        numbers = [int(one) for one in seen if one.isdigit()]
        assert seen.count(b"lagged") >= 1
        assert numbers == sorted(set(numbers))
        assert len(numbers) < 6000
    finally:
        child.kill()
        await child.wait()


async def test_a_core_that_ends_ends_its_streams_cleanly_and_the_next_one_says_gap(core: Core) -> None:
    with anyio.fail_after(40):
        async with served(core.hub()) as port:
            reader = Reader(core, port, "hive")
            await reader.read(lambda: reader.page.stream_id)
            async with anyio.create_task_group() as group:
                group.start_soon(reader.read, lambda: False)
                core.publish("hive", 1, "one")
                await reader.page.until(reader.level)
                core.publish("hive", 2, "two")
                group.cancel_scope.cancel()
        await reader.client.aclose()
        async with served(core.hub()) as port:
            again = Reader(core, port, "hive")
            again.page = reader.page
            await again.read(lambda: again.page.gaps)
            await again.client.aclose()
    assert again.page.state["hive"] == core.state["hive"]


async def test_what_cannot_be_is_one_clear_error(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for path in ("/agents/carol/events/stream", "/agents/Not%20a%20name/events/stream"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        answer = await client.get("/dashboard/stream", headers={"Last-Event-ID": "e1:x"})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        answer = await client.get("/stream", headers={"Last-Event-ID": "x" * 200})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        for body in (b"[]", b'{"add":"hive"}', b'{"colour":"red"}', b"{"):
            answer = await client.post("/stream/nobody/subscriptions", content=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        answer = await client.post("/stream/nobody/subscriptions", json={"add": ["hive"]})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
