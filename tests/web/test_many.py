"""Many requests at one go: nobody's answer waits for another's, and each is told as if it had been asked alone."""

import json
from collections.abc import Mapping
from typing import Any

import anyio
import httpx
import pytest

from hyperhive.lifecycle import Lifecycle
from hyperhive.web.routes.many import AT_ONCE
from web_client import Browser, Served


async def many(browser: Browser, *requests: Mapping[str, object]) -> list[dict[str, Any]]:
    """The outcomes, as they come."""
    headers = {
        "Host": browser.host, "Origin": f"http://{browser.host}", "Sec-Fetch-Site": "same-origin",
        "Cookie": browser.cookie or "", "X-Hive-Secret": browser.secret or "",
    }  # fmt: skip
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{browser.port}", timeout=30) as client:
        told = await client.post("/api/requests", json={"requests": requests}, headers=headers)
    assert told.status_code == 200, told.text
    assert told.headers["content-type"] == "application/x-ndjson"
    assert told.headers["cache-control"] == "no-store"
    return [json.loads(line) for line in told.text.splitlines()]


async def test_each_is_answered_by_its_place_as_if_it_had_been_asked_alone(browser: Browser) -> None:
    told = await many(
        browser,
        {"cmd": "spawn", "name": "bob"},
        {"cmd": "start", "name": "nobody"},
        {"cmd": "list"},
        {"cmd": "subscribe", "stream": "hive"},
    )
    by_place = {one["at"]: (one["status"], one["body"]) for one in told}
    assert sorted(by_place) == [0, 1, 2, 3]
    assert by_place[0] == (200, {"ok": True, "kind": "ok"})
    assert (by_place[1][0], by_place[1][1]["code"]) == (404, "not_found")
    assert by_place[2][1]["kind"] == "agents"
    assert (by_place[3][0], by_place[3][1]["code"]) == (501, "not_available")


async def test_where_one_is_no_request_none_is_carried_out(served: Served, browser: Browser) -> None:
    wrong: list[object] = [{"cmd": "nonsense"}, {"cmd": "list", "colour": "red"}, [], None]
    bodies: list[object] = [{"requests": [{"cmd": "spawn", "name": "carl"}, one]} for one in wrong]
    for body in (*bodies, {}, {"requests": []}, {"requests": [{"cmd": "list"}] * 1001}):
        told = await browser.ask("POST", "/api/requests", body)
        assert (told.status, told.json["code"]) == (400, "bad_request")
    assert "carl" not in served.hive.lifecycle.names()


async def test_a_stop_that_takes_long_holds_up_no_other(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than a browser has connections, and than are begun side by side."""
    stopping, go = set[str](), anyio.Event()

    async def stop(_: object, name: str, **how: object) -> None:
        assert how["wait"]
        stopping.add(name)
        await go.wait()

    monkeypatch.setattr(Lifecycle, "stop", stop)
    names = [f"agent-{n}" for n in range(4 * AT_ONCE)]
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: many(browser, *({"cmd": "kill", "name": n, "wait": True} for n in names)))
        with anyio.fail_after(30):
            while stopping != set(names):
                await anyio.lowlevel.checkpoint()
        go.set()


async def test_only_so_many_are_begun_side_by_side(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = 0, anyio.Event()

    async def start(*_: object, **__: object) -> None:
        nonlocal begun
        begun += 1
        await go.wait()

    monkeypatch.setattr(Lifecycle, "start", start)
    told: list[dict[str, Any]] = []

    async def ask() -> None:
        told.extend(await many(browser, *({"cmd": "start", "name": "x"} for _ in range(3 * AT_ONCE))))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        with anyio.fail_after(30):
            while begun < AT_ONCE:
                await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert begun == AT_ONCE
        go.set()
    assert [one["status"] for one in told] == [200] * 3 * AT_ONCE
    assert begun == 3 * AT_ONCE


async def test_what_was_asked_is_done_also_where_nobody_stays_to_hear_of_it(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, done = anyio.Event(), anyio.Event(), set[str]()

    async def start(_: object, name: str, **__: object) -> None:
        begun.set()
        await go.wait()
        done.add(name)

    monkeypatch.setattr(Lifecycle, "start", start)
    names = [f"agent-{n}" for n in range(2 * AT_ONCE)]
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: many(browser, *({"cmd": "start", "name": n} for n in names)))
        with anyio.fail_after(30):
            await begun.wait()
        group.cancel_scope.cancel()
    go.set()
    with anyio.fail_after(30):
        while done != set(names):
            await anyio.lowlevel.checkpoint()
