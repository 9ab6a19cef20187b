"""A machine with systemd as its first process: a Debian tree, booted by systemd-nspawn. What is asked of systemd, the
kernel and nspawn in there is as real as on one of metal.

The checkout and the Python that runs the tests are in it, read-only, under their own names.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from hyperhive.lifecycle.runtimes.nspawn_base import PACKAGES, make_base
from parts import CLEAN_ENV, NSPAWN_BASE, ROOT

BOOT_SECONDS = 60
BASICS = (*PACKAGES, "python3", "systemd", "systemd-sysv", "dbus")


def tree(place: Path, packages: Sequence[str], *, made: str) -> Path:
    """The root file system of such a machine: made there, or the one that the variable `made` names. Blocks."""
    if ready := os.environ.get(made):
        return Path(ready)
    anyio.run(lambda: make_base(place, os.environ, packages=(*BASICS, *packages)))
    return place


@dataclass
class Machine:
    """A booted one."""

    enter: list[str]
    """In front of a command that is to run in it."""

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, stdin: str = "", seconds: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """One command, to its end. Blocks."""
        return subprocess.run(
            [*self.enter, *words],
            env=CLEAN_ENV | dict(env or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def must(self, *words: str, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
        """What a command that has to end well prints."""
        done = self.run(*words, env=env, stdin=stdin)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def until(self, *words: str, env: Mapping[str, str] | None = None, seconds: float = 120) -> str:
        """What a command prints once it ends well."""
        end = time.monotonic() + seconds
        while (done := self.run(*words, env=env)).returncode != 0:
            assert time.monotonic() < end, (words, done.stdout, done.stderr)
            time.sleep(0.2)
        return done.stdout


@contextlib.contextmanager
def booted(
    system: Path, shared: Path, name: str, *, cgroups: int = 2, volatile: bool = False
) -> Iterator[Machine]:
    """Boots a tree. Blocks.

    Args:
        system: the tree.
        shared: a directory of this machine's disk, which is /hive in there.
        name: of the machine.
        cgroups: the version of control groups in there.
        volatile: what is written in there is gone with it, and several may be booted from one tree.
    """
    shown = {ROOT, NSPAWN_BASE, Path(sys.prefix), Path(sys.base_prefix)} - {Path("/usr")}
    command = [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no", "--link-journal=no",
        "--resolv-conf=off", "--timezone=off", "--private-network", "--capability=all",
        "--system-call-filter=@keyring bpf @mount", f"--machine={name}-{os.getpid()}",
        f"--directory={system}", *(f"--bind-ro={place}" for place in sorted(shown) if place.exists()),
        f"--bind={shared}:/hive", *(["--volatile=overlay"] if volatile else []), "--boot",
    ]  # fmt: skip
    env = {**CLEAN_ENV, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": str(cgroups - 1)}
    with (shared / "console").open("wb") as console:
        nspawn = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
        )
    first = 0
    try:
        end = time.monotonic() + BOOT_SECONDS
        while not (first := _systemd_of(nspawn.pid)):
            said = (shared / "console").read_text(errors="replace")
            assert nspawn.poll() is None, said
            assert time.monotonic() < end, f"no systemd within {BOOT_SECONDS} s: {said}"
            time.sleep(0.01)
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        machine = Machine(["nsenter", f"--target={first}", *spaces, "--"])
        machine.must("/bin/sh", "-c", "until systemctl is-system-running --wait; do sleep 0.1; done")
        yield machine
    finally:
        if first:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGRTMIN + 4)  # systemd powers off
        else:
            nspawn.kill()
        try:
            nspawn.wait(30)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait(30)


def _systemd_of(nspawn: int) -> int:
    """The pid of the machine's systemd; 0 as long as nspawn has not come so far."""
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                return int(pid)
    return 0
