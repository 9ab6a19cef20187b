"""Whoever opens connections and leaves them half done takes nothing from the operator."""

import asyncio
from contextlib import suppress

import anyio
import pytest

from hyperhive.web import connections
from hyperhive.web.static_files import File
from web_client import Browser, Served, exchange, read

LORIS = 200


async def half(served: Served, sent: bytes) -> anyio.abc.SocketStream:
    stream = await anyio.connect_tcp("127.0.0.1", served.port)
    await stream.send(sent)
    return stream


async def ended(stream: anyio.abc.SocketStream) -> bool:
    """Whether the other side ends this connection without an answer."""
    try:
        with anyio.fail_after(20):
            await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return True
    return False


async def test_the_operator_is_answered_beside_200_half_sent_requests(
    served: Served, browser: Browser
) -> None:
    assert (await browser.request(cmd="list")).status == 200
    head = f"GET /api/state HTTP/1.1\r\nHost: {served.host}\r\nX-Slow: ".encode()
    body = f"POST /session HTTP/1.1\r\nHost: {served.host}\r\nContent-Length: 900\r\n\r\n".encode()
    async with anyio.create_task_group() as group:
        streams: list[anyio.abc.SocketStream] = []

        async def come(sent: bytes) -> None:
            stream = await anyio.connect_tcp("127.0.0.1", served.port)
            streams.append(stream)
            with suppress(anyio.BrokenResourceError):  # others came meanwhile, and it was the oldest
                await stream.send(sent)

        for number in range(LORIS):
            group.start_soon(come, (head, body, b"", b"G")[number % 4])
        while len(streams) < LORIS:
            assert (await browser.request(cmd="list")).status == 200
    assert (await browser.request(cmd="list")).status == 200
    for stream in streams:
        await stream.aclose()


async def test_no_more_wait_at_once_than_there_is_room_for(
    served: Served, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 600)
    monkeypatch.setattr(connections, "WAITING_MAX", 3)
    monkeypatch.setattr(connections, "WAITING_AT_ALL", 3)
    streams = [await half(served, b"GET") for _ in range(3)]
    assert (await browser.request(cmd="list")).status == 200  # for which the oldest had to go
    assert await ended(streams[0])
    assert (await browser.request(cmd="list")).status == 200
    for stream in streams:
        await stream.aclose()


async def test_a_request_that_does_not_end_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.2)
    for sent in (
        b"",
        b"GET / HTTP/1.1\r\nHost: ",
        f"POST /session HTTP/1.1\r\nHost: {served.host}\r\nContent-Length: 10\r\n\r\n{{".encode(),
    ):
        async with await half(served, sent) as stream:
            while not await ended(stream):  # a refusal that needs no body may come first
                pass


async def test_an_answer_that_nobody_reads_is_given_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.2)
    lost = asyncio.Event()
    before = connections.Connection.connection_lost

    def noticed(self: connections.Connection, exc: Exception | None) -> None:
        before(self, exc)
        if self.url == b"/big.txt":
            lost.set()

    monkeypatch.setattr(connections.Connection, "connection_lost", noticed)
    web = served.hive._edges.web  # type: ignore[attr-defined]
    await served.stranger().ask("GET", "/")
    web._program._files._files["big.txt"] = File(b"x" * 30_000_000, None, "text/plain", "no-store")
    async with await half(served, f"GET /big.txt HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode()):
        with anyio.fail_after(20):
            await lost.wait()


async def test_a_head_or_body_that_is_too_long_is_refused_before_it_is_read(
    served: Served, browser: Browser
) -> None:
    long = "".join(f"X-{number}: {'a' * 1000}\r\n" for number in range(200))
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):  # it hangs up on us while we talk
        told = await exchange(served.port, f"GET / HTTP/1.1\r\nHost: {served.host}\r\n{long}\r\n".encode())
        assert told.status == 400
    told = await browser.ask("POST", "/api/request", change={"Content-Length": "10000000000"}, raw_body=b"{")
    assert (told.status, told.json["code"]) == (413, "too_large")
    chunks = (b"40000\r\n" + b"a" * 0x40000 + b"\r\n") * 5
    change: dict[str, str | None] = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        told = await browser.ask("POST", "/api/request", change=change, raw_body=chunks)
        assert (told.status, told.json["code"]) == (413, "too_large")


async def test_what_is_no_http_is_told_so(served: Served) -> None:
    for raw in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 70):
        told = await exchange(served.port, raw)
        assert (told.status, told.header("content-type")) == (400, "application/problem+json"), raw


async def test_requests_on_one_connection_are_answered_in_order(served: Served) -> None:
    async with await anyio.connect_tcp("127.0.0.1", served.port) as stream:
        asks = [f"GET {path} HTTP/1.1\r\nHost: {served.host}\r\n\r\n" for path in ("/api/state", "/nope")]
        await stream.send("".join(asks).encode())
        with anyio.fail_after(20):
            assert (await read(stream)).status == 401


async def test_a_peer_that_leaves_in_the_middle_of_its_body_is_no_bug_of_ours(
    served: Served, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST /session HTTP/1.1\r\nHost: {served.host}\r\nOrigin: http://{served.host}\r\n"
    head += "Sec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with caplog.at_level("WARNING"):
        stream = await half(served, head.encode())
        assert (await browser.request(cmd="list")).status == 200
        await stream.aclose()
        assert (await browser.request(cmd="list")).status == 200
    assert caplog.records == []
