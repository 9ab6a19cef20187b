"""Ports of agents' own: the same application, with one agent's routes at the root, on 7100 + a hash of its name.

For those who had such a port bookmarked, and for programs that speak to one agent. Which agents have one is said by
`page_ports` in hive.toml. A login counts here as there, but what a page keeps of it is kept by origin: one logs in
once more. A port that is in use is tried again, and told of where that lasts; one that is another part's of the hive
(where nobody refused that before) is told of at once. Neither keeps the hive or the agent from running.
"""

import asyncio
import logging
import math
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import anyio.to_thread
import uvicorn
from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send

from hyperhive.clock import Clock
from hyperhive.config import page_port, page_port_clash
from hyperhive.errors import HiveError
from hyperhive.web.guards import Guard, allowed_hosts
from hyperhive.web.listening import listen
from hyperhive.web.routes.agent_pages import ROUTES

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 20.0
"""So long a port may be in use (a hive that has just ended, say) before anybody is told."""

_ITS_OWN: Final = frozenset({route.path for route in ROUTES} | {"/events/stream"})
_PAGES: Final = {"/": "", "/stats": "/stats"}


class AtRoot:
    """The application as one agent's port shows it: its routes at the root, all others where they are."""

    def __init__(self, app: ASGIApp, agent: str) -> None:
        self._app = app
        self._prefix = f"/agents/{agent}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        path = scope["path"]
        if path in _PAGES and scope["method"] in {"GET", "HEAD"}:  # type: ignore[typeddict-item]
            away = Response(b"", status_code=307, headers={"location": self._prefix + _PAGES[path]})
            await away.to_asgi_response(app=None, request=cast("Any", None))(scope, receive, send)
            return
        if path in _ITS_OWN:
            whole = self._prefix + path
            scope = cast("Scope", {**scope, "path": whole, "raw_path": whole.encode()})
        await self._app(scope, receive, send)


class AgentPorts:
    """The ports that are open now.

    Args:
        app: the application, without guards.
        host: where to listen.
        dashboard: the port of the operator's pages.
        names: whose ports there shall be, now.
        configure: a server's configuration for an application.
        server: whose connections these are, too.
        tell: told of what is wrong, all of it, whenever that changes.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        dashboard: int,
        names: Callable[[], Sequence[str]],
        *,
        configure: Callable[[ASGIApp], uvicorn.Config],
        server: uvicorn.Server,
        clock: Clock,
        tell: Callable[[tuple[str, ...]], None],
    ) -> None:
        self._app = app
        self._host = host
        self._dashboard = dashboard
        self._names = names
        self._configure = configure
        self._server = server
        self._clock = clock
        self._tell = tell
        self._open: dict[str, list[asyncio.Server]] = {}
        self._failing: dict[str, tuple[float, str]] = {}
        self._told: tuple[str, ...] = ()

    async def run(self) -> None:
        """Opens and closes ports as the configuration says, until it is cancelled."""
        try:
            while True:
                await self.look()
                await self._clock.sleep(LOOK_SECONDS)
        finally:
            for name in tuple(self._open):
                self._close(name)

    async def look(self) -> None:
        """Once: what should be open is, as far as it can be."""
        names = self._names()
        wanted = set(names)
        for name in self._open.keys() - wanted:
            self._close(name)
        for name in self._failing.keys() - wanted:
            del self._failing[name]
        for place, name in enumerate(names):
            if name in self._open:
                continue
            if (other := page_port_clash(name, names[: place + 1], self._dashboard)) is not None:
                self._failing[name] = -math.inf, f"{_not_served(name)}: {other} has it"
                continue
            try:
                await self._listen(name)
            except HiveError as error:
                since, _ = self._failing.get(name, (self._clock.monotonic(), ""))
                self._failing[name] = since, f"{_not_served(name)}: {error.message}"
            else:
                self._failing.pop(name, None)
        self._say()

    async def _listen(self, name: str) -> None:
        port = page_port(name)
        found = await anyio.to_thread.run_sync(partial(listen, self._host, port))
        config = self._configure(
            cast("ASGIApp", Guard(AtRoot(self._app, name), lambda: allowed_hosts(self._host, port, ())))
        )
        config.load()

        def connection() -> asyncio.Protocol:
            made: asyncio.Protocol = cast("Any", config.http_protocol_class)(
                config=config, server_state=self._server.server_state, app_state={}
            )
            return made

        self._open[name] = [await self._serve(sock, connection) for sock in found.sockets]
        log.info("agent_port_served agent=%s port=%d", name, port)

    @staticmethod
    async def _serve(sock: socket.socket, connection: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(connection, sock=sock)

    def _close(self, name: str) -> None:
        for server in self._open.pop(name):
            server.close()

    def _say(self) -> None:
        now = self._clock.monotonic()
        told = tuple(why for since, why in self._failing.values() if now - since >= PATIENCE_SECONDS)
        if told != self._told:
            self._told = told
            for why in told:
                log.warning("agent_port_not_served why=%s", why)
            self._tell(told)


def _not_served(name: str) -> str:
    return f"the port of {name}'s own, {page_port(name)}, is not served"
