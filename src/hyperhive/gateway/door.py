"""One agent's door: its model socket, and who is on it. Whoever comes by it is that agent, whatever they say.

Bounded: so many connections at once, so many bytes of requests under way. What is beyond that is hung up on, and costs
the other agents nothing.
"""

import logging
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import SocketListener, SocketStream

from hyperhive.background import Background
from hyperhive.gateway.connection import BODY_MAX, Connection, Handler
from hyperhive.names import AgentName
from hyperhive.socket_files import BoundSocket, bind

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 32
ROOM_BYTES: Final = 2 * BODY_MAX
ACCEPT_AGAIN_SECONDS: Final = 1.0
"""How long nobody is let in after the host had no file or memory for a connection; in real time."""


class Door:
    """One agent's model socket. `open` it once."""

    def __init__(self, agent: AgentName, path: Path, handle: Handler) -> None:
        self.agent = agent
        self._path = path
        self._handle = handle
        self._background = Background(f"model gateway of {agent}")
        self._bound: BoundSocket | None = None
        self._open = 0
        self._held = 0

    @property
    def connections(self) -> int:
        """How many there are now."""
        return self._open

    async def open(self) -> None:
        """Listens.

        Raises:
            PathTooLong, Conflict, WorldError: as `socket_files.bind`.
        """
        await self._background.start()
        try:
            self._bound = await anyio.to_thread.run_sync(bind, self._path)
            listener = await SocketListener.from_socket(self._bound.sock)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.aclose()
            raise
        self._background.spawn(lambda: self._serve(listener), "model socket")

    async def aclose(self) -> None:
        """Nobody is served any more; what is under way is ended. Idempotent."""
        await self._background.aclose()
        if self._bound is not None:
            self._bound.sock.close()
            await anyio.to_thread.run_sync(self._bound.unlink)
            self._bound = None

    async def _serve(self, listener: SocketListener) -> None:
        async with listener, anyio.create_task_group() as group:
            while True:
                try:
                    stream = await listener.accept()
                except anyio.BrokenResourceError as error:
                    # Out of files or memory: left in the queue for a moment
                    log.warning("cannot_accept agent=%s error=%s", self.agent, error.__cause__)
                    await anyio.sleep(ACCEPT_AGAIN_SECONDS)
                else:
                    group.start_soon(self._welcome, stream)

    async def _welcome(self, stream: SocketStream) -> None:
        async with stream:
            if self._open >= CONNECTIONS_MAX:
                return
            self._open += 1
            try:
                await Connection(stream, self._handle, self).serve()
            except Exception:  # supervisor: one connection must not end the others
                log.exception("model_connection_failed agent=%s", self.agent)
            finally:
                self._open -= 1

    # --- room for bodies (connection.Room) --------------------------------------------------------------------------

    def take(self, size: int) -> bool:
        """Counts bytes of a request; False where the agent has too many under way."""
        if self._held + size > ROOM_BYTES:
            return False
        self._held += size
        return True

    def give(self, size: int) -> None:
        """These are no longer under way."""
        self._held -= size
