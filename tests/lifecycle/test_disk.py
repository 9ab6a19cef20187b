"""The disk guard: what it counts, what it says, what it keeps off a full disk, and the little that it removes."""

import os
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hyperhive.errors import WorldError
from hyperhive.lifecycle import disk as disk_module
from hyperhive.lifecycle.disk import (
    COPY_SECONDS,
    DEPTH_MAX,
    FIRST_SECONDS,
    LOOK_SECONDS,
    DiskGuard,
    measure,
    prune_copies,
)
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.testing import FakeClock

ALICE = AgentName("alice")
GIB = 1 << 30


class Disk:
    """How large the disk is and how much of it is left."""

    def __init__(self, tmp_path: Path) -> None:
        self.space = (100 * GIB, 50 * GIB)
        self.limit = GIB
        self.clock = FakeClock()
        self.paths = Paths.of(tmp_path / "state", tmp_path / "run")
        self.paths.make_hive()
        self.paths.make_agent(ALICE)
        self.guard = DiskGuard(
            self.paths,
            self.clock,
            agents=lambda: [ALICE],
            limit_of=lambda _: self.limit,
            space=lambda _: self.space,
        )


async def asleep(clock: FakeClock) -> None:
    """Returns when somebody sleeps."""
    with anyio.fail_after(10):
        while not clock._sleepers:
            await anyio.to_thread.run_sync(lambda: None)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.mark.parametrize(
    ("size", "free", "low"),
    [(100, 6, False), (100, 4, True), (20, 2, False), (20, 0.9, True), (10_000, 6, False), (10_000, 4, True)],
)
async def test_nothing_new_is_begun_where_less_than_a_twentieth_and_five_gib_are_left(
    size: float, free: float, low: bool, disk: Disk
) -> None:
    disk.space = (int(size * GIB), int(free * GIB))
    if low:
        with pytest.raises(WorldError, match="the disk is low"):
            await disk.guard.check()
        assert "nothing is proposed or approved" in disk.guard.cautions()[0]
    else:
        await disk.guard.check()
        assert disk.guard.cautions() == []


async def test_a_disk_that_has_room_again_is_looked_at_anew(disk: Disk) -> None:
    disk.space = (100 * GIB, GIB)
    with pytest.raises(WorldError):
        await disk.guard.check()
    disk.space = (100 * GIB, 50 * GIB)
    await disk.guard.check()
    assert disk.guard.cautions() == []


async def test_an_agent_that_takes_more_than_its_limit_is_named_and_nothing_of_it_is_removed(
    disk: Disk,
) -> None:
    work = disk.paths.agent_state(ALICE) / "work"
    work.write_bytes(os.urandom(3 << 20))
    await disk.guard.look()
    assert disk.guard.cautions() == []
    disk.limit = 2 << 20
    assert disk.guard.cautions() == ["alice takes 3 MiB of the disk, and its limit is 2 MiB"]
    await disk.guard.look()
    await disk.guard.check()  # it is a warning: what an agent has too much of is not the others' affair
    assert work.stat().st_size == 3 << 20


async def test_it_looks_at_the_disk_at_once_at_the_agents_a_little_later_and_goes_on_past_a_failure(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.space, disk.limit = (100 * GIB, GIB), 1
    looks: list[Path] = []

    def fails(database: Path, now: float) -> list[Path]:
        looks.append(database)
        raise PermissionError(now)

    monkeypatch.setattr(disk_module, "prune_copies", fails)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(disk.guard.run)
        await asleep(disk.clock)
        assert [one.startswith("the disk is low") for one in disk.guard.cautions()] == [True]
        for number in (1, 2):
            await disk.clock.advance(FIRST_SECONDS if number == 1 else LOOK_SECONDS)
            await asleep(disk.clock)
            assert len(looks) == number
        assert "alice takes" in disk.guard.cautions()[1]
        tasks.cancel_scope.cancel()


async def test_a_first_look_that_fails_does_not_end_the_guard(disk: Disk) -> None:
    fails = True

    def space(_: Path) -> tuple[int, int]:
        if fails:
            raise OSError("the disk is gone")
        return 100 * GIB, GIB

    disk.guard = DiskGuard(disk.paths, disk.clock, agents=list, limit_of=lambda _: GIB, space=space)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(disk.guard.run)
        await asleep(disk.clock)
        assert disk.guard.cautions() == []
        fails = False
        await disk.clock.advance(FIRST_SECONDS)
        await asleep(disk.clock)
        assert disk.guard.cautions()[0].startswith("the disk is low")
        tasks.cancel_scope.cancel()


def test_what_a_tree_takes_is_counted_once_and_only_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(bytes(range(256)) * 40_000)
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_bytes(os.urandom(1 << 20))
    before = measure(tree)
    assert before.whole
    assert 1 << 20 <= before.size < 2 << 20
    (tree / "link").symlink_to(outside)
    (tree / "again").hardlink_to(tree / "a/b/file")
    os.mkfifo(tree / "fifo")
    after = measure(tree)
    assert after.whole
    assert after.size - before.size < 1 << 20


def test_a_tree_that_defies_counting_is_counted_in_part_and_says_so(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(DEPTH_MAX + 50):
        os.mkdir("d" * 200, dir_fd=here)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    assert not measure(deep).whole
    wide = tmp_path / "wide"
    wide.mkdir()
    for number in range(20):
        (wide / str(number)).touch()
    assert measure(wide).whole
    assert not measure(wide, most=10).whole
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    assert measure(tmp_path / "nothing").size == 0


def test_only_old_copies_of_the_database_are_removed_and_never_the_newest(tmp_path: Path) -> None:
    database = tmp_path / "hive.sqlite"
    names = [100, 200, 300, int(COPY_SECONDS) + 250]
    for made in names:
        (tmp_path / f"hive.sqlite.before-migration-{made}").touch()
    for kept in ("hive.sqlite", "hive.sqlite-wal", "hive.sqlite.before-migration-x", "notes"):
        (tmp_path / kept).touch()
    (tmp_path / "hive.sqlite.before-migration-50").mkdir()  # nothing that a migration made
    removed = prune_copies(database, now=COPY_SECONDS + 250)
    assert sorted(path.name.rpartition("-")[2] for path in removed) == ["100", "200"]
    assert prune_copies(database, now=10 * COPY_SECONDS) == [tmp_path / "hive.sqlite.before-migration-300"]
    assert prune_copies(database, now=10 * COPY_SECONDS) == []
    assert len(list(tmp_path.iterdir())) == 6
