"""Runtime `bwrap`: each program of an agent in a bubblewrap box of its own, without root.

In the box are the agent's own directories, what the operator mounts, and a read-only /usr: see `bwrap_command`. Its
network is none, one of its own with a way out (`pasta`), or the host's.
"""

import ctypes
import os
import shutil
import stat
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from hyperhive.config import MountSetting, Network, RuntimeName
from hyperhive.errors import BadConfig, MissingPart, WorldError
from hyperhive.lifecycle.runtimes import bwrap_command
from hyperhive.lifecycle.runtimes.base import Marks
from hyperhive.lifecycle.runtimes.box_launcher import BoxLauncher
from hyperhive.lifecycle.runtimes.bwrap_command import BoxFds, BoxPlan, box_arguments, shown_to_all
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.launch import BoxedProcess, Plan, launch, memory_file
from hyperhive.lifecycle.runtimes.limiter import Fence, Limiter
from hyperhive.lifecycle.runtimes.pasta import HOW_TO_GET, Pasta, hidden_resolver
from hyperhive.lifecycle.runtimes.process import find_program, release, sweep
from hyperhive.lifecycle.runtimes.seccomp import filter_program
from hyperhive.names import AgentName
from hyperhive.paths import Paths

_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_VERSION: Final = 1
_LANDLOCK_SCOPES_SINCE: Final = 6

