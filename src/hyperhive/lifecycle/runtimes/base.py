"""What a runtime is: the port that `Lifecycle` speaks to, and what the runtimes share.

A runtime is what an agent lives in. It starts programs and cleans up after them; when an agent runs is not its affair.
"""

import hashlib
import itertools
import os
import resource
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from hyperhive.accounts import Account
from hyperhive.config import AgentConfig, HiveFile, MountSetting, Network, RuntimeName
from hyperhive.lifecycle.runtimes import wrapper
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.names import AgentName
from hyperhive.ports import Launcher


class Runtime(Protocol):
    """What agents live in.

    Contract: `check` comes first and makes the rest possible; `sweep` once, before any launch; `launcher` starts
    nothing; `release` after an agent's stop leaves nothing of it behind (processes, control groups); `aclose` leaves
    nothing of the hive. All idempotent.
    """

    @property
    def name(self) -> RuntimeName:
        """`process` or `bwrap`: what `HYPERHIVE_RUNTIME` calls it."""
        ...

    @property
    def isolation(self) -> str:
        """What every screen says of it: `none`, or the name of what isolates."""
        ...

    @property
    def isolated(self) -> bool:
        """Whether agents see box paths (`/state`) rather than the host's."""
        ...

    @property
    def unenforced(self) -> Sequence[str]:
        """Names of resource limits that are not held on this machine."""
        ...

    @property
    def cautions(self) -> Sequence[str]:
        """Plain sentences on what this runtime does not keep apart, for `status`."""
        ...

    async def check(self) -> None:
        """Finds out whether and how this runtime works here.

        Raises:
            MissingPart: it does not; the hint names the package or the setting.
        """
        ...

    async def sweep(self) -> None:
        """Kills every process of an earlier life of this hive, however it was orphaned."""
        ...

    def launcher(
        self,
        agent: AgentName,
        *,
        mounts: Sequence[MountSetting],
        limits: ResourceLimits,
        network: Network,
        shared: Sequence[Path] = (),
    ) -> Launcher:
        """The launcher of one agent. Mounts are judged at each launch, which raises BadConfig where one is refused.

        `network`: what its programs reach; a runtime that isolates nothing has no say in that. `shared`: what other
        agents can write; no mount may lead through it.
        """
        ...

    async def release(self, agent: AgentName) -> None:
        """Removes what a stopped agent left: processes and control groups."""
        ...

    async def aclose(self) -> None:
        """Ends whatever of this hive still runs, and removes its control groups."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lodging:
    """What an agent's container is made of: its settings as they are in force at one of its starts."""

    config: AgentConfig
    """The operator's own settings of it."""
    file: HiveFile
    """How the hive behaves."""
    mounts: Sequence[MountSetting] = ()
    limits: ResourceLimits
    network: Network
    shared: Sequence[Path] = ()
    """What other agents can write; no mount may lead through it."""

    commit: str | None = None
    """Of the agent's config repo; None before it has one."""

    account: Account | None = None
    """What the agent's CLI authenticates by, where no gateway adds that outside of the container."""


@runtime_checkable
class Containers(Protocol):
    """What a runtime can do, beside `Runtime`, in whose boxes the harness lives too (`hyperhive agent serve`).

    That harness dials the hive's harness socket, whose directory the container has at /run/hive-harness; the core never
    connects into a container. Contract: a container outlives the core; `sweep` and `aclose` leave those of agents
    alone, and the next core's `up` finds them. `Runtime.release` takes a container down, `up` brings it up. The runtime
    acts on nothing that does not bear its hive's mark. All idempotent.
    """

    async def admit(self, agent: AgentName) -> None:
        """There can be such an agent here; asked before anything of it is made.

        Raises:
            InvalidName: the name cannot be a container's.
            Conflict: something of that name is there and not this hive's (code `foreign`).
        """
        ...

    async def build(self, agent: AgentName, lodging: Lodging) -> bool:
        """What `up` would need for this is there then. Nothing of the running agent changes.

        Returns whether `up` would start it anew.

        Raises:
            HiveError: it cannot be built, and why.
        """
        ...

    async def up(self, agent: AgentName, lodging: Lodging) -> bool:
        """The container runs as `lodging` says, and its harness is on its way to the harness socket.

        One that runs so already goes on undisturbed; one that runs otherwise is started anew. Returns whether one goes
        on with what need not be taken at once (an older agent CLI): what it would take if it were started anew.

        Raises:
            HiveError: it cannot be built or started, and why; nothing runs then.
        """
        ...

    async def hand_over(self, agent: AgentName, lodging: Lodging) -> bool:
        """What its harness reads of this lodging is written anew; the harness is not told.

        Returns whether a container runs that would take more if it were started anew: mounts, limits, an agent CLI.

        Raises:
            HiveError: it cannot be written.
        """
        ...

    async def log_tail(self, agent: AgentName, lines: int) -> Sequence[str]:
        """The last lines that its harness wrote, oldest first; also while it is down. What cannot be read is empty."""
        ...

    async def trim_logs(self) -> None:
        """What harnesses that run have written is cut to what anybody will read. To be called now and then.

        Raises:
            WorldError: a file cannot be read or written.
        """
        ...

    async def keep_only(self, agents: Collection[AgentName]) -> None:
        """Takes down every container of this hive's but those of these agents; also of whom nobody knows any more.

        Raises:
            WorldError: one does not stop; the others do.
        """
        ...

    async def remove(self, agent: AgentName) -> None:
        """Takes it down, and leaves nothing of the runtime behind (containers, drop-ins, networks). State stays."""
        ...


class Marks:
    """Marks of one hive's launches (see `wrapper`): the hive's own part, a number for each agent, and a counter.

    A hive that runs inside an agent of another hive bears a mark itself, and without privilege a mark can only be
    lowered: each such level uses the next lower bit.
    """

    def __init__(self, state_dir: Path) -> None:
        inherited = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
        top = wrapper.MARK_BIT if inherited == resource.RLIM_INFINITY else 1 << (inherited.bit_length() - 2)
        identity = f"{os.fsdecode(state_dir)}\0{os.geteuid()}".encode()
        digest = int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest())
        self._base = top | digest % (top >> wrapper.ONE_HIVE) << wrapper.ONE_HIVE
        self._agents: dict[str, int] = {}
        self._counter: Iterator[int] = itertools.count(1)
        self.hive = f"{digest:016x}"

    @property
    def any(self) -> int:
        """Stands for all of the hive's marks."""
        return self._base

    def of(self, agent: str) -> int | None:
        """Stands for all marks of an agent in this process; None where it never started a program."""
        number = self._agents.get(agent)
        return None if number is None else self._base | number << wrapper.LAUNCH_BITS

    def next(self, agent: str) -> int:
        """The mark of an agent's next launch."""
        number = self._agents.setdefault(agent, len(self._agents) % (1 << wrapper.AGENT_BITS))
        launch = next(self._counter) % (1 << wrapper.LAUNCH_BITS)
        return self._base | number << wrapper.LAUNCH_BITS | launch
