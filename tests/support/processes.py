"""Which processes belong to a hive that a test started, boxed and orphaned ones too; and waiting for their end.

Read from /proc from outside. A process belongs to a place when the place's directory (or another mark, such as the
address of the test's API) stands in its command line, environment, directories or mounts: a boxed one has no trace of
the host in its environment, but its mounts name where they come from. It ends nothing.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import anyio

PROC = Path("/proc")


@dataclass(frozen=True)
class Found:
    """A live process of a hive."""

    pid: int
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.pid} {' '.join(self.argv)[:160]}"


def belonging_to(marks: Iterable[str]) -> list[Found]:
    """Live processes (no zombies) with one of these marks, but this one."""
    wanted = [os.fsencode(mark) for mark in marks]
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and _bears(entry, wanted):
            found.append(_found(int(entry.name)))
    return found


def _found(pid: int) -> Found:
    argv = _read(PROC / f"{pid}/cmdline").rstrip(b"\0").split(b"\0")
    return Found(pid, tuple(os.fsdecode(word) for word in argv))


def descendants(pid: int) -> set[int]:
    """All processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        stat = _read(entry / "stat") if entry.name.isdecimal() else b""
        if stat:
            parent = int(stat.rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    frontier = [pid]
    while frontier:
        below = children.get(frontier.pop(), [])
        found.update(below)
        frontier.extend(below)
    return found


def alive(pids: Iterable[int]) -> list[Found]:
    """Those of these processes that live (no zombies)."""
    found = []
    for pid in pids:
        stat = _read(PROC / f"{pid}/stat")
        if stat and stat.rpartition(b")")[2].split()[0] not in {b"Z", b"X"}:
            found.append(_found(pid))
    return found


def output_of(pid: int) -> str:
    """The file that is its standard output, as /proc names it; empty where it has ended."""
    return os.fsdecode(_link(PROC / f"{pid}/fd/1"))


def holding(file: str) -> list[Found]:
    """Processes that have this file open, named as /proc names it: a pipe, for example."""
    return [
        _found(int(entry.name))
        for entry in PROC.iterdir()
        if entry.name.isdecimal() and os.fsencode(file) in map(_link, _files(entry))
    ]


async def gone(pids: Iterable[int]) -> None:
    """Returns when none of these processes lives any more."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            await anyio.wait_readable(fd)
        finally:
            os.close(fd)


def _bears(entry: Path, wanted: list[bytes]) -> bool:
    stat = _read(entry / "stat")
    if not stat or stat.rpartition(b")")[2].split()[0] in {b"Z", b"X"}:
        return False
    text = b"\0".join(
        [
            *(_read(entry / name) for name in ("cmdline", "environ", "mountinfo")),
            *(_link(entry / name) for name in ("cwd", "root", "exe")),
        ]
    )
    return any(mark in text for mark in wanted)


def _files(entry: Path) -> list[Path]:
    try:
        return list((entry / "fd").iterdir())
    except OSError:
        return []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended, or it is not ours to look into


def _link(path: Path) -> bytes:
    try:
        return os.fsencode(path.readlink())
    except OSError:
        return b""
