"""Nothing changes but by a request of the hive's own pages, logged in: walked over the whole table of routes."""

import re
import sqlite3
from pathlib import Path

import anyio

from web_client import Browser, Served, serving

SAFE = {"GET", "HEAD"}


async def test_every_route_but_the_pages_and_the_login_itself_wants_a_login(served: Served) -> None:
    routes = await served.routes()
    public = {(method, path) for method, path, open_to_all in routes if open_to_all}
    assert {path for method, path in public if method not in SAFE} == {"/session"}
    closed = [(method, path) for method, path, open_to_all in routes if not open_to_all]
    assert len(closed) > 40
    stranger = served.stranger()
    for method, path in closed:
        told = await stranger.ask(method, path, None if method in SAFE else {})
        assert told.status == 401, (method, path, told)
        assert told.header("content-type") == "application/problem+json"


async def test_no_spelling_of_a_path_leads_past_the_login(served: Served) -> None:
    stranger = served.stranger()
    for path in (
        "//api/state",
        "/api/state/",
        "/api//state",
        "/api/%73tate",
        "/API/state",
        "/assets/../api/state",
        "/assets/%2e%2e/api/state",
        "/./api/state",
        "/api/state;/assets/x.js",
        "/api/state%00",
        "/api/state?x=/assets/",
    ):
        told = await stranger.ask("GET", path)
        assert told.status in {400, 401, 404}, (path, told)
        assert b'"containers"' not in told.body


async def test_a_page_from_elsewhere_changes_nothing(served: Served, browser: Browser) -> None:
    own = served.host
    foreign: list[tuple[dict[str, str | None], int]] = [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Origin": f"http://localhost:{served.port + 1}"}, 403),
        ({"Origin": f"http://{own}.evil.example"}, 403),
        ({"Origin": f"ftp://{own}"}, 403),
        ({"Origin": own}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": None}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": None}, 415),
        ({"Content-Type": "text/plain; application/json"}, 415),
    ]
    unsafe = [(method, path) for method, path, _ in await served.routes() if method not in SAFE]
    assert len(unsafe) >= 30
    for method, path in unsafe:
        for change, status in foreign if path == "/op-send" else foreign[::4]:
            told = await browser.ask(method, path, {"to": "manager", "body": "hi"}, change=change)
            assert told.status == status, (method, path, change, told)
    assert await served.hive.broker.pending("manager") == 0
    for good in ({}, {"Sec-Fetch-Site": "none"}, {"Content-Type": "application/json; charset=utf-8"}):
        told = await browser.ask("POST", "/op-send", {"to": "manager", "body": "hi"}, change=good)
        assert told.status == 200, (good, told)


async def test_methods_that_no_route_takes_are_refused_by_one_guard_and_tell_no_route(
    served: Served, browser: Browser
) -> None:
    stranger = served.stranger()
    paths = sorted({path for _, path, _ in await served.routes()})
    for method in ("OPTIONS", "PUT", "PATCH", "TRACE", "QUERY", "PROPFIND", "CONNECT"):
        answers = set()
        for path in (*(paths if method == "OPTIONS" else paths[::9]), "/nothing/here", "*"):
            for who in (stranger, browser):
                told = await who.ask(method, path)
                answers.add((told.status, told.json["code"], told.json["detail"]))
                assert told.header("content-type") == "application/problem+json"
                assert told.header("allow") is None
        assert len(answers) == 1
        assert answers.pop()[:2] == (405, "method_not_allowed"), method
        foreign = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        told = await browser.ask(method, "/op-send", {}, change=foreign)
        assert told.status == 405
        assert not [name for name, _ in told.headers if name.startswith("access-control")]
    assert (await stranger.ask("FOO", "/api/state")).status == 400  # no method at all


async def test_a_stranger_does_not_learn_which_routes_there_are_and_what_they_take(
    served: Served, browser: Browser
) -> None:
    stranger = served.stranger()
    paths = {path for _, path, _ in await served.routes()}
    taken = {(method, path) for method, path, _ in await served.routes()}
    for method in ("POST", "DELETE"):
        for path in ("/nothing/here", *sorted(paths)):
            if (method, path) != ("POST", "/session"):
                told = await stranger.ask(method, path, {})
                assert (told.status, told.json["code"]) == (401, "not_logged_in"), (method, path)
    assert (await stranger.ask("HEAD", "/api/state")).status == 401
    assert (await browser.ask("POST", "/nothing/here", {})).status == 404
    assert ("DELETE", "/op-send") not in taken
    assert (await browser.ask("DELETE", "/op-send", {})).status == 405


async def test_no_get_changes_anything(home: Path) -> None:
    async with serving(home) as served:
        browser = await served.browser()
        await browser.request(cmd="send", to="manager", body="hello")
        await browser.request(cmd="request_spawn", name="bob")
        await served.hive.drain()
        before = await _settled(served, browser)
        for method, path, _ in await served.routes():
            if method in SAFE and not path.endswith("/stream"):
                for _again in range(2):
                    told = await browser.ask(method, path)
                    assert told.status != 500, (method, path, told)
        assert _content(served) == before


async def _settled(served: Served, browser: Browser) -> dict[str, list[str]]:
    """What is in the database once what the hive does at its start is over."""
    with anyio.fail_after(40):
        while True:
            before = _content(served)
            for _ in range(20):
                await browser.request(cmd="status")
            if before["deployments"] and _content(served) == before:
                return before


def _content(served: Served) -> dict[str, list[str]]:
    """Every row of every table that is not a copy of what the others have."""
    conn = sqlite3.connect(served.hive.paths.database)
    try:
        names = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        late = re.compile(
            "hive_events|search|sqlite_sequence"
        )  # written in the background, of what was before
        return {
            name: sorted(map(repr, conn.execute(f'SELECT * FROM "{name}"')))
            for name in names
            if not late.match(name)
        }
    finally:
        conn.close()
