"""The containers of the agents themselves under `nspawn`: made, found again, and ended. One an agent, with its harness.

They outlive the core. Nothing is written down about which there are: a container is found by the mark that all in it
bear, which follows from the agent's range of user ids; and what it was started as by its keeper's environment. What one
is made of stands in `nspawn_lodging`.
"""

import os
import resource
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from hyperhive.agent_cli import AgentClis
from hyperhive.config import Network
from hyperhive.errors import HiveError, MissingPart, WorldError
from hyperhive.lifecycle.mounts import check_mounts
from hyperhive.lifecycle.runtimes import nspawn_lodging as lodgings
from hyperhive.lifecycle.runtimes import wrapper
from hyperhive.lifecycle.runtimes.base import Lodging, Marks
from hyperhive.lifecycle.runtimes.detached import start_detached
from hyperhive.lifecycle.runtimes.handed_settings import hand_over, settings_file
from hyperhive.lifecycle.runtimes.inside import AGENT_UID
from hyperhive.lifecycle.runtimes.launch import Plan
from hyperhive.lifecycle.runtimes.limiter import Fence, Limiter
from hyperhive.lifecycle.runtimes.nspawn_base import PYTHON
from hyperhive.lifecycle.runtimes.nspawn_command import (
    ContainerPlan,
    container_arguments,
    etc_files,
    make_root,
)
from hyperhive.lifecycle.runtimes.pasta import HOW_TO_GET, Pasta, hidden_resolver
from hyperhive.lifecycle.runtimes.uid_ranges import FIRST, RANGE, UidRanges
from hyperhive.names import AgentName
from hyperhive.paths import Paths, make_private, make_private_file

T = TypeVar("T")

STARTED_AS: Final = "HYPERHIVE_CONTAINER"
"""In the environment of a container's keeper: what the container was started as."""
OPEN_FILES: Final = 4096
LOG_KEPT: Final = 1 << 20
"""A harness's log that is larger than this is begun anew, also while its container runs; the one before it is kept."""
TAIL_BYTES: Final = 16384


@dataclass(frozen=True, slots=True)
class Making:
    """What this machine makes containers with."""

    program: str
    base: Path
    entry: str
    close_abstract: bool
    pasta: Pasta | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A container as it should be. `identity`: of what it is started anew for; `cli`: of what can wait for that."""

    identity: str
    cli: str
    first: int
    shown: Sequence[lodgings.Shown]
    env: Mapping[str, str]
    network: Network

    @property
    def started_as(self) -> str:
        """What the keeper's environment says."""
        return f"{self.identity} {self.cli}"

    def is_lived_in(self, running: str | None) -> bool:
        """Whether one that was started as `running` may go on."""
        return running is not None and running.partition(" ")[0] == self.identity


