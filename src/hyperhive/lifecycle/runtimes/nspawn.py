"""Runtime `nspawn`: each agent and its harness in a systemd-nspawn container of their own, made by root.

All agents share one read-only base; each has 65536 user ids of the machine to itself, so that whoever looks from
outside (a socket's peer, `ps`) sees whose program it is. It needs no systemd on the machine. See `nspawn_containers`
for the agents' containers. What the hive itself runs as an agent (git, in a repo that the agent can write) runs in a
box: a container of its own over the same base, see `nspawn_command` and `nspawn_wrapper`.
"""

import os
import resource
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from hyperhive.config import MountSetting, Network, RuntimeName
from hyperhive.errors import MissingPart, WorldError
from hyperhive.lifecycle.runtimes import nspawn_entry
from hyperhive.lifecycle.runtimes.base import Lodging, Marks
from hyperhive.lifecycle.runtimes.bwrap import can_close_abstract
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.launch import BoxedProcess, Plan, launch
from hyperhive.lifecycle.runtimes.limiter import Fence, Limiter
from hyperhive.lifecycle.runtimes.nspawn_base import PYTHON, base_place, check_base
from hyperhive.lifecycle.runtimes.nspawn_command import (
    Bind,
    ContainerPlan,
    Contents,
    container_arguments,
    etc_files,
    make_root,
    staged,
)
from hyperhive.lifecycle.runtimes.nspawn_containers import Making, NspawnContainers
from hyperhive.lifecycle.runtimes.nspawn_launcher import NspawnLauncher
from hyperhive.lifecycle.runtimes.pasta import HOW_TO_GET, Pasta, hidden_resolver
from hyperhive.lifecycle.runtimes.process import release, sweep
from hyperhive.lifecycle.runtimes.uid_ranges import UidRanges
from hyperhive.names import AgentName
from hyperhive.paths import Paths, make_private

_PROBE: Final = "nspawn.probe"  # no agent can have this name
_OPEN_FILES: Final = 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What this machine's nspawn and kernel can do."""

    program: str
    base: Path
    entry: str
    limiter: Limiter
    close_abstract: bool
    pasta: Pasta | None


