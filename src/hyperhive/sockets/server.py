"""The sockets of one hive: which path belongs to whom, and who is connected.

Owns listening, the tasks of all connections, and the one line that each harness may have. Usable from any task:
nothing here belongs to the task that opened it.
"""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from hyperhive.errors import Closed, Conflict
from hyperhive.names import AgentName
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.line import HarnessLine, LineListener
from hyperhive.protocol.policy import Actor
from hyperhive.sockets.connection import Connection
from hyperhive.sockets.files import BoundSocket, bind
from hyperhive.sockets.limits import Limits
from hyperhive.sockets.line import AttachedLine
from hyperhive.sockets.tools import SessionOpener

log = logging.getLogger(__name__)

# Since 3.13 asyncio would stat and unlink the file by itself, on the loop and without asking whose it is.
_SERVER_OPTIONS: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


@dataclass(frozen=True, slots=True)
class _Listening:
    bound: BoundSocket
    server: asyncio.Server
    peers: set[Connection]


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
        self._listening: dict[Path, _Listening] = {}
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
            peers: set[Connection] = set()
            server = await asyncio.get_running_loop().create_unix_server(
                lambda: Connection(self, actor, peers, self._limits), sock=bound.sock, **_SERVER_OPTIONS
            )
            self._listening[path] = _Listening(bound, server, peers)

    async def unlisten(self, path: Path) -> None:
        """Stops serving `path`, ends its connections and removes its file. Idempotent."""
        found = self._listening.pop(path, None)
        if found is None:
            return
        found.server.close()
        for peer in found.peers:
            peer.transport.abort()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(found.bound.unlink)

    def line(self, agent: AgentName) -> HarnessLine | None:
        """The line of this agent's harness, while one is attached."""
        return self._attached.get(agent)

    async def aclose(self) -> None:
        """Stops serving everything, ends all connections, and returns when their tasks have ended. Idempotent."""
        with anyio.CancelScope(shield=True):
            for path in tuple(self._listening):
                await self.unlisten(path)
            while self._tasks:
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks)

    # --- for connections --------------------------------------------------------------------------------------------

    def start(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Runs `work` in a task of the server's; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, Closed):
            log.error("connection_task_failed task=%s", task.get_name(), exc_info=error)

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
