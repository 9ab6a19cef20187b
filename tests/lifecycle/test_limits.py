"""Resource limits: which means are found, what they hold, and that what they do not hold is named."""

import os
import re
from pathlib import Path

import anyio
import pytest

from hyperhive.config import Limits
from hyperhive.errors import WorldError
from hyperhive.lifecycle.runtimes import ProcessRuntime, ResourceLimits
from hyperhive.lifecycle.runtimes.cgroups import Cgroups
from hyperhive.lifecycle.runtimes.limiter import Limiter, _held, _scope
from hyperhive.paths import Paths
from hyperhive.testing.runtime_kit import ENV, RuntimeKit, finish

NONE = Cgroups({}, unified=False)


def test_limits_are_bytes_and_counts() -> None:
    assert ResourceLimits.of(Limits()) == ResourceLimits(memory=4 << 30, pids=512, cpu=2.0, disk=10 << 30)
    assert ResourceLimits.of(Limits(memory="64M", disk="1T")).memory == 64 << 20


def test_without_groups_or_scopes_everything_but_single_files_and_processes_is_named() -> None:
    limiter = Limiter("x", NONE)
    assert limiter.unenforced == ["memory", "pids", "cpu", "disk"]
    fence = limiter.fence("alice", ResourceLimits())
    assert (fence.prefix, fence.cgroups) == ((), ())
    assert {value for _, value in fence.rlimits} == {0, 4 << 30, 10 << 30}


def test_where_there_are_no_control_groups_none_are_found(tmp_path: Path) -> None:
    assert Cgroups.detect("x", tmp_path).homes == {}
    (tmp_path / "cgroup").write_text("0::/\n1:memory:/\n")
    (tmp_path / "mountinfo").write_text(
        f"25 1 0:1 / {tmp_path}/unwritable rw - cgroup2 cgroup2 rw\n26 1 0:2 / /proc rw - cgroup cgroup rw,memory\n"
    )
    assert Cgroups.detect("x", tmp_path).homes == {}


def test_groups_that_do_not_take_limits_are_not_used(tmp_path: Path) -> None:
    """A directory where control groups should be: it can be made, and holds nothing."""
    home = tmp_path / "hyperhive-x"
    home.mkdir()
    (home / "cgroup.procs").touch()
    (tmp_path / "cgroup").write_text("1:memory:/\n")
    (tmp_path / "mountinfo").write_text(f"26 1 0:2 / {tmp_path} rw - cgroup cgroup rw,memory\n")
    assert Cgroups.detect("x", tmp_path).homes == {}


def test_a_group_that_goes_while_it_is_looked_at_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those do that an agent's programs make and remove themselves."""
    groups, looked = Cgroups({"pids": tmp_path / "hive"}, unified=False), os.scandir
    (tmp_path / "hive/alice/own").mkdir(parents=True)

    def too_late(path: str) -> object:
        if Path(path).name == "own" and Path(path).exists():
            Path(path).rmdir()
        return looked(path)

    monkeypatch.setattr(os, "scandir", too_late)
    groups.remove("alice")
    assert not (tmp_path / "hive").exists()


async def test_groups_that_went_away_are_an_error_that_names_the_agent(tmp_path: Path) -> None:
    limiter = Limiter("x", Cgroups({"memory": tmp_path / "gone"}, unified=False))
    with pytest.raises(WorldError) as caught:
        await anyio.to_thread.run_sync(limiter.fence, "alice", ResourceLimits())
    assert "alice" in caught.value.message


@pytest.mark.may_block("the test looks at control groups itself")
async def test_groups_are_the_agents_and_go_with_it(tmp_path: Path) -> None:
    """One agent's programs share its groups; release and close leave none behind, whatever still runs in them."""
    async with RuntimeKit.open("process", tmp_path) as kit:
        assert isinstance(kit.runtime, ProcessRuntime)
        homes = set(kit.runtime.limiter.cgroups.homes.values())
        limits = ResourceLimits(memory=1 << 30, pids=77, cpu=0.5)
        first, second = [await kit.start("/bin/sleep", "600", limits=limits) for _ in range(2)]
        for home in homes:
            members = (home / "alice/cgroup.procs").read_text().split()
            assert {str(first.pid), str(second.pid)} <= set(members)
            settings = {"pids.max": "77", "memory.limit_in_bytes": "1073741824", "cpu.cfs_quota_us": "50000",
                        "memory.max": "1073741824", "cpu.max": "50000 100000"}  # fmt: skip
            for name, wanted in settings.items():
                setting = home / "alice" / name
                assert not setting.exists() or setting.read_text().strip() == wanted
        await kit.runtime.release(kit.agent)
        assert not any((home / "alice").exists() for home in homes)
        for child in (first, second):
            assert await child.wait() != 0
            await child.aclose()
    assert not any(home.exists() for home in homes)


