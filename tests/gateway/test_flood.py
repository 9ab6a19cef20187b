"""What a hostile program at its agent's door can cost: bounded for itself, nothing for anybody else."""

import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio
import pytest
from anyio.abc import SocketStream

from gateway_world import ALICE, BOB, World, ask, prompt, until
from hyperhive.gateway import connection, door
from hyperhive.gateway.connection import BODY_MAX
from hyperhive.gateway.door import CONNECTIONS_MAX

HEAD = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\n"


async def said(stream: SocketStream, *sent: bytes) -> bytes:
    """Everything that comes back until the connection is closed."""
    for piece in sent:
        await stream.send(piece)
    got = b""
    with anyio.fail_after(30):
        try:
            while True:
                got += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return got


async def test_connections_beyond_the_bound_are_hung_up_on_and_other_agents_notice_nothing(
    world: World,
) -> None:
    streams = [await world.raw() for _ in range(CONNECTIONS_MAX)]
    alices = world.gateway._doors[ALICE]
    await until(lambda: alices.connections == CONNECTIONS_MAX)
    for _ in range(300):
        async with await world.raw() as more:
            assert await said(more) == b""
    assert alices.connections == CONNECTIONS_MAX
    async with world.client(BOB) as other:
        assert (await ask(other)).status_code == 200
    for stream in streams:
        await stream.aclose()
    await until(lambda: alices.connections == 0)
    async with world.client() as again:
        assert (await ask(again)).status_code == 200


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("HEAD_SECONDS", [b"POST /v1/mess"]),
        ("HEAD_SECONDS", [HEAD, b"x-slow: 1\r\n"]),
        ("BODY_SECONDS", [HEAD + b"content-length: 100\r\n\r\n", b"{"]),
        ("BODY_SECONDS", [HEAD + b"transfer-encoding: chunked\r\n\r\n", b"5\r\nab"]),
        ("IDLE_SECONDS", []),
    ],
)
async def test_what_begins_must_go_on(
    name: str, sent: list[bytes], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, name, 0.2)
    async with await world.raw() as stream:
        assert b" 200 " not in await said(stream, *sent)
    assert world.api.requests == []


async def test_a_client_that_takes_nothing_is_given_up_and_its_request_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WRITE_SECONDS", 0.3)
    world.api.scenario = {"default": {"blocks": ["x" * 8_000_000]}}
    body = json.dumps(prompt()).encode()
    async with await world.raw() as stream:
        await stream.send(HEAD + b"content-length: %d\r\n\r\n%s" % (len(body), body))
        (used,) = await world.meter.until_told(1)
        assert not used.complete
        await until(lambda: world.gateway._doors[ALICE].connections == 0)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
        (HEAD + b"content-length: -5\r\n\r\n", 400),
        (HEAD + b"content-length: %d\r\n\r\n" % (BODY_MAX + 1), 413),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD + b"transfer-encoding: gzip\r\n\r\n", 501),
        (b"POST /v1/messages HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}", 400),
        (b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 200_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_no_request_is_answered_once_and_asked_of_nobody(
    sent: bytes, status: int, world: World
) -> None:
    async with await world.raw() as stream:
        reply = await said(stream, sent)
    assert reply.startswith(b"HTTP/1.1 %d " % status), reply[:100]
    assert reply.count(b"HTTP/1.1 ") == 1
    assert world.api.log == []


async def test_a_body_without_end_is_cut_off_at_the_apis_own_limit(world: World) -> None:
    piece = b"100000\r\n" + b"a" * 2**20 + b"\r\n"
    async with await world.raw() as stream:
        await stream.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        got = b""

        async def read() -> None:
            nonlocal got
            got = await said(stream)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            with anyio.fail_after(30):
                try:
                    while not got:
                        await stream.send(piece)
                        await anyio.lowlevel.checkpoint()
                except anyio.BrokenResourceError:
                    pass
    assert got.startswith(b"HTTP/1.1 413 ") or got == b"", "cut off, be it before the answer was read"
    assert world.gateway._doors[ALICE]._held == 0
    assert world.api.log == []


async def test_bodies_under_way_have_a_bound_for_each_agent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperhive.gateway.door.ROOM_BYTES", 1000)
    first = await world.raw()
    await first.send(HEAD + b"content-length: 900\r\n\r\n" + b"a" * 800)
    alices = world.gateway._doors[ALICE]
    await until(lambda: alices._held == 800)
    async with await world.raw() as second:
        assert (await said(second, HEAD + b"content-length: 300\r\n\r\n" + b"a" * 300)).startswith(
            b"HTTP/1.1 503 "
        )
    await first.aclose()
    await until(lambda: alices._held == 0)


async def test_requests_in_a_row_are_answered_in_a_row(world: World) -> None:
    """Also where the next one comes before this one is answered."""
    body = json.dumps(prompt(stream=False)).encode()
    one = HEAD + b"content-length: %d\r\n\r\n%s" % (len(body), body)
    last = one.replace(b"host: a", b"host: a\r\nconnection: close")
    async with await world.raw() as stream:
        reply = await said(stream, one + one + last)
    assert reply.count(b"HTTP/1.1 200 ") == 3
    assert len(world.api.requests) == 3


async def test_however_much_one_agent_asks_at_once_there_is_a_way_to_the_api_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = 260
    monkeypatch.setattr(door, "CONNECTIONS_MAX", many)
    never = {"match": "slow", "delay": 15}
    world.api.scenario = {"rules": [never], "default": {"blocks": ["fast"]}}
    body = json.dumps(prompt("slow")).encode()
    streams = []
    for number in range(1, many + 1):
        streams.append(await world.raw())
        await streams[-1].send(HEAD + b"content-length: %d\r\n\r\n%s" % (len(body), body))
        if number % 4 == 0:  # the stand-in takes few connections at a time
            await until(lambda number=number: len(world.api.requests) == number)  # type: ignore[misc]
    async with world.client(BOB) as other:
        with anyio.fail_after(10):
            assert (await ask(other)).status_code == 200
    for stream in streams:
        await stream.aclose()


async def test_a_host_that_is_out_of_files_for_a_moment_loses_no_door_and_no_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(door, "ACCEPT_AGAIN_SECONDS", 0.01)
    hello = b"GET /api/hello HTTP/1.1\r\nhost: a\r\n\r\n"
    async with await world.raw() as before:
        await before.send(hello)
        assert b" 200 " in await before.receive()
        with socket.socket(socket.AF_UNIX) as client, no_free_files():
            client.connect(str(world.socket()))
            await until(lambda: "cannot_accept agent=alice" in caplog.text)
            await before.send(hello)
            assert b" 200 " in await before.receive()
    async with world.client() as after:
        assert (await ask(after)).status_code == 200


@contextmanager
def no_free_files() -> Iterator[None]:
    """This process can open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for one in taken:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
