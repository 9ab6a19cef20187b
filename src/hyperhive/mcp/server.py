"""Who gets a tool session, and where sessions and their calls live. Light: loads the `mcp` package late."""

import asyncio
import importlib
import logging
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

import anyio.to_thread

import hyperhive
from hyperhive.errors import Closed
from hyperhive.mcp import bridge
from hyperhive.mcp.calls import Calls
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.policy import Actor, tool_actor

if TYPE_CHECKING:
    from hyperhive.mcp.session import CoreSession

log = logging.getLogger(__name__)

BRIDGE = "bridge.py"

INSTRUCTIONS = (
    "The hive: other agents, the manager and the operator. Messages reach you as turns; `recv` takes more of them "
    "inside a turn, `send` writes to somebody. A message marked as redelivered may have been handled already."
)


class McpServer:
    """The core's tools. One for all sessions; implements `sockets.SessionOpener`.

    Args:
        dispatcher: answers the requests that tools make.
        instructions: what a client tells its model of this server.
    """

    def __init__(self, dispatcher: Dispatcher, *, instructions: str = INSTRUCTIONS) -> None:
        self._dispatcher = dispatcher
        self._instructions = instructions
        self._calls = Calls(dispatcher)
        self._sessions: set[CoreSession] = set()
        self._loading = asyncio.Lock()
        self._module: ModuleType | None = None
        self._closed = False

    async def preload(self) -> None:
        """Loads the `mcp` package, in a thread; the first session is quick then. Idempotent."""
        async with self._loading:
            if self._module is None:
                self._module = await anyio.to_thread.run_sync(
                    importlib.import_module, "hyperhive.mcp.session"
                )

    async def open_for(self, actor: Actor) -> "CoreSession":
        """A session of this actor.

        Raises:
            Forbidden: it gets no tools.
            Closed: the server was closed.
        """
        tool_actor(actor)
        await self.preload()
        if self._closed or self._module is None:
            raise Closed("the hive is stopping")
        session = cast(
            "CoreSession",
            self._module.CoreSession(
                self._dispatcher,
                self._calls,
                actor,
                version=hyperhive.__version__,
                instructions=self._instructions,
            ),
        )
        session.start()
        self._sessions.add(session)
        session.on_close(self._sessions.discard)
        return session

    async def leave_bridge(self, directory: Path) -> Path | None:
        """Puts the bridge beside an agent's tools socket, where MCP clients in its box can start it.

        None where it could not be written (a full disk): the agent's own tools do not need it.
        """
        try:
            return await anyio.to_thread.run_sync(_write_bridge, directory)
        except OSError as error:
            log.warning("bridge_not_written directory=%s error=%s", directory, error)
            return None

    def tool_server(self, actor: Actor) -> "HiveToolServer":
        """The same as the port of an embedded harness."""
        return HiveToolServer(self, actor)

    async def aclose(self) -> None:
        """Ends all sessions and calls. Idempotent."""
        self._closed = True
        for session in tuple(self._sessions):
            await session.aclose()
        await self._calls.aclose()


def _write_bridge(directory: Path) -> Path:
    # By a new file and a rename: where nothing separates the agent from us, it may have left a link in its place.
    number, name = tempfile.mkstemp(dir=directory, prefix=".bridge-")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(Path(bridge.__file__).read_bytes())
            os.fchmod(number, 0o444)
        return Path(name).replace(directory / BRIDGE)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


class HiveToolServer:
    """Implements `ports.ToolServer` in the core."""

    def __init__(self, server: McpServer, actor: Actor) -> None:
        self._server = server
        self._actor = actor

    async def open_session(self) -> "CoreSession":
        """See `ToolServer`."""
        return await self._server.open_for(self._actor)