@pytest.mark.skipif(os.geteuid() != 0, reason="stands in for systemd-run with root's control groups")
async def test_scopes_are_used_where_systemd_run_works(tmp_path: Path) -> None:
    """A systemd-run that does what the real one does: it joins a scope, and becomes the program."""
    fake, said = tmp_path / "systemd-run", tmp_path / "said"
    unified = Path("/sys/fs/cgroup/unified")
    groups = unified if await anyio.Path(unified).is_dir() else unified.parent
    scope = f"{groups}/hyperhive-test-{os.getpid()}.scope"
    fake.write_text(
        f'#!/bin/sh\necho "$@" >> {said}\nmkdir -p {scope} && echo $$ > {scope}/cgroup.procs || exit 1\n'
        'while [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    fake.chmod(0o755)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    try:
        command, held = await _scope({"PATH": str(tmp_path)}, tmp_path)
        assert command[:3] == (str(fake), "--system", "--scope")
        there = (await anyio.Path(groups, "cgroup.controllers").read_text()).split()
        assert set(held) <= set(there), "what the kernel has not is not claimed"
        limiter = Limiter("x", NONE, command)
        assert limiter.unenforced == ["disk"]
        assert Limiter("x", NONE, command, ("pids",)).unenforced == ["memory", "cpu", "disk"]
        runtime = ProcessRuntime(await anyio.to_thread.run_sync(Paths.of, tmp_path / "hive"), ENV)
        runtime._limiter = limiter
        kit = RuntimeKit(runtime=runtime, paths=runtime._paths, work=tmp_path)
        limits = ResourceLimits(memory=1 << 30, pids=77, cpu=0.5)
        ended = await finish(await kit.start("/bin/cat", "/proc/self/cgroup", limits=limits))
        assert ".scope" in ended.out
        assert (
            "--property=MemoryMax=1073741824 --property=TasksMax=77 --property=CPUQuota=50% --"
            in said.read_text()
        )
    finally:
        if await anyio.Path(scope).exists():
            await anyio.Path(scope).rmdir()


async def test_a_systemd_run_that_does_not_work_is_not_used(tmp_path: Path) -> None:
    fake = tmp_path / "systemd-run"
    fake.write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
    fake.chmod(0o755)
    for managed in ("run/systemd/system", "systemd"):
        (tmp_path / managed).mkdir(parents=True)
    assert await _scope({"PATH": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}, tmp_path) == ((), ())
    assert await _scope({"PATH": str(tmp_path / "run")}, tmp_path) == ((), ())


@pytest.mark.parametrize(
    ("seen", "held"),
    [
        (
            "4:memory:/a/run-x.scope\n3:pids:/a\n2:cpu,cpuacct:/run-x.scope\n0::/run-x.scope\n",
            ("memory", "cpu"),
        ),
        ("0::/run-x.scope\nmemory pids\n", ("memory", "pids")),
        ("0::/run-x.scope\n\n", ()),
    ],
)
def test_a_scope_limits_what_its_own_groups_can(seen: str, held: tuple[str, ...]) -> None:
    """In both versions: systemd takes a property, also where there is nothing that could hold it."""
    assert _held(seen) == held


@pytest.mark.needs("bwrap")
async def test_starting_and_stopping_a_box_never_blocks_the_loop(tmp_path: Path) -> None:
    """No `may_block` here: the guard of the suite watches check, sweep, launch, terminate, kill and close."""
    async with RuntimeKit.open("bwrap", tmp_path) as kit:
        await kit.runtime.sweep()
        for _ in range(2):
            child = await kit.start("/bin/sh", "-c", "echo ready; sleep 600")
            assert re.fullmatch(b"ready\n", await child.stdout.receive())
            child.terminate()
            await child.kill()
            await child.aclose()
        await kit.runtime.release(kit.agent)