_PROBE: Final = (
    "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--uid", "1000", "--gid", "1000",
    "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """What this machine's bubblewrap and kernel can do."""

    program: str
    disable_userns: bool
    bind_fd: bool
    """It binds what a descriptor stands for."""
    close_abstract: bool
    limiter: Limiter
    pasta: Pasta | None


class BwrapRuntime:
    """Bubblewrap boxes; see `hyperhive.lifecycle.runtimes.base.Runtime` for the contract."""

    name: RuntimeName = "bwrap"
    isolation = "bwrap"
    isolated = True

    def __init__(self, paths: Paths, environ: Mapping[str, str], *, owner: str = "") -> None:
        self._paths = paths
        self._environ = environ
        self._marks = Marks(paths.state_dir / owner)
        self._filter = filter_program()
        self._found: Found | None = None

    @property
    def found(self) -> Found:
        """What `check` found.

        Raises:
            WorldError: `check` has not run.
        """
        if self._found is None:
            raise WorldError("the runtime was not checked before use")
        return self._found

    @property
    def unenforced(self) -> Sequence[str]:
        """Names of resource limits that are not held on this machine."""
        return self.found.limiter.unenforced

    @property
    def cautions(self) -> Sequence[str]:
        """What the boxes do not keep apart here."""
        said = []
        if self.found.pasta is None:
            said.append(
                "pasta is not installed: agents that need a network and are not given the host's cannot work"
            )
        if not self.found.disable_userns:
            said.append("programs in a box can make user namespaces of their own (bubblewrap 0.8 forbids it)")
        if self._filter is None:
            said.append("no system call filter is known for this machine")
        return said

    async def check(self) -> None:
        """Finds bubblewrap and tries it out.

        Raises:
            MissingPart: not installed, or the machine does not let it work.
            BadConfig: the hive's own directories lie in what every box shows.
        """
        if self._found is not None:
            return
        await anyio.to_thread.run_sync(_check_place, self._paths)
        program = await anyio.to_thread.run_sync(_find, self._environ.get("PATH", "/usr/bin:/bin"))
        disable = await _works(program, ("--disable-userns",)) is None
        if not disable and (said := await _works(program, ())) is not None:
            raise MissingPart(
                f"bubblewrap cannot make a box here: {said}",
                hint="user namespaces must be allowed: sysctl kernel.unprivileged_userns_clone=1, "
                "or kernel.apparmor_restrict_unprivileged_userns=0, or the package's own AppArmor profile",
            )
        self._found = Found(
            program=program,
            disable_userns=disable,
            bind_fd=await _knows(program, "--ro-bind-fd"),
            close_abstract=await anyio.to_thread.run_sync(can_close_abstract, program),
            limiter=await Limiter.detect(self._marks.hive, self._environ),
            pasta=await anyio.to_thread.run_sync(self._find_pasta),
        )

    async def sweep(self) -> None:
        """Kills every process of an earlier life of this hive."""
        await sweep(self._marks, self.found.limiter)

    def launcher(
        self,
        agent: AgentName,
        *,
        mounts: Sequence[MountSetting],
        limits: ResourceLimits,
        network: Network,
        shared: Sequence[Path] = (),
    ) -> "BwrapLauncher":
        """The launcher of one agent."""
        return BwrapLauncher(
            runtime=self,
            paths=self._paths,
            agent=agent,
            mounts=mounts,
            limits=limits,
            network=network,
            shared=shared,
        )

    async def release(self, agent: AgentName) -> None:
        """Removes what a stopped agent left."""
        await release(self._marks, self.found.limiter, agent)

    async def aclose(self) -> None:
        """Ends whatever still runs."""
        if self._found is not None:
            await self.sweep()

    def _prepare(
        self, box: BoxPlan, limits: ResourceLimits, network: Network, gate: int | None
    ) -> tuple[Fence, list[int]]:
        """The agent's groups, and the descriptors that the box is made from; the first is the arguments'. Blocks.

        `gate` is one of them, and is closed where it comes not so far.
        """
        fds = _MemoryFiles()
        try:
            if gate is not None:
                fds.all.append(gate)
            fence = self.found.limiter.fence(box.agent, limits)
            resolver = hidden_resolver() if network == "out" else None
            files = BoxFds(
                passwd=fds.add("passwd", bwrap_command.PASSWD.encode()),
                group=fds.add("group", bwrap_command.GROUP.encode()),
                hosts=fds.add("hosts", bwrap_command.hosts_file(box.agent).encode()),
                nsswitch=fds.add("nsswitch", bwrap_command.NSSWITCH.encode()),
                seccomp=None if self._filter is None else fds.add("seccomp", self._filter),
                gate=gate,
                resolver=None if resolver is None else fds.add("resolver", resolver),
            )
            arguments = b"".join(os.fsencode(word) + b"\0" for word in box_arguments(box, files))
            return fence, [fds.add("args", arguments), *fds.all[:-1]]
        except BaseException:
            fds.close()
            raise

    async def run(
        self,
        box: BoxPlan,
        limits: ResourceLimits,
        network: Network,
        argv: Sequence[str],
        env: Mapping[str, str],
    ) -> BoxedProcess:
        """Starts one program in a new box; what `BwrapLauncher.launch` does."""
        found = self.found
        mark = self._marks.next(box.agent)
        if network != "out":
            fence, fds = await anyio.to_thread.run_sync(self._prepare, box, limits, network, None)
            return await launch(self._launch_plan(fence, fds, argv, env, mark))
        pasta = found.pasta or await anyio.to_thread.run_sync(
            self._find_pasta
        )  # it may have been installed since
        if pasta is None:
            raise MissingPart(
                f"{box.agent} needs a network of its own, and pasta is not installed", hint=HOW_TO_GET
            )
        closed, opener = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(opener, False)
        try:
            fence, fds = await anyio.to_thread.run_sync(self._prepare, box, limits, network, closed)

            async def join(pid: int) -> BoxedProcess:
                companion = await pasta.join(pid, mark=mark, fence=fence)
                os.write(opener, b"x")
                return companion

            return await launch(self._launch_plan(fence, fds, argv, env, mark, gate=join))
        finally:
            os.close(opener)

    def _find_pasta(self) -> Pasta | None:
        return Pasta.find(self._environ.get("PATH", "/usr/bin:/bin"))

    def _launch_plan(
        self,
        fence: Fence,
        fds: list[int],
        argv: Sequence[str],
        env: Mapping[str, str],
        mark: int,
        gate: Callable[[int], Awaitable[BoxedProcess | None]] | None = None,
    ) -> Plan:
        found = self.found
        return Plan(
            argv=[found.program, "--args", str(fds[0]), "--", *argv],
            env=env,
            cwd="/",
            mark=mark,
            prefix=fence.prefix,
            cgroups=fence.cgroups,
            rlimits=fence.rlimits,
            close_abstract=found.close_abstract,
            fds=fds,
            status_flag="--json-status-fd",
            gate=gate,
            program=argv[0],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class BwrapLauncher(BoxLauncher):
    """Starts each program in a box of its own."""

    runtime: BwrapRuntime

    @property
    def isolation(self) -> str:
        """`bwrap`."""
        return self.runtime.isolation

    async def launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str | None = None,
        readable: Sequence[Path] = (),
    ) -> BoxedProcess:
        """Starts a program in a box; see `hyperhive.ports.Launcher`."""
        box = await anyio.to_thread.run_sync(self._plan, argv[0], readable, cwd)
        return await self.runtime.run(box, self.limits, self.network, argv, env)

    def _plan(self, program: str, readable: Sequence[Path], cwd: str | None) -> BoxPlan:
        """What this launch's box shows. Blocks."""
        mounts = self.judge(readable)
        if not any(str(path) == program for path in readable):
            find_program(program, {"PATH": "/usr/local/bin:/usr/bin:/bin"})
        return BoxPlan(
            agent=self.agent,
            paths=self.paths,
            mounts=mounts,
            readable=readable,
            cwd=cwd or self.box.state,
            tmp_bytes=max(self.limits.memory // 2, 1 << 20),
            disable_userns=self.runtime.found.disable_userns,
            own_network=self.network != "host",
            proposed=self.proposed(),
        )


class _MemoryFiles:
    """Descriptors to hand on. `launch` closes them; `close` is for when it comes not so far."""

    def __init__(self) -> None:
        self.all: list[int] = []

    def add(self, name: str, content: bytes) -> int:
        self.all.append(memory_file(name, content))
        return self.all[-1]

    def close(self) -> None:
        for fd in self.all:
            os.close(fd)


async def _works(program: str, more: tuple[str, ...]) -> str | None:
    """Tries a box; None when it worked, else what bubblewrap said."""
    done = await anyio.run_process([program, *_PROBE, *more, "--", "/bin/true"], check=False, env={})
    if done.returncode == 0:
        return None
    return done.stderr.decode(errors="replace").strip() or f"it ended with {done.returncode}"


async def _knows(program: str, option: str) -> bool:
    done = await anyio.run_process([program, "--help"], check=False, env={}, stderr=subprocess.STDOUT)
    return option.encode() in done.stdout


def _check_place(paths: Paths) -> None:
    faults = [
        f"{own} is no place for a hive: {shown} is shown to every agent"
        for own in (paths.state_dir.resolve(), paths.run_dir.resolve())
        for shown in shown_to_all()
        if own.is_relative_to(shown)
    ]
    if faults:
        raise BadConfig(faults, hint="choose another state directory with HYPERHIVE_STATE_DIR or --state-dir")


def _find(path: str) -> str:
    program = shutil.which("bwrap", path=path)
    if program is None:
        raise MissingPart(
            "bubblewrap is not installed, and agents live in its boxes",
            hint="install the package bubblewrap; HYPERHIVE_RUNTIME=process runs agents without any isolation",
        )
    return str(Path(program).absolute())


def can_close_abstract(program: str) -> bool:
    """Whether Landlock has scopes here, and bubblewrap works without the privilege that it would lose by them."""
    if Path(program).stat().st_mode & stat.S_ISUID:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    return int(version) >= _LANDLOCK_SCOPES_SINCE
