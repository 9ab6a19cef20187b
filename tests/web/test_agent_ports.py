"""An agent's port of its own: its routes at the root, under the same guards and logins; what cannot be had is told."""

import json
import socket
import zlib
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import uvicorn

from hyperhive.config import page_port, read_file
from hyperhive.errors import BadConfig, Conflict
from hyperhive.names import AgentName
from hyperhive.testing import FakeClock
from hyperhive.web import agent_ports
from hyperhive.web.agent_ports import PATIENCE_SECONDS, AgentPorts
from web_client import Browser, Told, serving

TOML = 'page_ports = ["bob"]\n'
PORT = page_port("bob")


async def until_it_answers(browser: Browser, path: str) -> Told:
    """The port opens a moment after the hive serves."""
    with anyio.fail_after(30):
        while True:
            try:
                return await browser.ask("GET", path)
            except OSError:
                await anyio.lowlevel.checkpoint()


async def test_its_routes_are_at_the_root_of_its_port(home: Path) -> None:
    async with serving(home, TOML) as served:
        browser = await served.browser()
        assert (await browser.ask("POST", "/spawn", {"name": "bob"})).status == 200
        here = replace_port(browser, PORT)
        state = (await until_it_answers(here, "/api/state")).json
        assert (state["label"], state["dashboard_port"]) == ("bob", served.port)
        assert served.hive.lifecycle.view("bob").page_port == PORT
        sent = await here.ask("POST", "/send", {"body": "hello"})
        assert (await here.ask("GET", "/api/state")).json["inbox"][0]["id"] == sent.json["id"]
        assert "events" in (await here.ask("GET", "/events/history")).json
        assert (await here.ask("GET", "/")).header("location") == "/agents/bob"
        assert (await here.ask("GET", "/stats")).header("location") == "/agents/bob/stats"
        assert (await browser.ask("GET", "/api/state")).json["kind"] == "state"


async def test_it_has_the_same_guards_and_logins(home: Path) -> None:
    async with serving(home, TOML) as served:
        browser = await served.browser()
        here = replace_port(browser, PORT)
        await until_it_answers(here, "/")
        stranger = replace_port(served.stranger(), PORT)
        assert (await stranger.ask("GET", "/api/state")).status == 401
        assert (await here.ask("GET", "/api/state", change={"Host": "evil.example"})).status == 421
        forged = {"Origin": f"http://localhost:{served.port}", "Sec-Fetch-Site": "same-site"}
        assert (await here.ask("POST", "/send", {"body": "x"}, change=forged)).status == 403
        told = await here.ask("POST", "/session", {"token": served.hive.access.link().url.partition("#")[2]})
        assert told.status == 200


async def test_a_port_in_use_keeps_neither_hive_nor_agent_is_told_of_and_tried_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_ports, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(agent_ports, "PATIENCE_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", PORT)):
        async with serving(home, TOML) as served:
            browser = await served.browser()
            assert (await browser.ask("POST", "/spawn", {"name": "bob"})).status == 200
            assert served.hive.lifecycle.view("bob").running
            why = f"the port of bob's own, {PORT}, is not served: another program listens on 127.0.0.1:{PORT}"
            with anyio.fail_after(30):
                while not any(why in one for one in await warnings(browser)):
                    await anyio.lowlevel.checkpoint()
            snapshot = (await browser.ask("GET", "/api/state")).json
            assert any(why in one for one in snapshot["hive"]["warnings"])
    async with serving(home, TOML) as served:
        browser = await served.browser()
        assert (await until_it_answers(replace_port(browser, PORT), "/")).status == 307
        assert not any("of bob's own" in one for one in await warnings(browser))


async def warnings(browser: Browser) -> list[str]:
    """What `status` and the dashboard say that is not as it should be."""
    found: list[str] = (await browser.request(cmd="status")).json["hive"]["warnings"]
    return found


async def test_the_dashboards_own_port_is_refused_to_an_agent_when_the_hive_starts_and_when_the_file_is_read_again(
    home: Path,
) -> None:
    with pytest.raises(Conflict, match=f"bob has the port {PORT} of its own .* and so has the dashboard"):
        async with serving(home, TOML, port=PORT):
            pass
    async with serving(home, port=PORT) as served:
        browser = await served.browser()
        await anyio.Path(home / "hive.toml").write_text(TOML)
        told = await browser.request(cmd="reload")
        assert (told.status, told.json["code"]) == (409, "conflict")
        assert served.hive.config.file.page_ports == ()


