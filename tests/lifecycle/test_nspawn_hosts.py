"""nspawn on machines of other kinds than this one: booted with systemd, control groups of version 1 or 2 in force.

Each machine is a container itself, booted with systemd as its first process: what the hive asks systemd, the kernel and
nspawn for there is as real as here.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from hyperhive.lifecycle.runtimes.nspawn_base import PACKAGES, make_base
from parts import CLEAN_ENV, NSPAWN_BASE, ROOT

pytestmark = [pytest.mark.campaign, pytest.mark.needs("nspawn", "mmdebstrap"), pytest.mark.timeout(0)]

MACHINE_PACKAGES = (*PACKAGES, "python3", "systemd", "systemd-sysv", "dbus", "systemd-container", "passt")
SUITE_SECONDS = 900


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of such a machine."""
    made = os.environ.get("HYPERHIVE_TEST_NSPAWN_HOST")
    if made:
        return Path(made)
    place = tmp_path_factory.mktemp("machine") / "root"
    anyio.run(lambda: make_base(place, os.environ, packages=MACHINE_PACKAGES))
    return place


@pytest.fixture
def machine(request: pytest.FixtureRequest, system: Path, tmp_path: Path) -> Iterator[list[str]]:
    """A booted one: the command that runs another in it. /hive there is a directory on this machine's disk."""
    shown = {ROOT, NSPAWN_BASE, Path(sys.prefix), Path(sys.base_prefix)} - {Path("/usr")}
    command = [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no", "--link-journal=no",
        "--resolv-conf=off", "--timezone=off", "--private-network", "--capability=all",
        "--system-call-filter=@keyring bpf @mount", f"--machine=machine-{request.param}-{os.getpid()}",
        f"--directory={system}", *(f"--bind-ro={place}" for place in sorted(shown)), f"--bind={tmp_path}:/hive",
        "--boot",
    ]  # fmt: skip
    env = {**CLEAN_ENV, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": str(request.param - 1)}
    with (tmp_path / "console").open("wb") as console:
        nspawn = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
        )
    first = 0
    try:
        while not (first := booted(nspawn.pid)):
            assert nspawn.poll() is None, (tmp_path / "console").read_text()
            time.sleep(0.01)
        inside = [
            "nsenter",
            f"--target={first}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
            "--",
        ]
        up = [*inside, "/bin/sh", "-c", "until systemctl is-system-running --wait; do sleep 0.1; done"]
        subprocess.run(up, env=CLEAN_ENV, timeout=60, check=True, capture_output=True)
        yield inside
    finally:
        if first:
            os.kill(first, signal.SIGRTMIN + 4)  # systemd powers off
        else:
            nspawn.kill()
        try:
            nspawn.wait(30)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait()


def booted(nspawn: int) -> int:
    """The pid of the machine's systemd; 0 as long as nspawn has not come so far."""
    for pid in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                return int(pid)
    return 0


@pytest.mark.parametrize("machine", [1, 2], indirect=True, ids=["cgroups-1", "cgroups-2"])
@pytest.mark.parametrize("runtime", ["nspawn", "process"])
def test_conforms_on_a_machine_with_systemd(machine: list[str], runtime: str, tmp_path: Path) -> None:
    """The whole conformance suite, run there as root: what it claims to limit it limits, and it ends all it started."""
    (tmp_path / "suite").mkdir()
    env = {**CLEAN_ENV, "HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE), "PYTHONPATH": str(ROOT / "src")}
    suite = [sys.executable, "-m", "hyperhive.testing.runtime_suite", runtime, "/hive/suite"]
    done = subprocess.run(
        [*machine, *suite], env=env, capture_output=True, text=True, timeout=SUITE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
