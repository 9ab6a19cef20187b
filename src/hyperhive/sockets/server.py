"""The sockets of one hive: which path belongs to whom, and who is connected.

Owns listening, the tasks of all connections, and the one line that each harness may have. Usable from any task:
nothing here belongs to the task that opened it.
"""

import asyncio
import logging
import socket
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from hyperhive.errors import Conflict
from hyperhive.names import AgentName
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.line import HarnessLine, LineListener
from hyperhive.protocol.policy import Actor
from hyperhive.socket_files import BACKLOG, BoundSocket, bind
from hyperhive.sockets.connection import Connection, Peers
from hyperhive.sockets.limits import Limits
from hyperhive.sockets.line import AttachedLine
from hyperhive.sockets.tools import SessionOpener

log = logging.getLogger(__name__)

ACCEPT_AGAIN_SECONDS = 1.0


class SocketServer:
    """Serves the protocol on unix sockets, each for one actor.

    Args:
        dispatcher: answers the requests.
        tools: serves MCP sessions; without it a peer that speaks MCP is refused.
        lines: hears of harnesses that attach, and gets their events.
        limits: what one peer may hold.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        tools: SessionOpener | None = None,
        lines: LineListener | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.tools = tools
        self._lines = lines
        self._limits = limits or Limits()
        self._listening: dict[Path, Listener] = {}
        self._attached: dict[AgentName, AttachedLine] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def listening(self) -> tuple[Path, ...]:
        """The paths that are served."""
        return tuple(self._listening)

    async def listen(self, path: Path, actor: Actor) -> None:
        """Serves `path`: whoever connects there is `actor`. Ready for connections on return.

        The file is 0600 and its directory becomes 0700. A socket file that nobody listens on is replaced.

        Raises:
            Conflict: this or another process listens there.
            PathTooLong: the kernel cannot bind that path.
            WorldError: the file system refused.
        """
        if path in self._listening:
            raise Conflict(f"{path} is served already")
        with anyio.CancelScope(shield=True):
            bound = await anyio.to_thread.run_sync(bind, path)
            self._listening[path] = Listener(self, bound, actor, self._limits)

    async def unlisten(self, path: Path) -> None:
        """Stops serving `path`, ends its connections and removes its file. Idempotent."""
        found = self._listening.pop(path, None)
        if found is None:
            return
        with anyio.CancelScope(shield=True):
            await found.aclose()

    def line(self, agent: AgentName) -> HarnessLine | None:
        """The line of this agent's harness, while one is attached."""
        return self._attached.get(agent)

    async def aclose(self) -> None:
        """Stops serving everything, ends all connections, and returns when their tasks have ended. Idempotent."""
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*map(self.unlisten, tuple(self._listening)))
            while self._tasks:
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks)

    # --- for connections --------------------------------------------------------------------------------------------

    def adopt(self, task: "asyncio.Task[None]") -> None:
        """A task that outlives its connection: `aclose` waits for its end."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def attach(self, line: AttachedLine) -> None:
        """This line is its agent's now; an older one ends."""
        older = self._attached.get(line.agent)
        if older is not None:
            self._detach(older)
            older.close("a newer harness attached")
        self._attached[line.agent] = line
        if self._lines is not None:
            self._lines.attached(line)

    def event(self, line: AttachedLine, event: bytes) -> None:
        """A live event came up; one of a line that was superseded goes nowhere."""
        if self._lines is not None and self._attached.get(line.agent) is line:
            self._lines.event(line, event)

    def detach(self, line: AttachedLine) -> None:
        """This line's connection is gone."""
        if self._attached.get(line.agent) is line:
            self._detach(line)

    def _detach(self, line: AttachedLine) -> None:
        del self._attached[line.agent]
        if self._lines is not None:
            self._lines.detached(line)


class Listener:
    """One socket that is served. It listens from the start until `aclose`.

    It accepts by itself: asyncio's own server leaks a connection that is accepted in the moment of its closing.
    """

    def __init__(self, server: SocketServer, bound: BoundSocket, actor: Actor, limits: Limits) -> None:
        self.peers = Peers()
        self._server = server
        self._bound = bound
        self._actor = actor
        self._limits = limits
        self._coming = 0
        self._loop = asyncio.get_running_loop()
        self._listen()

    def _listen(self) -> None:
        if not self.peers.closed:
            self._loop.add_reader(self._bound.sock, self._accept)

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                connection, _address = self._bound.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of file descriptors or memory: leave them in the queue for a moment
                log.error("cannot_accept path=%s error=%s", self._bound.path, error)
                self._loop.remove_reader(self._bound.sock)
                self._loop.call_later(ACCEPT_AGAIN_SECONDS, self._listen)
                return
            self._coming += 1
            self._server.adopt(self._loop.create_task(self._welcome(connection), name="accept"))

    async def _welcome(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)  # noqa: FBT003 (its only argument)
            await self._loop.connect_accepted_socket(
                lambda: Connection(self._server, self._actor, self.peers, self._limits), connection
            )
        except BaseException:
            connection.close()
            raise
        finally:
            self._coming -= 1

    async def aclose(self) -> None:
        """Stops listening, ends the connections, removes the file; returns when all that has happened."""
        self.peers.closed = True
        self._loop.remove_reader(self._bound.sock)
        self._bound.sock.close()
        for peer in tuple(self.peers):
            peer.transport.abort()
        await anyio.to_thread.run_sync(self._bound.unlink)
        while self.peers or self._coming:  # `connection_lost` comes with the loop's next round
            await anyio.lowlevel.cancel_shielded_checkpoint()