class NspawnRuntime:
    """nspawn containers; see `hyperhive.lifecycle.runtimes.base.Runtime` for the contract.

    Args:
        base: the setting `nspawn_base`, where there is one.
    """

    name: RuntimeName = "nspawn"
    isolation = "nspawn"
    isolated = True

    def __init__(
        self, paths: Paths, environ: Mapping[str, str], *, owner: str = "", base: str | None = None
    ) -> None:
        self._paths = paths
        self._environ = environ
        self._marks = Marks(paths.state_dir / owner)
        self._base = base_place(paths.state_dir, base, environ)
        self._ranges = UidRanges(paths.nspawn)
        self.containers = NspawnContainers(paths, environ, self._ranges, owner=owner)
        self._roots = paths.run_dir / "nspawn" / self._marks.hive
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
        return self.containers.limiter.unenforced

    @property
    def cautions(self) -> Sequence[str]:
        """What the containers do not keep apart here."""
        if self.found.pasta is None:
            return [
                "pasta is not installed: agents that need a network and are not given the host's cannot work"
            ]
        return []

    async def check(self) -> None:
        """Finds nspawn and the base, and tries a container out.

        Raises:
            MissingPart: one is not there, or the machine does not let them work.
        """
        if self._found is not None:
            return
        if os.geteuid() != 0:
            raise MissingPart(
                "the runtime nspawn needs root", hint="HYPERHIVE_RUNTIME=bwrap isolates without it"
            )
        path = self._environ.get("PATH") or os.defpath
        program = await anyio.to_thread.run_sync(_find, path)
        if program is None:
            raise MissingPart("systemd-nspawn is not installed", hint="install the package systemd-container")
        await anyio.to_thread.run_sync(check_base, self._base)
        self._found = Found(
            program=program,
            base=self._base,
            entry=await anyio.Path(nspawn_entry.__file__).read_text(),
            limiter=await Limiter.detect(self._marks.hive, self._environ),
            close_abstract=await anyio.to_thread.run_sync(can_close_abstract, program),
            pasta=await anyio.to_thread.run_sync(Pasta.find, path),
        )
        await self.containers.check()
        try:
            await self._try_out()
        except BaseException:
            self._found = None
            raise

    async def _try_out(self) -> None:
        await anyio.to_thread.run_sync(self._paths.make_hive)
        binds = [
            Bind(source=self._paths.state_dir / "agents", target="/state"),
            Bind(source=self._paths.run_dir / "agents", target="/run/hive"),
        ]
        limits = ResourceLimits()
        trial = Contents(
            owner=_PROBE, hostname="probe", binds=binds, cwd="/", limits=limits, network="none", names={}
        )
        try:
            child = await self.run(trial, ["/bin/true"], {})
            ended = await child.wait()
            await child.aclose()
            await anyio.to_thread.run_sync(self.found.limiter.release, _PROBE)
        except WorldError as error:
            raise MissingPart(
                f"systemd-nspawn cannot make a container here: {error.message}",
                hint="user namespaces must be allowed, and the state and run directories must lie in file systems "
                "that can map owners (ext4, xfs, btrfs; tmpfs since Linux 6.3)",
            ) from error
        if ended != 0:
            raise MissingPart(f"a program in a container of {self._base} ended with {ended}")

    async def sweep(self) -> None:
        """Kills what an earlier life of this hive left in boxes. Agents' containers outlive the core."""
        await sweep(self._marks, self.found.limiter)
        await anyio.to_thread.run_sync(_remove, self._roots)

    def launcher(
        self,
        agent: AgentName,
        *,
        mounts: Sequence[MountSetting],
        limits: ResourceLimits,
        network: Network,
        shared: Sequence[Path] = (),
    ) -> NspawnLauncher:
        """Starts programs as the agent, outside its container. Its own are started in there, by its harness."""
        return NspawnLauncher(
            run=self.run,
            base=self.found.base,
            paths=self._paths,
            agent=agent,
            mounts=mounts,
            limits=limits,
            network=network,
            shared=shared,
        )

    async def release(self, agent: AgentName) -> None:
        """Takes the agent's container down, and removes what was left in boxes."""
        await self.containers.down(agent)
        await release(self._marks, self.found.limiter, agent)
        await anyio.to_thread.run_sync(_remove, self._roots / agent)

    async def aclose(self) -> None:
        """Ends what runs in boxes. Agents' containers outlive the core."""
        if self._found is not None:
            await self.sweep()

    # --- base.Containers --------------------------------------------------------------------------------------------

    async def admit(self, agent: AgentName) -> None:
        """See `Containers`. Whatever can be an agent's name can be a container's, which is never looked up by it."""

    async def build(self, agent: AgentName, lodging: Lodging) -> bool:
        """See `Containers`. There is nothing to build: the base is what it is."""
        return await self.containers.changes(agent, lodging, self._making)

    async def up(self, agent: AgentName, lodging: Lodging) -> bool:
        """See `Containers`."""
        return await self.containers.up(agent, lodging, self._making)

    async def keep_only(self, agents: Collection[AgentName]) -> None:
        """See `Containers`."""
        await self.containers.keep_only(agents)

    async def remove(self, agent: AgentName) -> None:
        """See `Containers`."""
        await self.containers.remove(agent)

    async def hand_over(self, agent: AgentName, lodging: Lodging) -> bool:
        """See `Containers`."""
        return await self.containers.hand_over(agent, lodging, self._making)

    async def log_tail(self, agent: AgentName, lines: int) -> Sequence[str]:
        """See `Containers`."""
        return await self.containers.log_tail(agent, lines)

    async def trim_logs(self) -> None:
        """See `Containers`."""
        await self.containers.trim_logs()

    @property
    def _making(self) -> Making:
        found = self.found
        return Making(found.program, found.base, found.entry, found.close_abstract, found.pasta)

    # --- boxes ------------------------------------------------------------------------------------------------------

    async def run(
        self, contents: Contents, argv: Sequence[str], env: Mapping[str, str], *, mark: int | None = None
    ) -> BoxedProcess:
        """Starts one program in a new container; what `NspawnLauncher.launch` does. `mark`: one that is not ours."""
        found = self.found
        mark = self._marks.next(contents.owner) if mark is None else mark
        if contents.network == "out" and found.pasta is None:
            raise MissingPart(
                f"{contents.owner} needs a network of its own, and pasta is not installed", hint=HOW_TO_GET
            )
        fence = await anyio.to_thread.run_sync(found.limiter.fence, contents.owner, contents.limits)
        aside, command = await anyio.to_thread.run_sync(self._command, contents, fence, mark)
        plan = Plan(
            argv=[contents.names.get(word, word) for word in argv],
            env={name: contents.names.get(value, value) for name, value in env.items()}
            | {"PWD": contents.cwd},
            cwd=contents.cwd,
            mark=mark,
            prefix=fence.prefix,
            cgroups=fence.cgroups,
            rlimits=fence.rlimits,
            close_abstract=found.close_abstract and contents.network == "host",
            program=argv[0],
            container=command,
            aside=aside,
        )
        if contents.network != "out" or found.pasta is None:
            return await launch(plan)
        return await _launch_joined(plan, found.pasta, fence)

    def _command(
        self, contents: Contents, fence: Fence, mark: int
    ) -> tuple[list[tuple[str, str, str, str]], list[str]]:
        """What is mounted aside, and the command that makes the container, and its root. Blocks."""
        found = self.found
        resolver = hidden_resolver() if contents.network == "out" else None
        if resolver is None:
            resolver = _machines_resolver()
        make_private(self._roots / contents.owner)
        root, machine = make_root(
            self._roots / contents.owner, found.base, contents.binds, etc_files(contents.hostname, resolver)
        )
        aside, binds = staged(contents.binds)
        files = min(_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        plan = ContainerPlan(
            machine=f"hive-{mark:x}",
            hostname=contents.hostname,
            root=root,
            binds=[*machine, *binds],
            first_uid=self._ranges.first(contents.owner),
            mark=mark,
            rlimits=tuple(
                {**dict(fence.rlimits), resource.RLIMIT_NOFILE: files, **dict(contents.rlimits)}.items()
            ),
            tmp_bytes=max(contents.limits.memory // 2, 1 << 20),
            own_network=contents.network != "host",
        )
        entry = ("/" + PYTHON, "-ISB", "-c", found.entry)
        return aside, [found.program, *container_arguments(plan), "--", *entry]


async def _launch_joined(plan: Plan, pasta: Pasta, fence: Fence) -> BoxedProcess:
    """With a network of its own that leads out: the program starts once it does."""
    closed, opener = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(opener, False)

    async def join(pid: int) -> BoxedProcess:
        companion = await pasta.join(pid, mark=plan.mark, fence=fence)
        os.write(opener, b"x")
        return companion

    try:
        return await launch(replace(plan, fds=[closed], gate_fd=closed, gate=join))
    finally:
        os.close(opener)


def _find(path: str) -> str | None:
    program = shutil.which("systemd-nspawn", path=path)
    return None if program is None else str(Path(program).absolute())


def _machines_resolver() -> bytes | None:
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:
        return None


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
