"""A browser's HTTP, by hand: every header as the test says, and nothing added. And a hive that serves pages to it."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
from litestar import Litestar
from litestar.routes import HTTPRoute

from hyperhive.config import load
from hyperhive.host import Hive
from hyperhive.web.server import WebServer

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Told:
    """One answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The one header of this name; None where there is none."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, found
        return found[0] if found else None

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        told: dict[str, Any] = json.loads(self.body)
        return told


async def exchange(port: int, raw: bytes, *, host: str = "127.0.0.1") -> Told:
    """Sends these bytes on a connection of their own, and reads one answer."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(raw)
            return await read(stream, whole=not raw.startswith(b"HEAD "))


async def read(stream: anyio.abc.ByteStream, *, whole: bool = True) -> Told:
    """The next answer on a connection; not `whole`: without a body, whatever its length is said to be."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += await stream.receive()
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = next((int(value) for name, value in headers if name == "content-length"), 0)
    while whole and len(body) < length:
        body += await stream.receive()
    return Told(int(first.split()[1]), headers, body)


@dataclass
class Browser:
    """One browser: what it sends is what a page of the hive's own would, unless the test says otherwise."""

    port: int
    host: str
    cookie: str | None = None
    secret: str | None = None
    sent: list[tuple[str, str]] = field(default_factory=list)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        change: Mapping[str, str | None] | None = None,
        raw_body: bytes | None = None,
    ) -> Told:
        """One request; `change` sets headers, or leaves them out."""
        payload = raw_body if raw_body is not None else b"" if body is None else json.dumps(body).encode()
        headers: dict[str, str | None] = {"Host": self.host, "Connection": "close"}
        if method not in {"GET", "HEAD"}:
            headers |= {
                "Origin": f"http://{self.host}",
                "Sec-Fetch-Site": "same-origin",
                "Content-Type": "application/json",
                "Content-Length": str(len(payload)),
            }
        headers |= {"Cookie": self.cookie, "X-Hive-Secret": self.secret}
        headers |= dict(change or {})
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items() if value is not None),
        ]
        if method == "HEAD":
            payload = b""
        return await exchange(self.port, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + payload)

    async def request(self, **fields: object) -> Told:
        """POST /api/request."""
        return await self.ask("POST", "/api/request", fields)

    async def log_in(self, url: str) -> Told:
        """Uses a login link."""
        told = await self.ask("POST", "/session", {"token": url.partition("#")[2]})
        if told.status == 200:
            cookie = told.header("set-cookie")
            assert cookie is not None
            self.cookie, self.secret = cookie.partition(";")[0], told.json["secret"]
        return told


@dataclass
class Served:
    """A hive with pages."""

    hive: Hive
    port: int

    @property
    def host(self) -> str:
        """What a browser calls it."""
        return f"localhost:{self.port}"

    async def routes(self) -> list[tuple[str, str, bool]]:
        """Every route that is served: method, path (with an example for each part), and whether it is public."""
        web = self.hive._edges.web  # type: ignore[attr-defined]
        assert isinstance(web, WebServer)
        await self.stranger().ask("GET", "/")  # it is loaded then
        assert web._program is not None
        application = web._program.application.app
        assert isinstance(application, Litestar)
        return [
            (method, _example(route.path_format), bool(handler.opt.get("public")))
            for route in application.routes
            if isinstance(route, HTTPRoute)
            for method, (handler, _) in route.route_handler_map.items()
            if method != "OPTIONS"
        ]

    def stranger(self) -> Browser:
        """A browser that is not logged in."""
        return Browser(self.port, self.host)

    async def browser(self) -> Browser:
        """One that is."""
        browser = self.stranger()
        told = await browser.log_in(self.hive.access.link().url)
        assert told.status == 200, told
        return browser


def _example(path: str) -> str:
    """A path with something in the place of each of its parts."""
    examples = {"id": "1", "file": "robots.txt", "stream": "none"}
    return re.sub(r"\{(\w+)\}", lambda part: examples.get(part[1], "manager"), path)


@asynccontextmanager
async def serving(home: Path, toml: str = "", *, port: int = 0) -> AsyncIterator[Served]:
    """A hive under the runtime `process`, without agents but its manager, serving (on a free port)."""
    (home / "hive.toml").write_text(toml)
    environ = {"HOME": str(home), "HYPERHIVE_CONFIG": str(home / "hive.toml"), "HYPERHIVE_RUNTIME": "process"}
    config = await anyio.to_thread.run_sync(
        lambda: load(environ, state_dir=home / "state", run_dir=home / "run")
    )
    async with Hive.open(config=config, environ=environ, port=port) as hive:
        assert hive.access.address is not None
        yield Served(hive, int(hive.access.address.rpartition(":")[2]))
