"""A link logs one browser in, once; a session is a cookie and a secret, and ends when the operator says so."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from hyperhive.client import connect
from hyperhive.errors import BadRequest, Forbidden, LimitReached, NotAvailable, NotFound, StoreFailed
from hyperhive.protocol import requests as r
from hyperhive.store import Store
from hyperhive.testing import FakeClock
from hyperhive.web_access import (
    LINK_SECONDS,
    MIGRATIONS,
    SESSION_SECONDS,
    WATCH_SECONDS,
    WRONG_TOKENS_PER_MINUTE,
    WebAccess,
)
from web_client import Browser, Served, serving


async def access_in(home: Path, clock: FakeClock) -> tuple[Store, WebAccess]:
    store = await Store.open(home / "web.sqlite", migrations=[MIGRATIONS], clock=clock)
    access = WebAccess(store, clock, "mark")
    access.address = "http://localhost:7000"
    await access.start()
    return store, access


def token(url: str) -> str:
    return url.partition("#")[2]


async def test_a_link_is_spent_by_its_first_use(served: Served) -> None:
    url = served.hive.access.link().url
    assert url.startswith(f"http://{served.host}/login#")
    assert (await served.stranger().log_in(url)).status == 200
    again = await served.stranger().log_in(url)
    assert (again.status, again.json["code"]) == (401, "not_logged_in")
    assert "hyperhive open" in again.json["hint"]


async def test_the_cookie_is_kept_from_scripts_and_other_sites(served: Served) -> None:
    told = await served.stranger().log_in(served.hive.access.link().url)
    cookie = told.header("set-cookie") or ""
    name, *facts = cookie.split("; ")
    assert name.startswith("hive_session_")
    assert {fact.lower() for fact in facts} == {
        "httponly", "samesite=strict", "path=/", f"max-age={SESSION_SECONDS}"
    }  # fmt: skip
    over_https = await served.stranger().ask(
        "POST", "/session", {"token": token(served.hive.access.link().url)},
        change={"Origin": f"https://{served.host}"},
    )  # fmt: skip
    assert "secure" in (over_https.header("set-cookie") or "").lower()


async def test_neither_cookie_nor_secret_is_enough_alone(served: Served, browser: Browser) -> None:
    other = await served.browser()
    for cookie, secret in (
        (browser.cookie, None),
        (None, browser.secret),
        (browser.cookie, other.secret),
        (browser.cookie, "x"),
        (f"{browser.cookie}x", browser.secret),
        (browser.cookie, ""),
    ):
        told = await Browser(served.port, served.host, cookie, secret).request(cmd="list")
        assert (told.status, told.json["code"]) == (401, "not_logged_in")
    assert (await browser.request(cmd="list")).status == 200


async def test_a_cookie_that_another_port_set_beside_ours_shuts_nobody_out(browser: Browser) -> None:
    name = str(browser.cookie).partition("=")[0]
    told = await browser.ask("GET", "/api/state", change={"Cookie": f"{name}=forged; {browser.cookie}"})
    assert told.status == 200


async def test_logging_out_ends_this_session_and_no_other(served: Served, browser: Browser) -> None:
    other = await served.browser()
    for method, path in (("POST", "/session/end"), ("DELETE", "/session")):
        one = await served.browser()
        assert (await one.ask(method, path, {})).json == {"ok": True}
        assert (await one.request(cmd="list")).status == 401
    assert (await other.request(cmd="list")).status == 200
    assert (await browser.request(cmd="list")).status == 200


async def test_the_operator_sees_the_sessions_and_ends_one(served: Served, browser: Browser) -> None:
    lost = await served.browser()
    listed = (await browser.request(cmd="web_sessions")).json["sessions"]
    assert [each["id"] for each in listed] == [2, 1]
    assert all(each["expires_at"] - each["created_at"] == SESSION_SECONDS for each in listed)
    async with connect(run_dir=served.hive.paths.run_dir) as cli:
        await cli.request(_end(2))
    assert (await lost.request(cmd="list")).status == 401
    assert (await browser.request(cmd="end_web_session", id=2)).status == 404


def _end(number: int) -> r.EndWebSession:
    return r.EndWebSession(id=number)


async def test_a_session_outlives_the_hive_and_a_link_does_not(home: Path) -> None:
    async with serving(home) as first:
        browser = await first.browser()
        link = first.hive.access.link().url
    async with serving(home) as second:
        browser.port, browser.host = second.port, second.host
        assert (await browser.request(cmd="list")).status == 200
        assert (await second.stranger().log_in(link)).status == 401


async def test_no_secret_is_in_the_database(home: Path) -> None:
    async with serving(home) as served:
        url = served.hive.access.link().url
        browser = await served.browser()
        place = served.hive.paths.database
    said = b"".join(path.read_bytes() for path in place.parent.glob(f"{place.name}*"))
    for secret in (token(url), str(browser.secret), str(browser.cookie).partition("=")[2]):
        assert len(secret) >= 32
        assert secret.encode() not in said
    with sqlite3.connect(place) as conn:
        assert conn.execute("SELECT length(cookie), length(secret) FROM web_sessions").fetchall() == [
            (32, 32)
        ]
    conn.close()


async def test_a_link_is_over_after_ten_minutes_and_a_session_after_thirty_days(home: Path) -> None:
    clock = FakeClock()
    store, access = await access_in(home, clock)
    late, used = access.link(), access.link()
    begun = await access.log_in(token(used.url), "Firefox")
    await clock.advance(LINK_SECONDS)
    with pytest.raises(Forbidden):
        await access.log_in(token(late.url), "Firefox")
    await clock.advance(SESSION_SECONDS - LINK_SECONDS - 1)
    assert access.check(begun.cookie, begun.secret) == begun.id
    ended: list[int] = []
    access.ended.append(ended.append)
    await clock.advance(1)
    assert access.check(begun.cookie, begun.secret) is None
    assert (ended, access.sessions()) == ([begun.id], [])
    await store.aclose()


async def test_a_stream_that_is_open_when_its_session_is_over_ends(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks anything more on it that could be refused."""
    monkeypatch.setattr("hyperhive.web_access.WATCH_SECONDS", 0.05)
    async with serving(home) as served:
        browser, access = await served.browser(), served.hive.access
        ask = f"GET /stream HTTP/1.1\r\nHost: {served.host}\r\nCookie: {browser.cookie}\r\n"
        async with await anyio.connect_tcp("127.0.0.1", served.port) as stream:
            await stream.send(f"{ask}X-Hive-Secret: {browser.secret}\r\n\r\n".encode())
            got = b""
            with anyio.fail_after(30):
                while b"resume" not in got:
                    got += await stream.receive()
                for cookie, session in access._sessions.items():
                    access._sessions[cookie] = msgspec.structs.replace(session, expires_at=1)
                while not got.endswith(b"0\r\n\r\n"):
                    got += await stream.receive()


