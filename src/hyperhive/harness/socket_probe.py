"""Whether an agent CLI speaks HTTP over `ANTHROPIC_UNIX_SOCKET`.

The variable works in the tested versions and is documented nowhere, so any other version is tried out, once: it is run
with a socket of ours and an empty home, and that it asks anything there is the answer. Nothing is reached but that
socket, and no account is used.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import SocketListener, SocketStream

from hyperhive.agent_cli import AgentCli
from hyperhive.socket_files import bind

MEASURED: Final = frozenset({"2.1.200", "2.1.328"})
"""Versions that were seen to do it, by this probe among others."""
PROBE_SECONDS: Final = 15.0

_REFUSAL: Final = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


class SocketProbe:
    """Remembers the answer for each version."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}
        self._asking = anyio.Lock()

    async def speaks(self, cli: AgentCli) -> bool:
        """Whether this CLI reaches the model by a unix socket. Takes a second for a version that was never tried."""
        if cli.version in MEASURED:
            return True
        async with self._asking:
            if cli.version not in self._known:
                self._known[cli.version] = await asks_by_socket(cli.path)
            return self._known[cli.version]


async def asks_by_socket(program: Path) -> bool:
    """Runs the CLI once; whether it asked anything at the socket it was told of."""
    place = Path(await anyio.to_thread.run_sync(lambda: tempfile.mkdtemp(prefix="hive-")))
    try:
        return await _try(program, place)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_remove, place)


async def _try(program: Path, place: Path) -> bool:
    asked = False
    bound = await anyio.to_thread.run_sync(bind, place / "s")
    with bound.sock:
        listener = await SocketListener.from_socket(bound.sock)
        async with listener, anyio.create_task_group() as tasks:

            async def answer(stream: SocketStream) -> None:
                nonlocal asked
                async with stream:
                    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                        if b"HTTP/1.1" in await stream.receive():
                            asked = True
                            await stream.send(_REFUSAL)

            tasks.start_soon(listener.serve, answer)
            with suppress(OSError):
                await _run(program, place, bound.path)
            tasks.cancel_scope.cancel()
    return asked


async def _run(program: Path, place: Path, socket: Path) -> None:
    argv = [str(program), "-p", "--model", "haiku", "--tools", "", "--setting-sources", "", "--", "hello"]
    process = await anyio.open_process(
        argv,
        env=_environment(place, socket),
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with anyio.move_on_after(PROBE_SECONDS):
            await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _environment(home: Path, socket: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "CLAUDE_CONFIG_DIR": str(home),
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": "http://hive",
        "ANTHROPIC_UNIX_SOCKET": str(socket),
    }


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
