"""What the library needs of the world and of its siblings: ports, as Protocols with their full contracts.

Implementations live elsewhere (runtimes under `lifecycle`, the core behind `harness`) and are handed in. Nothing here
does anything.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from anyio.abc import ByteReceiveStream, ByteSendStream


class ChildProcess(Protocol):
    """A program started in an agent's box, with pipes.

    Contract: the three streams are open from the start; `terminate` asks the payload itself (not a wrapper round it)
    to end with SIGTERM and returns at once; `kill` ends the payload and all its descendants, wherever they moved, and
    returns when none is left; `wait` gives the exit code, any number of times (of a payload that a signal ended: the
    negative number, or 128 + the number or 255 where a box stands between);
    leaving the async context kills what still runs. After the owner process dies, by whatever cause, nothing of it
    runs on unwatched.
    """

    @property
    def pid(self) -> int: ...

    @property
    def stdin(self) -> ByteSendStream: ...

    @property
    def stdout(self) -> ByteReceiveStream: ...

    @property
    def stderr(self) -> ByteReceiveStream: ...

    @property
    def returncode(self) -> int | None: ...

    def terminate(self) -> None: ...

    async def kill(self) -> None: ...

    async def wait(self) -> int: ...

    async def aclose(self) -> None: ...


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's directories.

    `host_*` are the paths where the hive sees them, the others where the agent's own programs do (the same under the
    runtime `process`).
    """

    agent: str
    state: str
    claude: str
    run: str
    config: str
    host_state: Path
    host_claude: Path


class Launcher(Protocol):
    """Starts programs in one agent's box. Made by a runtime for one agent; used by that agent's harness.

    Contract: `launch` returns once the program runs; the program gets exactly `env` (nothing inherited), `cwd` as it
    is named inside the box (default: `box.state`; PWD is set to it), its own process group and its config's limits
    and mounts as they are at that moment. `revision` changes when these do, so that a program which was started under
    another one can be replaced; it costs next to nothing to ask for.

    Raises:
        MissingPart: what the box needs (bubblewrap, the program) is not there; the hint names the package.
    """

    @property
    def box(self) -> Box: ...

    @property
    def isolation(self) -> str: ...

    @property
    def revision(self) -> str: ...

    async def launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str | None = None,
        readable: Sequence[Path] = (),
    ) -> ChildProcess:
        """`readable`: host files (the CLI's binary) that the box shows read-only at the same path."""
        ...


class ToolSession(Protocol):
    """One MCP session of one principal with the core, as plain JSON-RPC lines without the newline.

    Contract: `handle` takes one message from the client and returns the reply to a request, or None for a
    notification or a response; several may be under way at once; cancelling a `handle` cancels the call in the core
    (a message that a cancelled `recv` had taken goes back). It never raises for what the client sent: such errors are
    JSON-RPC errors. A session outlives a restart of the core: what was under way is replayed under the same call id,
    so that an effect happens once.
    """

    async def handle(self, message: bytes) -> bytes | None: ...

    async def aclose(self) -> None: ...


class ToolServer(Protocol):
    """Where the harness gets its agent's MCP session from: in the core, or over the harness socket."""

    async def open_session(self) -> ToolSession: ...
