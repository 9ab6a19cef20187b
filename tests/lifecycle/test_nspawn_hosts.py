"""nspawn on machines of other kinds than this one: booted with systemd, control groups of version 1 or 2 in force."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts import CLEAN_ENV, NSPAWN_BASE, ROOT
from systemd_machine import Machine, booted, tree

pytestmark = [pytest.mark.campaign, pytest.mark.needs("nspawn", "mmdebstrap"), pytest.mark.timeout(1200)]

SUITE_SECONDS = 900


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of such a machine."""
    place = tmp_path_factory.mktemp("machine") / "root"
    return tree(place, ("systemd-container", "passt"), made="HYPERHIVE_TEST_NSPAWN_HOST")


@pytest.fixture
def machine(request: pytest.FixtureRequest, system: Path, tmp_path: Path) -> Iterator[Machine]:
    """A booted one. /hive there is a directory on this machine's disk."""
    with booted(system, tmp_path, f"machine-{request.param}", cgroups=request.param) as machine:
        yield machine


@pytest.mark.parametrize("machine", [1, 2], indirect=True, ids=["cgroups-1", "cgroups-2"])
@pytest.mark.parametrize("runtime", ["nspawn", "process"])
def test_conforms_on_a_machine_with_systemd(machine: Machine, runtime: str, tmp_path: Path) -> None:
    """The whole conformance suite, run there as root: what it claims to limit it limits, and it ends all it started."""
    (tmp_path / "suite").mkdir()
    env = {**CLEAN_ENV, "HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE), "PYTHONPATH": str(ROOT / "src")}
    suite = [sys.executable, "-m", "hyperhive.testing.runtime_suite", runtime, "/hive/suite"]
    done = machine.run(*suite, env=env, seconds=SUITE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


CORE = """
import os, sys, anyio
from pathlib import Path
from hyperhive.config import AgentConfig, HiveFile
from hyperhive.lifecycle.runtimes import ResourceLimits, pick_runtime
from hyperhive.lifecycle.runtimes import nspawn_lodging as lodgings
from hyperhive.lifecycle.runtimes.base import Lodging
from hyperhive.names import AgentName
from hyperhive.paths import Paths

async def main():
    lodgings.harness_command = lambda _: [sys.executable, "-c", "import time; time.sleep(1000)"]
    paths, alice = Paths.of(Path("/hive/outlives")), AgentName("alice")
    paths.make_hive()
    paths.make_agent(alice)
    runtime = await pick_runtime("nspawn", paths, os.environ)
    lodging = Lodging(config=AgentConfig(), file=HiveFile(), limits=ResourceLimits(), network="none")
    if sys.argv[1] == "serve":
        await runtime.up(alice, lodging)
        os.mknod("/hive/ready")
        await anyio.sleep_forever()
    print(await runtime.containers.running(alice) is not None)
    await runtime.release(alice)
    print(await runtime.containers.running(alice) is not None)

anyio.run(main)
"""


@pytest.mark.parametrize("machine", [1, 2], indirect=True, ids=["cgroups-1", "cgroups-2"])
def test_agents_containers_are_as_here_on_a_machine_with_systemd(machine: Machine) -> None:
    """The tests of this machine, run there as root, but for those that need a network."""
    env = {**CLEAN_ENV, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    suite = [
        sys.executable,
        "-m",
        "pytest",
        str(ROOT / "tests/lifecycle/test_nspawn_containers.py"),
        "-q",
        "-n0",
    ]
    more = ["-p", "no:cacheprovider", "--basetemp=/hive/suite", "-k", "not loopback", f"--rootdir={ROOT}"]
    done = machine.run(*suite, *more, env=env, seconds=SUITE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("machine", [1, 2], indirect=True, ids=["cgroups-1", "cgroups-2"])
def test_a_container_outlives_the_service_that_made_it(machine: Machine, tmp_path: Path) -> None:
    """systemd ends whatever is a service's when it stops it; an agent's container has a scope of its own."""
    cli = tmp_path / "claude"
    cli.write_text("#!/bin/sh\necho '2.1.328 (stand-in)'\n")
    cli.chmod(0o755)
    env = {
        **CLEAN_ENV, "PYTHONPATH": str(ROOT / "src"), "HYPERHIVE_CLAUDE": "/hive/claude",
        "HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE),
    }  # fmt: skip
    words = [sys.executable, "-c", CORE]

    def run(*command: str) -> str:
        done = machine.run(*command, env=env, seconds=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    given = [f"--setenv={name}={value}" for name, value in env.items()]
    run("systemd-run", "--unit=core", "--property=Delegate=yes", *given, "--", *words, "serve")
    end = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < end, run("journalctl", "--unit=core", "--no-pager")
        time.sleep(0.05)
    run("systemctl", "stop", "core")
    assert run(*words, "look") == "True\nFalse\n"