class NspawnContainers:
    """One hive's. `owner`: as in `pick_runtime`."""

    def __init__(
        self, paths: Paths, environ: Mapping[str, str], ranges: UidRanges, *, owner: str = ""
    ) -> None:
        self._paths = paths
        self._environ = environ
        self._ranges = ranges
        self._marks = Marks(paths.state_dir / owner / "containers")
        self._roots = paths.run_dir / "nspawn" / self._marks.hive
        self._clis = AgentClis(environ, paths.state_dir)
        self._turns: dict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._limiter: Limiter | None = None

    @property
    def limiter(self) -> Limiter:
        """The means by which limits are held.

        Raises:
            WorldError: `check` has not run.
        """
        if self._limiter is None:
            raise WorldError("the runtime was not checked before use")
        return self._limiter

    async def check(self) -> None:
        """Finds out how limits can be held here."""
        if self._limiter is None:
            self._limiter = await Limiter.detect(self._marks.hive, self._environ, outlives=True)

    # --- what runs --------------------------------------------------------------------------------------------------

    def mark(self, agent: AgentName) -> int:
        """Of everything in the agent's container that the harness has not marked itself. Blocks."""
        slot = (self._ranges.first(agent) - FIRST) // RANGE
        return self._marks.any | slot << wrapper.LAUNCH_BITS

    async def running(self, agent: AgentName) -> str | None:
        """What its container was started as; None where none runs."""
        return await _in_thread(partial(self._running, agent))

    def _running(self, agent: AgentName) -> str | None:
        told = os.fsencode(STARTED_AS) + b"="
        for pid in wrapper.marked(self.mark(agent)):
            try:
                words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            for word in words:
                if word.startswith(told):
                    return word.removeprefix(told).decode()
        return None

    async def up(self, agent: AgentName, lodging: Lodging, making: Making) -> bool:
        """See `base.Containers`."""
        async with self._turns[agent]:
            wanted = await self._wanted(agent, lodging, making)
            await _in_thread(partial(hand_over, self._paths, agent, lodging))
            running = await self.running(agent)
            if wanted.is_lived_in(running):
                return running != wanted.started_as
            await self._end(agent)
            if lodging.network == "out" and making.pasta is None:
                raise MissingPart(
                    f"{agent} needs a network of its own, and pasta is not installed", hint=HOW_TO_GET
                )
            try:
                await self._start(agent, lodging, wanted, making)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._end(agent)
                raise
        return False

    async def hand_over(self, agent: AgentName, lodging: Lodging, making: Making) -> bool:
        """See `base.Containers`."""
        await _in_thread(partial(hand_over, self._paths, agent, lodging))
        running = await self.running(agent)
        try:
            return running not in {None, (await self._wanted(agent, lodging, making)).started_as}
        except HiveError:  # a mount that is refused, say: whoever starts it is told
            return running is not None

    async def changes(self, agent: AgentName, lodging: Lodging, making: Making) -> bool:
        """Whether `up` would start it anew.

        Raises:
            BadConfig: a mount is refused. MissingPart: there is no agent CLI.
        """
        wanted = await self._wanted(agent, lodging, making)
        return not wanted.is_lived_in(await self.running(agent))

    async def down(self, agent: AgentName) -> None:
        """Ends it and all in it. Idempotent.

        Raises:
            WorldError: something would not die.
        """
        async with self._turns[agent]:
            await self._end(agent)

    async def remove(self, agent: AgentName) -> None:
        """See `base.Containers`."""
        await self.down(agent)

        def clear() -> None:
            shutil.rmtree(self._roots / agent, ignore_errors=True)
            settings_file(self._paths, agent).unlink(missing_ok=True)
            for log in (self.log(agent), self._older(agent)):
                log.unlink(missing_ok=True)

        await _in_thread(clear)

    async def keep_only(self, agents: Collection[AgentName]) -> None:
        """See `base.Containers`. To be called before any is brought up."""

        def work() -> list[int]:
            kept = {self.mark(agent) for agent in agents}
            found = {wrapper.mark_of(pid) for pid in wrapper.marked(self._marks.any, wrapper.ONE_HIVE)}
            left = [pid for mark in found - kept - {0} for pid in wrapper.kill_marked(mark)]
            self.limiter.cgroups.sweep(agents)
            for root in self._roots.iterdir() if self._roots.is_dir() else ():
                if root.name not in agents:
                    shutil.rmtree(root, ignore_errors=True)
            return left

        if left := await _in_thread(work):
            raise WorldError(f"processes {left} of containers do not end although they were killed")

    async def _end(self, agent: AgentName) -> None:
        def work() -> list[int]:
            left = wrapper.kill_marked(self.mark(agent))
            self.limiter.release(agent)
            return left

        if left := await _in_thread(work):
            raise WorldError(f"processes {left} of {agent} do not end although they were killed")

    # --- its log ----------------------------------------------------------------------------------------------------

    def log(self, agent: AgentName) -> Path:
        """Where its harness writes."""
        return self._paths.log / f"harness-{agent}.log"

    def _older(self, agent: AgentName) -> Path:
        return self.log(agent).with_suffix(".log.1")

    async def log_tail(self, agent: AgentName, lines: int) -> list[str]:
        """What its harness wrote last, oldest first."""

        def read() -> list[str]:
            try:
                with self.log(agent).open("rb") as file:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                    return file.read(TAIL_BYTES).decode(errors="replace").splitlines()[-lines:]
            except FileNotFoundError:
                return []

        return await _in_thread(read)

    async def trim_logs(self) -> None:
        """See `base.Containers`. Their writers append, so they go on at what is then the end; a line may be lost."""

        def work() -> None:
            for log in self._paths.log.glob("harness-*.log"):
                with log.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    if size <= LOG_KEPT:
                        continue
                    file.seek(size - LOG_KEPT)
                    older = log.with_suffix(".log.1")
                    make_private_file(older)
                    older.write_bytes(file.read(LOG_KEPT).partition(b"\n")[2])
                os.truncate(log, 0)

        await _in_thread(work)

    # --- making one -------------------------------------------------------------------------------------------------

    async def _wanted(self, agent: AgentName, lodging: Lodging, making: Making) -> Wanted:
        cli = (await self._clis.find()).path

        def judge() -> Wanted:
            self._paths.check_agent(agent)
            mounts = check_mounts(lodging.mounts, self._paths, shared=lodging.shared)
            shown = list(lodgings.shown(self._paths, agent, mounts, cli))
            env = lodgings.harness_environment(self._environ)
            kept = [one for one in shown if one.source != cli]  # a newer one is taken at the next start
            parts = ([(one.source, one.targets, one.writable) for one in kept], env, making.base)
            identity = lodgings.digest(*parts, lodging.limits, lodging.network)
            first = self._ranges.first(agent)
            return Wanted(identity, lodgings.digest(cli), first, shown, env, lodging.network)

        return await _in_thread(judge)

    async def _start(self, agent: AgentName, lodging: Lodging, wanted: Wanted, making: Making) -> None:
        fence = await _in_thread(partial(self.limiter.fence, agent, lodging.limits))
        way_out = (
            [] if wanted.network != "out" or making.pasta is None else await _in_thread(making.pasta.command)
        )
        mark = await _in_thread(partial(self.mark, agent))
        aside, command = await _in_thread(
            partial(self._command, agent, wanted, making, fence, mark, lodging.limits.memory // 2)
        )
        plan = Plan(
            argv=lodgings.harness_command(agent),
            env=wanted.env,
            cwd="/",
            mark=mark,
            prefix=fence.prefix,
            cgroups=fence.cgroups,
            rlimits=fence.rlimits,
            close_abstract=making.close_abstract and wanted.network == "host",
            program=agent,
            container=command,
            aside=aside,
        )
        await _in_thread(partial(self._begin_log, agent))
        await start_detached(
            plan,
            Path(wrapper.__file__).with_name("nspawn_keeper.py"),
            log=self.log(agent),
            env={STARTED_AS: wanted.started_as},
            shown=[(place, lodgings.VIEW + place) for place in ("/proc", "/dev")],
            way_out=way_out,
        )

    def _command(
        self, agent: AgentName, wanted: Wanted, making: Making, fence: Fence, mark: int, tmp_bytes: int
    ) -> tuple[list[tuple[str, str, str, str]], list[str]]:
        """What is mounted aside, and the command that makes the container of it. Blocks."""
        resolver = hidden_resolver() if wanted.network == "out" else None
        if resolver is None:
            resolver = _machines_resolver()
        make_private(self._roots / agent)
        machine = list(lodgings.machine_binds(self._environ))
        true = [*lodgings.true_binds(wanted.shown), *machine]
        etc = etc_files(agent, resolver, uid=AGENT_UID)
        root, base = make_root(self._roots / agent, making.base, true, etc)
        aside, binds = lodgings.staged(wanted.shown, wanted.first)
        files = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        plan = ContainerPlan(
            machine=f"hive-{mark:x}",
            hostname=agent,
            root=root,
            binds=[*base, *binds, *machine],
            first_uid=wanted.first,
            mark=mark,
            rlimits=tuple({**dict(fence.rlimits), resource.RLIMIT_NOFILE: files}.items()),
            tmp_bytes=max(tmp_bytes, 1 << 20),
            own_network=wanted.network != "host",
            capabilities=lodgings.CAPABILITIES,
            memory_dirs=lodgings.MEMORY,
        )
        entry = ("/" + PYTHON, "-ISB", "-c", making.entry, lodgings.VIEW, *lodgings.links())
        return aside, [making.program, *container_arguments(plan), "--", *entry]

    def _begin_log(self, agent: AgentName) -> None:
        log = self.log(agent)
        if log.exists() and log.stat().st_size > LOG_KEPT:
            log.replace(self._older(agent))


def _machines_resolver() -> bytes | None:
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:
        return None


async def _in_thread(work: Callable[[], T]) -> T:
    """Work on files. Raises: WorldError: they cannot be read or written."""
    try:
        return await anyio.to_thread.run_sync(work)
    except OSError as error:
        raise WorldError(f"{error.filename} cannot be read or written: {error.strerror}") from error
