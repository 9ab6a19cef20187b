"""An agent's port of its own: its routes at the root, under the same guards and logins; what cannot be had is told."""

import json
import socket
import zlib
from pathlib import Path

import anyio
import pytest
import uvicorn

from hyperhive.config import page_port, read_file
from hyperhive.errors import BadConfig
from hyperhive.testing import FakeClock
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


async def test_a_port_in_use_is_tried_again(home: Path) -> None:
    taken = socket.create_server(("127.0.0.1", PORT))
    async with serving(home, TOML) as served:
        browser = await served.browser()
        assert (await browser.ask("GET", "/api/state")).status == 200  # the hive's own pages are served
        taken.close()
        assert (await until_it_answers(replace_port(browser, PORT), "/")).status == 307


async def test_a_port_that_stays_in_use_is_told_of_and_then_no_more() -> None:
    told: list[tuple[str, ...]] = []
    clock = FakeClock()
    names = ["bob"]
    config = uvicorn.Config("none")
    ports = AgentPorts(
        lambda *_: pytest.fail("nobody asks"), "127.0.0.1", lambda: names, configure=lambda _: config,
        server=uvicorn.Server(config), clock=clock, tell=told.append,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", PORT)):
        await ports.look()
        assert told == []
        await clock.advance(PATIENCE_SECONDS)
        await ports.look()
        await ports.look()
    assert [len(each) for each in told] == [1]
    assert f"the port of bob's own is not served: another program listens on 127.0.0.1:{PORT}" in told[0][0]
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
