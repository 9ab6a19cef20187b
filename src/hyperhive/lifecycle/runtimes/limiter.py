"""Which means hold an agent's resource limits on this machine, and what they cannot hold.

In this order: control groups that the hive may make, a scope by `systemd-run`, else resource limits of each process.
Every means is tried out before it counts; what is left over is named, never passed over.
"""

import os
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from hyperhive.errors import WorldError
from hyperhive.lifecycle.runtimes.cgroups import CONTROLLERS, Cgroups, ResourceLimits

PROOF_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Fence:
    """What one launch must be given so that the agent's limits hold."""

    prefix: tuple[str, ...]
    cgroups: tuple[str, ...]
    rlimits: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Limiter:
    """Holds the limits of a hive's agents by the means found at `detect`."""

    hive: str
    cgroups: Cgroups
    scope: tuple[str, ...] = ()
    scope_holds: tuple[str, ...] = CONTROLLERS
    """What such a scope can limit here: systemd takes every property, and passes over what the kernel has not."""

    @classmethod
    async def detect(cls, hive: str, environ: Mapping[str, str], *, outlives: bool = False) -> "Limiter":
        """Tries the means out, in order.

        Args:
            hive: a short name that tells hives of one machine apart.
            environ: PATH, and where a user's systemd is.
            outlives: what is limited goes on when the hive stops. Then a scope comes first: systemd ends whatever sits
                in the control groups of a service that it stops.
        """
        if outlives:
            scope, holds = await _scope(environ)
            if scope:
                return cls(hive, Cgroups({}, unified=False), scope, holds)
        cgroups = await anyio.to_thread.run_sync(Cgroups.detect, hive)
        scope, holds = ((), ()) if cgroups.homes else await _scope(environ)
        return cls(hive, cgroups, scope, holds)

    @property
    def unenforced(self) -> list[str]:
        """Names of limits that nothing here holds for the agent as a whole.

        `disk` always: only the size of each single file is limited. Without groups or scopes also `memory` (limited
        for each process alone), `pids` and `cpu`.
        """
        held = self.scope_holds if self.scope else self.cgroups.enforced
        return [*(name for name in CONTROLLERS if name not in held), "disk"]

    def fence(self, agent: str, limits: ResourceLimits) -> Fence:
        """What the next launch of this agent needs; makes its groups.

        Raises:
            WorldError: the groups cannot be made any more.
        """
        rlimits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, limits.disk)]
        if "memory" in self.unenforced:
            rlimits.append((resource.RLIMIT_DATA, limits.memory))
        prefix = (*self.scope, *_properties(limits), "--") if self.scope else ()
        try:
            joins = self.cgroups.prepare(agent, limits)
        except OSError as error:
            raise WorldError(f"the control groups of {agent} cannot be made: {error}") from error
        return Fence(prefix, tuple(joins), tuple(rlimits))

    def release(self, agent: str) -> None:
        """Kills what is left in the agent's groups and removes them. Blocks. Idempotent."""
        self.cgroups.remove(agent)


_LOOK: Final = """cat /proc/self/cgroup
own=$(sed -n 's/^0:://p' /proc/self/cgroup)
cat "/sys/fs/cgroup$own/cgroup.controllers" "/sys/fs/cgroup/unified$own/cgroup.controllers" 2>/dev/null"""


async def _scope(
    environ: Mapping[str, str], root: Path = Path("/")
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The command that runs another in a scope of its own, if systemd is here and lets us, and what that limits.

    Tried out as it will be used: the program must find itself in a scope, with a descriptor of ours open.
    """
    command = await anyio.to_thread.run_sync(_scope_command, environ, root)
    if not command:
        return (), ()
    proof = os.memfd_create("proof")
    try:
        script = ("/bin/sh", "-c", f"exec >/proc/self/fd/{proof}; {_LOOK}")
        with anyio.move_on_after(PROOF_SECONDS):
            await anyio.run_process(
                [*command, *_properties(ResourceLimits()), "--", *script], check=False, pass_fds=[proof]
            )
        seen = await anyio.to_thread.run_sync(os.pread, proof, 65536, 0)
    finally:
        os.close(proof)
    held = _held(seen.decode(errors="replace"))
    return (command, held) if b".scope" in seen else ((), ())


def _held(seen: str) -> tuple[str, ...]:
    """The controllers of the scope that a process found itself in: version 1 names them, in version 2 a file does."""
    names: set[str] = set()
    for line in seen.splitlines():
        _, colon, rest = line.partition(":")
        if colon and ".scope" in rest:
            names.update(rest.partition(":")[0].split(","))
        elif not colon:
            names.update(line.split())
    return tuple(name for name in CONTROLLERS if name in names)


def _scope_command(environ: Mapping[str, str], root: Path) -> tuple[str, ...]:
    program = shutil.which("systemd-run", path=environ.get("PATH"))
    if os.geteuid() == 0:
        manager, managed = "--system", root / "run/systemd/system"
    else:
        manager, managed = "--user", Path(environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "systemd"
    if program is None or not managed.is_dir():
        return ()
    return (program, manager, "--scope", "--quiet", "--collect")


def _properties(limits: ResourceLimits) -> tuple[str, ...]:
    wanted = (f"MemoryMax={limits.memory}", f"TasksMax={limits.pids}", f"CPUQuota={limits.cpu * 100:.0f}%")
    return tuple(f"--property={item}" for item in wanted)
