"""Where a request ends has one answer: what a proxy before the hive might read otherwise is refused, byte by byte."""

from contextlib import suppress

import anyio
import pytest

from hyperhive.web import connections
from web_client import Browser, Served, exchange

BODY = b'{"cmd":"list"}'
CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)


def head(served: Served, *lines: str, end: str = "\r\n") -> bytes:
    """A request of the hive's own page's, with these lines more, logged in or not by what they say."""
    own = [
        "POST /api/request HTTP/1.1",
        f"Host: {served.host}",
        f"Origin: http://{served.host}",
        "Sec-Fetch-Site: same-origin",
        "Content-Type: application/json",
    ]
    return (end.join([*own, *lines]) + 2 * end).encode()


def login(browser: Browser) -> list[str]:
    return [f"Cookie: {browser.cookie}", f"X-Hive-Secret: {browser.secret}"]


async def test_two_lengths_folded_lines_bare_line_feeds_and_other_codings_are_no_request(
    served: Served, browser: Browser
) -> None:
    for lines in (
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 0"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: 0x5"],
        ["Content-Length:"],
        ["Content-Length: 99999999999999999999"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding: identity", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding:\x0bchunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding:", " chunked", "Content-Length: 5"],
        ["Content-Length: 5", "X-Folded: a", " Transfer-Encoding: chunked"],
        ["X-Line: a\nTransfer-Encoding: chunked"],
        ["X-Line: a\rTransfer-Encoding: chunked"],
        ["X-Line: a\0b"],
        ["X Line: a"],
        [": a"],
    ):
        raw = head(served, *login(browser), *lines) + b"0\r\n\r\n"
        told = await exchange(served.port, raw)
        assert (told.status, told.json["code"]) == (400, "bad_request"), lines
        assert told.header("connection") == "close"
    bare = head(served, *login(browser), "Content-Length: 0", end="\n")
    assert (await exchange(served.port, bare)).status == 400
    assert (await browser.request(cmd="list")).status == 200
    assert (await browser.request(cmd="list")).status == 200


async def test_chunks_that_are_none_end_the_connection(served: Served, browser: Browser) -> None:
    chunked = head(served, *login(browser), "Transfer-Encoding: chunked")
    assert (await exchange(served.port, chunked + CHUNK + b"0\r\n\r\n")).status == 200
    for body in (
        b"e\n" + BODY + b"\r\n0\r\n\r\n",
        b"e\r\n" + BODY + b"\n0\r\n\r\n",
        b"d\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"0xe\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"+e\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"e \r\n" + BODY + b"\r\n0\r\n\r\n",
        b"-1\r\n",
        b"fffffffffffffffff\r\n",
        b"e;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n",
        CHUNK + b"0\r\nContent-Length: 3\r\n\r\n",
    ):
        told = await exchange(served.port, chunked + body)
        assert told.status == 400, body
    assert (await browser.request(cmd="list")).status == 200
    assert (await browser.request(cmd="list")).status == 200


async def test_what_follows_a_body_is_no_part_of_the_head(served: Served, browser: Browser) -> None:
    trailer = "\r\n".join(login(browser)).encode()
    raw = head(served, "Transfer-Encoding: chunked") + CHUNK + b"0\r\n" + trailer + b"\r\n\r\n"
    assert (await exchange(served.port, raw)).status == 401


async def until_hung_up_on(served: Served, first: bytes, piece: bytes) -> None:
    """Sends on and on; returns when the hive has had enough of it."""
    async with await anyio.connect_tcp("127.0.0.1", served.port) as stream:
        with anyio.fail_after(20), suppress(anyio.BrokenResourceError):
            await stream.send(first)
            while True:
                await stream.send(piece)


async def test_chunks_and_trailers_that_bring_along_more_than_a_request_may_have_are_cut_off(
    served: Served, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little of it is a body, of which there may be a megabyte."""
    monkeypatch.setattr(connections, "REQUEST_MAX_BYTES", 300_000)
    for piece in (b"1;" + b"a" * 100_000 + b"\r\n \r\n", b"a" * 100_000):
        await until_hung_up_on(
            served, head(served, *login(browser), "Transfer-Encoding: chunked") + b"1;", piece
        )
    first = head(served, *login(browser), "Transfer-Encoding: chunked") + CHUNK + b"0\r\n"
    await until_hung_up_on(served, first, b"X-More: %s\r\n" % (b"a" * 1000))
    assert (await browser.request(cmd="list")).status == 200
