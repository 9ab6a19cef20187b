"""Which processes does this suite still have? Read from /proc, so that reparented ones count too.

A process belongs to the suite when it descends from the suite's process, or when one of the suite's own marks
stands in its environment, its command line or its working directory: the run's id (inherited by most), or the
directory that holds the run's temporary files (for programs started with a clean environment).
It does not end anything: the check in tests/conftest.py reports, and the culprit is a test to be mended.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "HYPERHIVE_TEST_RUN"
PROC = Path("/proc")


@dataclass(frozen=True)
class Child:
    """A live process: its pid and its command line, for the report."""

    pid: int
    argv: str


def _parent(pid: int) -> int | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return None if state == "Z" else int(parent)


def _line(pid: int, parents: dict[int, int]) -> Iterator[int]:
    """The ancestors of a process, nearest first."""
    while (parent := parents.get(pid)) is not None:
        yield parent
        pid = parent


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended, or it is not ours to look into


def _marked(pid: int, marks: tuple[bytes, ...]) -> bool:
    home = PROC / str(pid)
    try:
        cwd = os.fsencode((home / "cwd").readlink())
    except OSError:
        cwd = b""
    text = b"\0".join([_read(home / "environ"), _read(home / "cmdline"), cwd])
    return any(mark in text for mark in marks)


def survivors(*marks: str) -> list[Child]:
    """Live processes of this run, but this one and zombies. `marks` are the run's id and directories."""
    me = os.getpid()
    wanted = tuple(os.fsencode(mark) for mark in marks)
    numbers = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    parents = {pid: parent for pid in numbers if (parent := _parent(pid)) is not None}
    ours = {me, *_line(me, parents)}  # whoever started us may name our directory on its command line
    mine = [pid for pid in parents if pid not in ours and (me in _line(pid, parents) or _marked(pid, wanted))]
    return [
        Child(pid, _read(PROC / str(pid) / "cmdline").replace(b"\0", b" ").decode(errors="replace")[:200])
        for pid in mine
    ]