async def test_sessions_end_by_themselves(home: Path) -> None:
    clock = FakeClock()
    store, access = await access_in(home, clock)
    begun = await access.log_in(token(access.link().url), "Firefox")
    ended: list[int] = []
    access.ended.append(ended.append)
    async with anyio.create_task_group() as group:
        group.start_soon(access.watch)
        await clock.advance(SESSION_SECONDS - 3600)
        assert ended == []
        await clock.advance(3600 + WATCH_SECONDS)
        group.cancel_scope.cancel()
    assert ended == [begun.id]
    await store.aclose()


async def test_an_end_that_the_disk_refused_counts_now_and_can_be_said_again(home: Path) -> None:
    def rename(old: str, new: str) -> None:
        with closing(sqlite3.connect(home / "web.sqlite")) as conn, conn:
            conn.execute(f"ALTER TABLE {old} RENAME TO {new}")

    store, access = await access_in(home, FakeClock())
    begun = await access.log_in(token(access.link().url), "Firefox")
    await anyio.to_thread.run_sync(rename, "web_sessions", "away")
    with pytest.raises(StoreFailed):
        await access.end(begun.id)
    assert access.check(begun.cookie, begun.secret) is None
    await anyio.to_thread.run_sync(rename, "away", "web_sessions")
    await access.end(begun.id)
    again = WebAccess(store, FakeClock(), "mark")
    await again.start()
    assert again.sessions() == [], "it does not come back with the hive's next start"
    with pytest.raises(NotFound):
        await access.end(begun.id)
    await store.aclose()


async def test_whoever_guesses_is_slowed_down_and_shuts_nobody_out(home: Path) -> None:
    clock = FakeClock()
    store, access = await access_in(home, clock)
    for _ in range(WRONG_TOKENS_PER_MINUTE):
        with pytest.raises(Forbidden):
            await access.log_in("wrong", "")
    with pytest.raises(LimitReached):
        await access.log_in("wrong", "")
    assert (await access.log_in(token(access.link().url), "")).id == 1
    await clock.advance(61)
    with pytest.raises(Forbidden):
        await access.log_in("wrong", "")
    await store.aclose()


async def test_a_link_leads_to_a_page_of_the_hive_and_nowhere_else(home: Path) -> None:
    store, access = await access_in(home, FakeClock())
    assert access.link("/approvals/3").url.startswith("http://localhost:7000/login?to=/approvals/3#")
    for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example", "approvals"):
        with pytest.raises(BadRequest):
            access.link(elsewhere)
    access.address = None
    with pytest.raises(NotAvailable):
        access.link()
    with pytest.raises(NotFound):
        await access.end(1)
    await store.aclose()


async def test_the_end_of_a_session_ends_its_streams(served: Served, browser: Browser) -> None:
    other = await served.browser()
    ask = f"GET /stream HTTP/1.1\r\nHost: {served.host}\r\nCookie: {browser.cookie}\r\n"
    async with await anyio.connect_tcp("127.0.0.1", served.port) as stream:
        await stream.send(f"{ask}X-Hive-Secret: {browser.secret}\r\n\r\n".encode())
        got = b""
        with anyio.fail_after(30):
            while b"resume" not in got:
                got += await stream.receive()
            assert (await other.request(cmd="end_web_session", id=1)).status == 200
            with suppress(anyio.EndOfStream):
                while not got.endswith(b"0\r\n\r\n"):
                    got += await stream.receive()
    told = await browser.ask("GET", "/stream")
    assert told.status == 401
