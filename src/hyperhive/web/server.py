"""The web server of one hive: uvicorn in the hive's own event loop, on sockets that we bound.

Listening comes first and is quick; the application, which takes a while to load, is loaded in the background, and
whoever comes meanwhile waits. Nothing here knows a route.
"""

import importlib
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread

from hyperhive.background import Background
from hyperhive.config import HiveConfig
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.web.listening import Listening, listen
from hyperhive.web_access import WebAccess

if TYPE_CHECKING:
    from hyperhive.web.program import Program

log = logging.getLogger(__name__)


class WebServer:
    """Serves a hive's pages, from `open` to `aclose`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._background = Background("web")
        self._listening: Listening | None = None
        self._program: Program | None = None
        self._closed = False

    async def open(self, config: Callable[[], HiveConfig], access: WebAccess) -> None:
        """Listens; requests are answered as soon as the application is loaded.

        Args:
            config: the configuration in force, now and later.
            access: who may come in; learns where we are.

        Raises:
            Conflict: the address is in use. WorldError: it is none of this machine's, or not for us.
        """
        now = config()
        found = await anyio.to_thread.run_sync(partial(listen, now.host, now.port, exact=now.exact))
        self._listening = found
        access.address = f"http://{found.name}"
        access.cautions = _cautions(found)
        log.info("pages_served host=%s port=%s", found.host, found.port)
        await self._background.start()
        self._background.spawn(lambda: self._serve(config, access, found), "web server")

    async def aclose(self) -> None:
        """Ends streams, then requests, then the server. Any number of times."""
        if self._closed:
            return
        self._closed = True
        if self._program is not None:
            await self._program.aclose()
        await self._background.aclose()
        for sock in self._listening.sockets if self._listening is not None else ():
            sock.close()

    async def _serve(self, config: Callable[[], HiveConfig], access: WebAccess, found: Listening) -> None:
        module = await anyio.to_thread.run_sync(importlib.import_module, "hyperhive.web.program")
        program: Program = await anyio.to_thread.run_sync(
            lambda: module.Program(
                self._dispatcher,
                access,
                found,
                lambda: config().file.allowed_hosts,
                lambda: config().file.page_ports,
            )
        )
        self._program = program
        await program.serve(found.sockets)


def _cautions(at: Listening) -> tuple[str, ...]:
    if at.loopback:
        return ()
    where = f"the dashboard listens on {at.host}, port {at.port}"
    return (f"{where}: other machines reach it, and plain HTTP shows a login to whoever is on the way",)
