"""The web server's heavy half: uvicorn and the application, made in a thread, run in the hive's loop.

uvicorn does HTTP; signals, logs, sockets and deadlines are ours.
"""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, cast

import anyio
import uvicorn
from litestar.types import ASGIApp

from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.web.agent_ports import AgentPorts
from hyperhive.web.app import build
from hyperhive.web.connections import Connection, Waiting
from hyperhive.web.front import WEB, Front
from hyperhive.web.guards import allowed_hosts
from hyperhive.web.listening import Listening
from hyperhive.web.routes.agent_pages import agent_routes
from hyperhive.web.routes.streams import stream_routes
from hyperhive.web.static_files import StaticFiles
from hyperhive.web.streaming.hub import Hub
from hyperhive.web_access import WebAccess

GRACE_SECONDS: Final = 3


class Program:
    """The application of one hive, and the server that runs it.

    Args:
        dispatcher: answers the requests.
        access: who may come in.
        at: where it is served.
        more_hosts: further names that it is known by, as they are set now.
        page_ports: agents that have a port of their own, as they are set now.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        access: WebAccess,
        at: Listening,
        more_hosts: Callable[[], tuple[str, ...]],
        page_ports: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._files = StaticFiles()
        front = Front(dispatcher, access)
        self._hub = Hub(partial(dispatcher.stream, WEB), access.clock)
        access.ended.append(lambda session: self._hub.drop_owner(str(session)))
        self.application = build(
            front,
            lambda: allowed_hosts(at.host, at.port, more_hosts()),
            self._files,
            [*stream_routes(self._hub, access.clock), *agent_routes(front)],
        )
        self._access = access
        self._waiting = Waiting()
        self._server = _Server(self._configure(self.application))
        standing = access.cautions
        self._ports = AgentPorts(
            self.application.app,
            at.host,
            at.port,
            page_ports,
            configure=self._configure,
            server=self._server,
            clock=access.clock,
            tell=lambda told: setattr(access, "cautions", (*standing, *told)),
        )
        self._ended = anyio.Event()

    def _configure(self, application: ASGIApp) -> uvicorn.Config:
        return uvicorn.Config(
            cast("Any", application),  # uvicorn and Litestar each have their own types for ASGI
            http=cast("Any", partial(Connection, self._waiting)),
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Answers what comes in there, until `aclose`."""
        for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
            logging.getLogger(name).setLevel("ERROR")  # a warning is what any peer can cause
        try:
            await self._files.refresh()
            await self._hub.start()
            async with anyio.create_task_group() as group:
                group.start_soon(self._ports.run)
                group.start_soon(self._access.watch)
                await self._server.serve(sockets)
                group.cancel_scope.cancel()
        finally:
            self._ended.set()

    async def aclose(self) -> None:
        """Ends streams first, which would keep their requests for ever, then requests under way, then the server."""
        await self._hub.aclose()
        self._server.should_exit = True
        await self._ended.wait()


class _Server(uvicorn.Server):
    """The hive owns the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
