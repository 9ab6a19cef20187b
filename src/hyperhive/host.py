"""`Hive`: the whole host as it ships: the parts of `hive`, behind unix sockets and HTTP, with the tools over MCP."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.config import HiveConfig, load
from hyperhive.hive import BareHive
from hyperhive.mcp.server import McpServer
from hyperhive.opening import Opening
from hyperhive.ports import ToolServer
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.line import LineListener
from hyperhive.protocol.policy import TOOLS, Actor
from hyperhive.sockets import SocketServer
from hyperhive.web.server import WebServer
from hyperhive.web_access import WebAccess


@dataclass(frozen=True, slots=True)
class ShippedEdges:
    """Implements `hive.Edges`."""

    sockets: SocketServer
    mcp: McpServer
    web: WebServer

    @classmethod
    def of(cls, dispatcher: Dispatcher, lines: LineListener) -> "ShippedEdges":
        """The edges of one hive."""
        mcp = McpServer(dispatcher)
        return cls(SocketServer(dispatcher, tools=mcp, lines=lines), mcp, WebServer(dispatcher))

    async def listen(self, path: Path, actor: Actor) -> None:
        """See `SocketServer.listen`. Beside a tools socket lies the bridge to it, for MCP clients in the box."""
        await self.sockets.listen(path, actor)
        if actor.channel == TOOLS:
            await self.mcp.leave_bridge(path.parent)

    async def unlisten(self, path: Path) -> None:
        """See `SocketServer.unlisten`."""
        await self.sockets.unlisten(path)

    def tools(self, actor: Actor) -> ToolServer:
        """The tools of an embedded harness."""
        return self.mcp.tool_server(actor)

    async def serve_pages(self, config: Callable[[], HiveConfig], access: WebAccess) -> None:
        """See `WebServer.open`."""
        await self.web.open(config, access)

    async def preload(self) -> None:
        """The MCP package takes a while to load."""
        await self.mcp.preload()

    async def aclose(self) -> None:
        """Ends all connections, sessions and calls."""
        await self.web.aclose()
        await self.sockets.aclose()
        await self.mcp.aclose()


class Hive(BareHive):
    """One operator's hive on this machine: agents, their mail, and the sockets they are reached by.

    `hive.broker`, `hive.lifecycle` and `hive.bus` are its parts. One process owns a state directory.

    >>> import anyio, tempfile
    >>> async def main() -> None:
    ...     async with Hive.open(state_dir=tempfile.mkdtemp(), runtime="process", environ={}) as hive:
    ...         await hive.lifecycle.spawn("alice")
    ...         receipt = await hive.broker.send("operator", "alice", "hello")
    ...         print(hive.lifecycle.names(), receipt.duplicate)
    >>> anyio.run(main)
    ['manager', 'alice'] False
    """

    @classmethod
    def open(
        cls,
        *,
        state_dir: str | os.PathLike[str] | None = None,
        run_dir: str | os.PathLike[str] | None = None,
        config: HiveConfig | None = None,
        runtime: str | None = None,
        port: int | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Opening["Hive"]:
        """Starts a hive in this process, and every agent of it that the operator had not stopped.

        Args:
            state_dir: where it keeps everything; default: the configuration's.
            run_dir: where its sockets are; default: `state_dir`/run where that is given, else the configuration's.
            config: everything else; default: read from hive.toml and `environ` as `hyperhive up` does.
            runtime: what agents live in, where no `config` says so.
            port: serve the operator's pages there (0: a free port); default: no pages, or as `config` says.
                `hive.access.link()` gives a link that logs in.
            environ: the operator's environment; default: this process's. Agents' programs inherit nothing of it.
            clock: what the time is.

        Raises:
            StoreLocked: another hive owns this state directory.
            MissingPart: the runtime does not work here; the hint names the package.
            BadConfig: the configuration is invalid.
        """
        chosen = dict(os.environ) if environ is None else dict(environ)
        state = None if state_dir is None else Path(state_dir)
        run = None if run_dir is None else Path(run_dir)
        if state is not None and run is None:
            run = state / "run"
        return Opening(partial(cls._open, config, state, run, runtime, port, chosen, clock))

    @classmethod
    async def _open(
        cls,
        config: HiveConfig | None,
        state_dir: Path | None,
        run_dir: Path | None,
        runtime: str | None,
        port: int | None,
        environ: Mapping[str, str],
        clock: Clock,
    ) -> "Hive":
        if config is None:
            config = load(environ, state_dir=state_dir, run_dir=run_dir, runtime=runtime)
        else:
            config = msgspec.structs.replace(
                config, state_dir=state_dir or config.state_dir, run_dir=run_dir or config.run_dir
            )
        if port is not None:
            config = msgspec.structs.replace(config, pages=True, port=port, exact=True)
        hive = cls(config=config, environ=environ, clock=clock, open_edges=ShippedEdges.of)
        await hive.start()
        return hive
