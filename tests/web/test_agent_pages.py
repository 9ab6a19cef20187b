"""An agent's own routes do what its harness does, and a login that ends ends its streams."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from hyperhive.config import HiveConfig, load
from hyperhive.host import Hive
from hyperhive.testing.turns import install_scripted_cli
from web_client import Browser, Served


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    """The operator's, with an agent CLI that works by a script."""
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HYPERHIVE_RUNTIME": "process",
        "HYPERHIVE_CLAUDE": str(install_scripted_cli(home / "claude")),
        "ANTHROPIC_API_KEY": "dummy",
    }


@pytest.fixture
def config(home: Path, environ: dict[str, str]) -> HiveConfig:
    """Where this test's hive lives."""
    return load(environ, state_dir=home / "state", run_dir=home / "run")


@pytest.fixture
async def served(config: HiveConfig, environ: dict[str, str]) -> AsyncIterator[Served]:
    """A hive with pages, whose agents work."""
    async with Hive.open(config=config, environ=environ, port=0) as hive:
        assert hive.access.address is not None
        yield Served(hive, int(hive.access.address.rpartition(":")[2]))


async def agent_in(browser: Browser, name: str) -> None:
    assert (await browser.ask("POST", "/spawn", {"name": name})).status == 200


async def test_an_agents_page_shows_a_turn_that_its_send_started(served: Served, browser: Browser) -> None:
    await agent_in(browser, "bob")
    before = (await browser.ask("GET", "/agents/bob/api/state")).json
    assert {
        "seq", "label", "dashboard_port", "status", "session", "inbox", "turn_state", "turn_state_since", "model",
        "ctx_usage", "cost_usage",
    } <= set(before)  # fmt: skip
    assert (before["label"], before["dashboard_port"], before["session"]) == ("bob", served.port, None)
    told = await browser.ask("POST", "/agents/bob/send", {"body": "reply with yes"})
    assert told.status == 200
    with anyio.fail_after(30):
        while await served.hive.broker.pending("operator") == 0:
            await served.hive.bus.next_published()
        history: dict[str, Any] = {"events": []}
        while not any(event["kind"] == "turn_end" for event in history["events"]):
            history = (await browser.ask("GET", "/agents/bob/events/history?limit=2000")).json
    assert all({"eid", "ts"} <= set(event) for event in history["events"])
    newest = [event["eid"] for event in history["events"]]
    assert newest == sorted(newest)
    earlier = (await browser.ask("GET", f"/agents/bob/events/history?before={newest[-1]}&limit=1")).json
    assert [event["eid"] for event in earlier["events"]] == [newest[-2]]
    after = (await browser.ask("GET", "/agents/bob/api/state")).json
    assert (after["inbox"][0]["id"], after["inbox"][0]["from"]) == (told.json["id"], "operator")
    assert after["seq"] > before["seq"]
    stats = (await browser.ask("GET", "/agents/bob/api/stats")).json
    assert (stats["window"], stats["kind"]) == ("24h", "stats")


async def test_an_agents_actions_are_requests_of_the_operators(browser: Browser) -> None:
    await agent_in(browser, "bob")
    assert (await browser.ask("POST", "/agents/bob/api/model", {"model": "opus"})).status == 200
    assert (await browser.ask("GET", "/agents/bob/api/state")).json["model"] == "opus"
    assert (await browser.ask("POST", "/agents/bob/api/new-session", {})).status == 200
    for path, body, status in (
        ("api/model", {"model": ""}, 400),
        ("api/model", {"model": "opus", "name": "manager"}, 400),
        ("send", {"body": "x", "to": "manager"}, 400),
        ("send", {}, 400),
        ("api/cancel", {}, 409),
        ("login/code", {"code": "x"}, 404),
    ):
        told = await browser.ask("POST", f"/agents/bob/{path}", body)
        assert told.status == status, (path, told)
        assert told.json["detail"]
    assert (await browser.ask("GET", "/agents/bob/api/loose-ends")).json["loose_ends"] == []
    for path in ("api/state", "api/loose-ends", "api/stats", "events/history", "events/stream"):
        assert (await browser.ask("GET", f"/agents/nobody/{path}")).status == 404, path
    assert (await browser.ask("GET", "/agents/bob/api/stats?window=1y")).status == 400
    assert (await browser.ask("GET", "/agents/bob/events/history?limit=2001")).status == 400


async def test_the_hives_past_is_served(browser: Browser) -> None:
    await agent_in(browser, "bob")
    sent = (await browser.ask("POST", "/op-send", {"to": "bob", "body": "hello"})).json["id"]
    past = (await browser.ask("GET", "/dashboard/history")).json
    assert any(event["kind"] == "sent" and event["id"] == sent for event in past["events"])
    assert past["seq"] > 0
    assert (await browser.ask("GET", "/dashboard/history?before=x")).status == 400


async def test_a_login_that_ends_ends_its_streams_and_no_others(served: Served, browser: Browser) -> None:
    other = await served.browser()
    with anyio.fail_after(30):
        async with await open_stream(browser) as mine, await open_stream(other) as theirs:
            await until(mine, b'"resume"')
            await until(theirs, b'"resume"')
            assert (await browser.ask("DELETE", "/session")).status == 200
            await until(mine, b"0\r\n\r\n")  # the last chunk
            sent = await other.ask("POST", "/op-send", {"to": "manager", "body": "still here"})
            assert sent.status == 200
            await until(theirs, b"still here")


async def open_stream(browser: Browser) -> anyio.abc.SocketStream:
    stream = await anyio.connect_tcp("127.0.0.1", browser.port)
    await stream.send(
        f"GET /stream?streams=hive HTTP/1.1\r\nHost: {browser.host}\r\nCookie: {browser.cookie}\r\n"
        f"X-Hive-Secret: {browser.secret}\r\n\r\n".encode()
    )
    return stream


async def until(stream: anyio.abc.SocketStream, what: bytes) -> None:
    got = b""
    while what not in got:
        got += await stream.receive()