async def test_an_agent_whose_port_is_anothers_is_refused_before_anything_of_it_is_made(home: Path) -> None:
    async with serving(home, TOML) as served:
        browser, hive = await served.browser(), served.hive
        wished = (await browser.ask("POST", "/request-spawn", {"name": "bob"})).json["id"]
        hive.access.address = f"http://localhost:{PORT}"  # a free port was taken, and it was this one
        for path, body in (
            ("/spawn", {"name": "bob"}),
            ("/request-spawn", {"name": "bob"}),
            (f"/approve/{wished}", {}),
        ):
            told = await browser.ask("POST", path, body)
            assert (told.status, told.json["code"]) == (409, "conflict"), path
            assert f"bob has the port {PORT} of its own" in told.json["detail"]
        assert "bob" not in hive.lifecycle.names()
        assert not hive.paths.agent_dir(AgentName("bob")).exists()
        assert [one.id for one in hive.approvals.pending_now()] == [wished]
        hive.access.address = f"http://localhost:{served.port}"
        assert (await browser.ask("POST", "/spawn", {"name": "bob"})).status == 200
        hive.access.address = f"http://localhost:{PORT}"
        assert (await browser.ask("POST", "/rebuild/bob", {})).status == 409
        assert (await browser.ask("POST", "/restart/bob", {"now": True})).status == 200
        assert hive.lifecycle.view("bob").running


async def test_of_two_names_with_one_port_the_first_is_served_and_the_other_told_of_at_once() -> None:
    """Where the configuration was made by a program: the file with both is refused."""
    told: list[tuple[str, ...]] = []
    first, second = collision()
    config = uvicorn.Config("none")
    ports = AgentPorts(
        lambda *_: pytest.fail("nobody asks"),
        "127.0.0.1",
        PORT,
        lambda: [first, "bob", second],
        configure=lambda app: uvicorn.Config(cast("Any", app), log_config=None),
        server=uvicorn.Server(config),
        clock=FakeClock(),
        tell=told.append,
    )
    await ports.look()
    assert [one.partition(" is not served: ")[2] for one in told[0]] == [
        "the dashboard has it",
        f"{first} has it",
    ]
    assert list(ports._open) == [first]
    ports._close(first)


async def test_a_port_that_stays_in_use_is_told_of_and_then_no_more() -> None:
    told: list[tuple[str, ...]] = []
    clock = FakeClock()
    names = ["bob"]
    config = uvicorn.Config("none")
    ports = AgentPorts(
        lambda *_: pytest.fail("nobody asks"), "127.0.0.1", 0, lambda: names, configure=lambda _: config,
        server=uvicorn.Server(config), clock=clock, tell=told.append,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", PORT)):
        await ports.look()
        assert told == []
        await clock.advance(PATIENCE_SECONDS)
        await ports.look()
        await ports.look()
    assert [len(each) for each in told] == [1]
    assert (
        f"the port of bob's own, {PORT}, is not served: another program listens on 127.0.0.1:{PORT}"
        in told[0][0]
    )
    names.clear()
    await ports.look()
    assert told[1] == ()


def test_a_port_is_a_pure_function_of_the_name() -> None:
    assert [page_port(name) for name in ("alice", "bob")] == [
        7100 + zlib.crc32(name) % 900 for name in (b"alice", b"bob")
    ]


def collision() -> tuple[str, str]:
    seen: dict[int, str] = {}
    for number in range(10_000):
        name = f"a{number}"
        if (other := seen.setdefault(page_port(name), name)) != name:
            return other, name
    raise AssertionError("no two names share a port")


@pytest.mark.parametrize(
    ("toml", "why"),
    [
        (f"page_ports = {json.dumps(collision())}", "has the port"),
        (f'listen = "127.0.0.1:{PORT}"\n{TOML}', "`listen`"),
        ('page_ports = ["Not a name"]', "no valid name"),
    ],
)
def test_ports_that_cannot_all_be_had_are_refused_before_anything_is_made(
    tmp_path: Path, toml: str, why: str
) -> None:
    (tmp_path / "hive.toml").write_text(toml)
    with pytest.raises(BadConfig, match="page_ports") as refused:
        read_file(tmp_path / "hive.toml")
    assert why in str(refused.value)


def replace_port(browser: Browser, port: int) -> Browser:
    return Browser(port, f"localhost:{port}", browser.cookie, browser.secret)
