"""What the runtime suite works with: a runtime over fresh directories, helpers round its programs, a hive to be killed.

Holds no claim of its own; the cases are in `runtime_suite`.
"""

import itertools
import os
import random
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import anyio
import anyio.to_thread
from anyio.abc import ByteReceiveStream, Process

from hyperhive.config import MountSetting, Network, RuntimeName
from hyperhive.lifecycle.runtimes import ResourceLimits, Runtime, pick_runtime
from hyperhive.names import AgentName, parse_agent_name
from hyperhive.paths import Paths
from hyperhive.ports import ChildProcess

ENV: Final = {"PATH": "/usr/bin:/bin"}
SECONDS: Final = 30.0
_numbers = itertools.count(1)


@dataclass(kw_only=True)
class RuntimeKit:
    """A checked runtime over a hive's directories, and a work directory outside them to mount."""

    runtime: Runtime
    paths: Paths
    work: Path
    agent: AgentName = field(default_factory=lambda: parse_agent_name("alice"))

    @classmethod
    @asynccontextmanager
    async def open(
        cls, name: RuntimeName, directory: Path, environ: Mapping[str, str] = os.environ
    ) -> AsyncIterator["RuntimeKit"]:
        """A kit in an empty directory; leaves no process behind."""
        paths = await anyio.to_thread.run_sync(Paths.of, directory / "hive")
        await anyio.to_thread.run_sync(paths.make_hive)
        work = anyio.Path(directory / "work")
        await work.mkdir()
        runtime = await pick_runtime(name, paths, environ)
        try:
            yield cls(runtime=runtime, paths=paths, work=Path(work))
        finally:
            await runtime.aclose()

    async def start(
        self,
        *argv: str,
        agent: AgentName | None = None,
        env: Mapping[str, str] = ENV,
        cwd: str | None = None,
        mounts: Sequence[MountSetting] = (),
        limits: ResourceLimits | None = None,
        network: Network = "none",
        readable: Sequence[Path] = (),
    ) -> ChildProcess:
        """Starts a program of an agent, whose directories are made first."""
        agent = agent or self.agent
        await anyio.to_thread.run_sync(self.paths.make_agent, agent)
        launcher = self.runtime.launcher(
            agent, mounts=mounts, limits=limits or ResourceLimits(), network=network
        )
        return await launcher.launch(argv, env, cwd=cwd, readable=readable)

    async def shell(self, script: str, **how: object) -> "Ended":
        """Runs a shell script to its end."""
        child = await self.start("/bin/sh", "-c", script, **how)  # type: ignore[arg-type]
        return await finish(child)

    def seen(self, mount: MountSetting) -> str:
        """The path at which an agent finds a mount."""
        return mount.target if self.runtime.isolated else mount.source


@dataclass(frozen=True)
class Ended:
    """How a program ended, and all that it wrote."""

    code: int
    out: str
    err: str


async def finish(child: ChildProcess, stdin: bytes = b"") -> Ended:
    """Feeds a program, reads all it writes, and waits for its end."""
    texts: dict[str, bytes] = {}

    async def read(name: str, stream: ByteReceiveStream) -> None:
        texts[name] = b"".join([chunk async for chunk in stream])

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, "out", child.stdout)
            tasks.start_soon(read, "err", child.stderr)
            if stdin:
                await child.stdin.send(stdin)
            await child.stdin.aclose()
        code = await child.wait()
    await child.aclose()
    return Ended(code, texts["out"].decode(), texts["err"].decode())


async def read_until(stream: ByteReceiveStream, word: bytes) -> bytes:
    """What a program writes, up to and with `word`."""
    text = b""
    with anyio.fail_after(SECONDS):
        while word not in text:
            text += await stream.receive()
    return text


def new_nap() -> str:
    """A number of seconds for `sleep` that nobody else sleeps for: it finds the sleeper again, wherever it went."""
    return f"{600 + next(_numbers)}.{os.getpid()}"


def sleepers(nap: str) -> list[int]:
    """Living processes that sleep for exactly this."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] in ([b"sleep", nap.encode()], [b"/bin/sleep", nap.encode()]):
            found.append(int(process.name))
    return found


async def until_sleeping(nap: str, number: int) -> None:
    """Waits until so many sleep for this: nobody tells of the end of another's child, nor of its beginning."""
    with anyio.fail_after(10):
        while len(await anyio.to_thread.run_sync(sleepers, nap)) != number:  # noqa: ASYNC110 - as the docstring says
            await anyio.sleep(0.01)


async def until_gone(nap: str) -> None:
    """Waits until nobody sleeps for this any more."""
    await until_sleeping(nap, 0)


# --- a hive to be killed ---


class DoomedHive:
    """Another process that is a hive over the same directories, and has programs with strays running."""

    def __init__(self, process: Process, payload: int) -> None:
        self.process = process
        self.payload = payload
        """The pid of its first program."""

    @classmethod
    async def start(cls, kit: RuntimeKit, nap: str, *, busy: bool = False) -> "DoomedHive":
        """Starts it. `busy`: it goes on starting programs, one after the other."""
        program = f"from {__name__} import doomed; doomed()"
        arguments = [kit.runtime.name, str(kit.paths.state_dir), kit.agent, nap, "busy" * busy]
        process = await anyio.open_process([sys.executable, "-c", program, *arguments], stderr=None)
        if process.stdout is None:
            raise AssertionError("no pipe")
        return cls(process, int(await read_until(process.stdout, b"\n")))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.kill()

    @property
    def supervisor(self) -> int:
        """The pid of what stands over its first program: the child of the hive above it."""
        pid, parent = self.payload, _parent(self.payload)
        while parent not in {self.process.pid, 1}:
            pid, parent = parent, _parent(parent)
        return pid

    async def kill(self) -> None:
        """Kills it, however often it is called."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self.process.aclose()

    async def kill_at_some_moment(self) -> None:
        """Lets it work on for up to a tenth of a second first."""
        await anyio.sleep(random.uniform(0, 0.1))  # noqa: S311 - no secret
        await self.kill()


def doomed() -> None:
    """The program of `DoomedHive`: starts a program with strays, tells its pid, and waits to be killed."""
    name, state, agent, nap, busy = sys.argv[1:]

    async def live() -> None:
        paths = Paths.of(Path(state))
        runtime = await pick_runtime(name, paths, os.environ)  # type: ignore[arg-type]
        kit = RuntimeKit(runtime=runtime, paths=paths, work=Path(), agent=parse_agent_name(agent))
        script = f"setsid sleep {nap} & env -i /bin/sleep {nap} & echo ready; sleep {nap}"
        kept = [await kit.start("/bin/sh", "-c", script)]
        await read_until(kept[0].stdout, b"ready\n")
        os.write(1, b"%d\n" % kept[0].pid)
        while busy:
            kept.append(await kit.start("/bin/sh", "-c", script))
        await anyio.sleep_forever()

    anyio.run(live)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[1])
