"""Attacks W2, W3 and W5 by a real browser that is logged in, and has a hostile page open as well.

The page comes from another port of the same host (same site: the cookie is sent along), from another site, and from a
name that leads to this machine. Whatever it tries, nothing changes, nothing is told, and no page of the hive is framed.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
from playwright.async_api import Browser, Page, async_playwright

from web_world import CHROMIUM, FLAGS, WebWorld, context_of, log_in

pytestmark = [pytest.mark.needs("chromium", "npm"), pytest.mark.timeout(180)]

PAGE = b"<!doctype html><title>evil</title><body><p>Win a prize</p></body>"

FETCHES = """async ({hive, paths, secret}) => {
    const kinds = ['text/plain', 'application/x-www-form-urlencoded', 'application/json', undefined];
    const told = [];
    const one = async (path, init) => {
        try {
            const answer = await fetch(hive + path, {credentials: 'include', ...init});
            const body = await answer.text();
            if (answer.type !== 'opaque' || body) told.push(`${init.method} ${path} ${answer.status} ${body}`);
        } catch { }
    };
    const body = JSON.stringify({cmd: 'send', to: 'manager', body: 'forged', name: 'forged'});
    const all = [];
    for (const path of paths)
        for (const mode of ['cors', 'no-cors', 'same-origin']) {
            all.push(one(path, {method: 'GET', mode}));
            for (const method of ['POST', 'PUT', 'DELETE', 'PATCH'])
                for (const kind of kinds)
                    all.push(one(path, {method, mode, body, headers: kind && {'content-type': kind}}));
            all.push(one(path, {method: 'POST', mode, body, headers: {'x-hive-secret': secret}}));
        }
    await Promise.all(all);
    navigator.sendBeacon(hive + '/op-send', body);
    return told;
}"""

FORMS = """async ({hive, paths}) => {
    const load = e => new Promise(done => { e.onload = done; setTimeout(done, 3000); });
    for (const path of paths)
        for (const [method, enctype] of [['get', ''], ['post', 'text/plain'], ['post', 'multipart/form-data'],
                                         ['post', 'application/x-www-form-urlencoded']]) {
            const frame = document.createElement('iframe');
            frame.name = `f${Math.random()}`;
            document.body.append(frame);
            const form = document.createElement('form');
            Object.assign(form, {action: hive + path, method, enctype, target: frame.name});
            const field = document.createElement('input');
            field.name = '{"cmd":"send","to":"manager","body":"forged","x":"';
            field.value = '"}';
            form.append(field);
            document.body.append(form);
            const loaded = load(frame);
            form.submit();
            await loaded;
            frame.remove();
        }
}"""

EMBEDS = """async hive => {
    const ran = [];
    const before = new Set(Object.keys(window));
    for (const [tag, attribute, path] of [['script', 'src', '/api/state'], ['script', 'src', '/'], ['img', 'src', '/'],
             ['link', 'href', '/api/state'], ['object', 'data', '/'], ['embed', 'src', '/'],
             ['video', 'src', '/api/state']]) {
        const e = document.createElement(tag);
        if (tag === 'link') e.rel = 'stylesheet';
        const over = new Promise(done => { e.onload = () => done('loaded'); e.onerror = () => done('refused');
                                           setTimeout(() => done('silent'), 1000); });
        e.setAttribute(attribute, hive + path);
        document.body.append(e);
        if (await over === 'loaded' && !['object', 'embed'].includes(tag)) ran.push(`${tag} ${path}`);
        e.remove();
    }
    ran.push(...Object.keys(window).filter(name => !before.has(name)));
    return ran;
}"""


@asynccontextmanager
async def evil() -> AsyncIterator[int]:
    """The port of somebody else's page."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"Content-Type: text/html\r\nContent-Length: {len(PAGE)}\r\nConnection: close\r\n\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\n" + head.encode() + PAGE)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield int(server.sockets[0].getsockname()[1])


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    """One for whom `evil.test` is this machine, as after a name's second answer."""
    del anyio_backend
    async with async_playwright() as driver:
        flags = [*FLAGS, "--host-resolver-rules=MAP evil.test 127.0.0.1"]
        one = await driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield one
        await one.close()


def state_of(world: WebWorld) -> dict[str, int]:
    """What a forged request would have changed."""
    tables = ("messages", "agents", "approvals", "questions", "audit", "reminders")
    with closing(sqlite3.connect(f"file:{world.place.state}/hive.sqlite?mode=ro", uri=True)) as db:
        known = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in known & set(tables)
        }


