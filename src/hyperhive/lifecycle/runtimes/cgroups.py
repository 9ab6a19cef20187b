"""Resource limits of one agent by control groups: version 1 or 2, as far as this process may make any.

What is found: a writable version 1 hierarchy (memory, pids, cpu), else a delegated version 2 subtree that holds the
hive alone, else nothing. Groups are `BASE/hyperhive-HIVE/AGENT`. This file does not decide what happens without them.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.config import Limits, parse_size
from hyperhive.lifecycle.runtimes import wrapper

CPU_PERIOD_US: Final = 100_000
CONTROLLERS: Final[tuple[str, ...]] = ("memory", "pids", "cpu")


class ResourceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent may use, all its programs together."""

    memory: int = 4 << 30
    """Bytes."""

    pids: int = 512
    """Tasks: processes and threads."""

    cpu: float = 2.0
    """Cores."""

    disk: int = 10 << 30
    """Bytes."""

    @classmethod
    def of(cls, limits: Limits) -> "ResourceLimits":
        """The same as the operator wrote them."""
        return cls(
            memory=parse_size(limits.memory), pids=limits.pids, cpu=limits.cpu, disk=parse_size(limits.disk)
        )


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The control groups that this hive may use: the hive's own directory of each controller."""

    homes: dict[str, Path]
    unified: bool

    @classmethod
    def detect(cls, hive: str, proc: Path = Path("/proc/self")) -> "Cgroups":
        """What can be used here: each controller was tried. Finds nothing rather than fail, and leaves nothing."""
        places = _places(proc)
        found = {name: places[name] / f"hyperhive-{hive}" for name in CONTROLLERS if name in places}
        homes = {name: home for name, home in found.items() if cls({name: home}, unified=False).works()}
        if homes or "" not in places:
            return cls(homes, unified=False)
        delegated = cls(_delegated(places[""], hive), unified=True)
        return delegated if delegated.works() else cls({}, unified=True)

    def works(self) -> bool:
        """Whether a group with limits can be made."""
        try:
            self.prepare(".probe", ResourceLimits())
        except OSError:
            return False
        finally:
            self.remove(".probe")
        return True

    @property
    def enforced(self) -> list[str]:
        """Names of the limits that groups hold here."""
        return list(self.homes)

    def prepare(self, agent: str, limits: ResourceLimits) -> list[str]:
        """Makes the agent's groups with these limits; returns the files that a process writes itself into."""
        joins = []
        for home in dict.fromkeys(self.homes.values()):
            self._make(home, agent)
            joins.append(str(home / agent / "cgroup.procs"))
        for controller, home in self.homes.items():
            settings = _unified(controller, limits) if self.unified else _legacy(controller, limits)
            for name, value in settings:
                _write(home / agent / name, value)
        return joins

    def _make(self, home: Path, agent: str) -> None:
        """Makes an agent's group, and the hive's directory where the last agent that left took it along."""
        for last in (False, True):
            try:
                home.mkdir(exist_ok=True)
                if self.unified:
                    _write(home / "cgroup.subtree_control", " ".join(f"+{name}" for name in self.homes))
                (home / agent).mkdir(exist_ok=True)
            except FileNotFoundError:  # it did so just now
                if last:
                    raise
            else:
                return

    def remove(self, agent: str) -> None:
        """Kills what is left in the agent's groups and removes them. Blocks. Idempotent."""
        for home in dict.fromkeys(self.homes.values()):
            _remove(home / agent)
            _rmdir(home)

    def sweep(self, spared: Collection[str] = ()) -> None:
        """Kills and removes every agent's groups but these, and the hive's own directories. Blocks."""
        for home in dict.fromkeys(self.homes.values()):
            for group in _groups_of(home):
                if group.name not in spared:
                    _remove(group)
            _rmdir(home)


def _places(proc: Path) -> dict[str, Path]:
    """Controller -> the directory of this process's group, as far as it can be seen; "" -> the one in version 2."""
    own: dict[str, str] = {}
    for line in _lines(proc / "cgroup"):
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    places: dict[str, Path] = {}
    for line in _lines(proc / "mountinfo"):
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.partition(" ")
        root, where = fields.split()[3:5]
        names = options.split()[-1].split(",") if kind == "cgroup" else [""] if kind == "cgroup2" else []
        for name in names:  # a container sees a part of the tree: what is mounted begins at `root`
            if name in own and Path(own[name]).is_relative_to(root):
                places[name] = Path(where) / Path(own[name]).relative_to(root)
    return places


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text().splitlines()
    except OSError:
        return


def _delegated(own: Path, hive: str) -> dict[str, Path]:
    """The hive's directory in a version 2 subtree that holds no foreign process (a service with `Delegate=yes`).

    Version 2 allows no processes beside child groups, so the hive itself moves into a child of its own.
    """
    core = own / "hyperhive-core"
    home = own / f"hyperhive-{hive}"
    try:
        offered = [c for c in CONTROLLERS if c in (own / "cgroup.controllers").read_text().split()]
        there = {int(pid) for pid in (own / "cgroup.procs").read_text().split()}
        if not offered or there - {os.getpid()}:
            return {}
        core.mkdir(exist_ok=True)
        for pid in there:
            _write(core / "cgroup.procs", str(pid))
        enable = " ".join(f"+{c}" for c in offered)
        _write(own / "cgroup.subtree_control", enable)
    except OSError:
        return {}
    return {controller: home for controller in offered}  # noqa: C420 - fromkeys loses the type


def _legacy(controller: str, limits: ResourceLimits) -> Iterable[tuple[str, str]]:
    if controller == "memory":
        return [("memory.limit_in_bytes", str(limits.memory))]
    if controller == "pids":
        return [("pids.max", str(limits.pids))]
    quota = int(limits.cpu * CPU_PERIOD_US)
    return [("cpu.cfs_period_us", str(CPU_PERIOD_US)), ("cpu.cfs_quota_us", str(quota))]


def _unified(controller: str, limits: ResourceLimits) -> Iterable[tuple[str, str]]:
    if controller == "memory":
        return [("memory.max", str(limits.memory)), ("memory.oom.group", "0")]
    if controller == "pids":
        return [("pids.max", str(limits.pids))]
    return [("cpu.max", f"{int(limits.cpu * CPU_PERIOD_US)} {CPU_PERIOD_US}")]


def _write(path: Path, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _remove(group: Path) -> None:
    for child in _groups_of(group):  # which the agent's programs made themselves
        _remove(child)
    for _ in range(20):  # a second at most: members may fork while they are killed
        pids = [int(pid) for line in _lines(group / "cgroup.procs") for pid in line.split()]
        if not pids:
            break
        wrapper.kill_pids(pids)
    _rmdir(group)


def _groups_of(group: Path) -> list[Path]:
    """None where it is gone by now: groups may be removed by others meanwhile."""
    try:
        with os.scandir(group) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _rmdir(path: Path) -> None:
    with contextlib.suppress(
        OSError
    ):  # not there, or something in it has not ended: the next sweep has another go
        path.rmdir()
