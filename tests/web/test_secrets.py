"""Attack S8 by the pages: neither they, nor their streams, nor what is logged of them, tells a key or lets anybody in.

What a browser is shown is asked for over the whole table of routes, with an account's key and a token in the hive; what
lets a browser in (link, cookie, secret) is then looked for in every file, log, event and process of the hive. Where an
account's key may be is told by the story of the same name.
"""

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hive_process import HivePlace, HiveProcess
from hyperhive.client import connect
from hyperhive.protocol import requests as r
from scripted_login import install_cli_that_logs_in
from web_client import Browser
from web_world import free_port

TOLD = (
    "/", "/api/state", "/dashboard/history", "/agents/alice/api/state", "/openapi.json", "/api/agent-config/alice",
    "/api/journal/alice", "/agents/alice/events/history", "/agents/alice/api/loose-ends", "/agents/alice/api/stats",
)  # fmt: skip
ASKED = (
    {"cmd": "account"}, {"cmd": "web_sessions"}, {"cmd": "audit"}, {"cmd": "logs"}, {"cmd": "logs", "name": "alice"},
    {"cmd": "events", "name": "alice"}, {"cmd": "agent_state", "name": "alice"}, {"cmd": "state"}, {"cmd": "flow"},
    {"cmd": "agent_config", "name": "alice"}, {"cmd": "budget", "days": 7}, {"cmd": "notices"}, {"cmd": "history"},
    {"cmd": "search", "query": "sk"}, {"cmd": "digest", "since": 0}, {"cmd": "reminders"}, {"cmd": "status"},
)  # fmt: skip


@pytest.fixture
def claude(tmp_path: Path) -> Path:
    """The scripted agent CLI."""
    return install_cli_that_logs_in(tmp_path / "claude")


@pytest.fixture
async def hive(claude: Path) -> AsyncIterator[tuple[HivePlace, HiveProcess, int]]:
    """A hive as a process, with one agent, that serves its pages."""
    place = HivePlace(claude, runtime="process")
    port = free_port()
    try:
        async with (
            HiveProcess(place, ("up", "--json", "--port", str(port))) as hive,
            connect(place.run) as client,
        ):
            await client.lifecycle.spawn("alice")
            yield place, hive, port
    finally:
        place.remove()


async def stream(browser: Browser, path: str) -> bytes:
    """The beginning of a stream."""
    who = f"Host: {browser.host}\r\nCookie: {browser.cookie}\r\nX-Hive-Secret: {browser.secret}"
    head = f"GET {path} HTTP/1.1\r\n{who}\r\n\r\n"
    got = b""
    async with await anyio.connect_tcp("127.0.0.1", browser.port) as link:
        await link.send(head.encode())
        with anyio.move_on_after(1):
            while True:
                got += await link.receive()
    assert b"resume" in got
    return got


def processes() -> bytes:
    """The command lines and environments of all that runs beside us."""
    found = b""
    for process in Path("/proc").glob("[0-9]*"):
        for where in ("cmdline", "environ"):
            try:
                found += (process / where).read_bytes() if process.name != str(os.getpid()) else b""
            except OSError:
                continue  # it has ended, or is not ours to look at
    return found


def files(root: Path) -> dict[str, bytes]:
    """Whatever the hive wrote."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


async def test_no_page_tells_a_key_and_nothing_keeps_what_lets_a_browser_in(
    hive: tuple[HivePlace, HiveProcess, int],
) -> None:
    place, process, port = hive
    key, token = (f"sk-ant-{name}-{secrets.token_hex(12)}" for name in ("key", "token"))
    browser = Browser(port, f"localhost:{port}")
    async with connect(place.run) as client:
        await client.request(r.Account(name="default", key=key))
        await client.request(r.Account(name="work", token=token))
        link = await client.request(r.LoginLink())
    url = str(getattr(link, "url"))  # noqa: B009 - of a union
    assert (await browser.log_in(url)).status == 200
    assert browser.cookie is not None
    assert browser.secret is not None
    assert (await browser.request(cmd="send", to="alice", body="[[say hello]]")).status == 200
    await process.until(lambda: all(one.acked for one in place.mail()))
    told = b"".join([(await browser.ask("GET", path)).body for path in TOLD])
    answers = [await browser.request(**asked) for asked in ASKED]
    assert [one.status for one in answers if one.status >= 500] == []
    assert sum(one.status == 200 for one in answers) >= len(ASKED) - 1
    told += b"".join(one.body for one in answers)
    told += await stream(browser, "/stream?streams=hive&streams=alice")
    told += await stream(browser, "/dashboard/stream")
    assert b"alice" in told
    lets_in = {
        "link": url.partition("#")[2],
        "cookie": browser.cookie.partition("=")[2],
        "secret": browser.secret,
    }
    assert all(len(value) > 20 for value in lets_in.values()), "long enough that finding it is no accident"
    running = await anyio.to_thread.run_sync(processes)
    assert [
        name for name, value in {"key": key, "token": token, **lets_in}.items() if value.encode() in told
    ] == []
    assert [name for name, value in lets_in.items() if value.encode() in running] == []
    kept = await anyio.to_thread.run_sync(files, place.root)
    where = {
        name: [path for path, content in kept.items() if value.encode() in content]
        for name, value in lets_in.items()
    }
    assert where == {"link": [], "cookie": [], "secret": []}, "no log, no database"
    said = repr(process.frames).encode()
    assert [name for name, value in lets_in.items() if value.encode() in said] == []
    assert sorted(path for path, content in kept.items() if key.encode() in content) == ["s/accounts/default"]