PATHS = (
    "/op-send", "/api/request", "/approve/1", "/deny/1", "/request-spawn", "/session", "/answer-question/1",
    "/api/state", "/stream",
)  # fmt: skip
"""Addresses that change something, and some that tell something."""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_page_from_elsewhere_changes_nothing_and_learns_nothing(
    browser: Browser, world: WebWorld, host: str
) -> None:
    """`localhost`: the same site, so that the browser sends the cookie; `127.0.0.1`: another one."""
    async with evil() as port, context_of(browser) as context:
        watch = await log_in(context, world)
        secret = await watch.page.evaluate("() => localStorage.getItem('hive.secret')")
        before = state_of(world)
        page = await context.new_page()
        sent: list[str] = []
        page.on("response", lambda answer: sent.append(f"{answer.status} {answer.request.method}"))
        await page.goto(f"http://{host}:{port}/")
        given = {"hive": world.origin, "paths": list(PATHS), "secret": secret}
        assert await page.evaluate(FETCHES, given) == []
        await page.evaluate(FORMS, given)
        assert await page.evaluate(EMBEDS, world.origin) == []
        assert await framed(page, world.origin) == ""
        assert await opened(page, world.origin) == []
        assert await page.evaluate("() => document.cookie") == ""
        assert any(told.startswith("403 POST") for told in sent), "they did get there, and were refused"
        assert not [told for told in sent if told.startswith("200") and "GET" not in told]
        assert state_of(world) == before
        await watch.open("/inbox")  # and the operator is still logged in
        assert not watch.unexpected()


async def framed(page: Page, hive: str) -> str:
    """What a frame of the hive's page shows: a transparent one is what clicks are stolen with."""
    shown = ""
    for path in ("/", "/approvals/1", "/api/state", "/assets/none.js"):
        await page.evaluate(
            """src => new Promise(done => {
                const frame = document.createElement('iframe');
                Object.assign(frame, {src, onload: done, name: 'stolen'});
                setTimeout(done, 3000);
                document.body.append(frame);
            })""",
            hive + path,
        )
        for frame in page.frames[1:]:
            if frame.url.startswith(hive):
                shown += (await frame.locator("body").inner_text()).strip()
        await page.evaluate("() => document.querySelectorAll('iframe').forEach(e => e.remove())")
    return shown


async def opened(page: Page, hive: str) -> list[str]:
    """What a window of the hive's, opened by the page, tells it; and whether it can be led elsewhere by it."""
    async with page.context.expect_page() as coming:
        await page.evaluate("to => { window.stolen = window.open(to) }", hive + "/")
    other = await coming.value
    await other.wait_for_load_state()
    told: list[str] = await page.evaluate(
        """() => {
            const told = [];
            for (const what of ['document', 'localStorage', 'name', 'length'])
                try { if (window.stolen[what]) told.push(what); } catch { }
            if (!window.stolen.closed) told.push('it is ours');
            return told;
        }"""
    )
    assert await other.evaluate("() => window.opener") is None
    await other.close()
    return told


async def test_a_name_that_leads_here_is_not_the_hive(browser: Browser, world: WebWorld) -> None:
    """DNS rebinding: to the browser the page and the hive are one origin, and the hive answers nobody of that name."""
    async with context_of(browser) as context:
        home = await log_in(context, world)
        before = state_of(world)
        page = await context.new_page()
        answer = await page.goto(f"http://evil.test:{world.port}/")
        assert answer is not None
        assert answer.status in {400, 403, 421}
        assert json.loads(await answer.text())["code"] == "bad_host"
        told = await page.evaluate(
            """async () => {
                const told = [];
                for (const path of ['/', '/api/state', '/stream', '/dashboard/stream', '/assets/x.js', '/openapi.json'])
                    told.push(...[(await fetch(path)).status]);
                for (const path of ['/op-send', '/api/request', '/session'])
                    told.push((await fetch(path, {method: 'POST', body: '{}',
                                                  headers: {'content-type': 'application/json'}})).status);
                return told;
            }"""
        )
        assert set(told) <= {400, 403, 421}
        assert state_of(world) == before
        assert not home.unexpected()


async def test_the_cookie_is_out_of_reach_and_alone_opens_nothing(browser: Browser, world: WebWorld) -> None:
    async with context_of(browser) as context:
        watch = await log_in(context, world)
        (cookie,) = await context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["domain"]) == (True, "Strict", "localhost")
        assert await watch.page.evaluate("() => document.cookie") == ""
        watch.expect("401")
        status = "async path => (await fetch(path)).status"
        assert await watch.page.evaluate(status, "/api/state") == 401
        assert not watch.unexpected()
