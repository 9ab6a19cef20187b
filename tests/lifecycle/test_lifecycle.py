"""Lifecycle: actions one at a time, what holds across stops and crashes, and the crash watch.

Real store, real directories, runtime `process`; the loops are stand-ins that do what the test says.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from hyperhive.config import AgentConfig, Limits, MountSetting
from hyperhive.errors import (
    BadConfig,
    Closed,
    Conflict,
    Forbidden,
    InvalidName,
    MissingPart,
    NotAvailable,
    NotFound,
    PathTooLong,
    StoreFailed,
    WorldError,
)
from hyperhive.lifecycle import Lifecycle
from hyperhive.lifecycle.runtimes import ProcessRuntime
from hyperhive.names import MANAGER, OPERATOR, AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.events import (
    AnyDashboardEvent,
    ContainerCrash,
    ContainerRemoved,
    ContainerStateChanged,
    Destroyed,
    Killed,
    Spawned,
    TransientCleared,
    TransientSet,
)
from hyperhive.protocol.types import Mount
from lifecycle_world import Loop, World, until


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Paths.of(tmp_path / "hive"))


def seen(lifecycle: Lifecycle, *kinds: type) -> list[AnyDashboardEvent]:
    return [frame.event for frame in lifecycle.bus.history() if isinstance(frame.event, kinds)]


async def run_until_blocked() -> None:
    await anyio.wait_all_tasks_blocked()


# --- spawn, start, stop, restart ---


async def test_spawn_makes_the_directories_and_runs_the_agent(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        assert await hive.list() == ["alice"]
        assert (hive.view("alice").running, hive.view("alice").state) == (True, "idle")
        assert world.events == [Spawned(agent="alice", ok=True)]
        for place in (
            hive.paths.agent_state(AgentName("alice")),
            hive.paths.agent_claude(AgentName("alice")),
        ):
            assert place.stat().st_mode & 0o777 == 0o700
        assert seen(hive, TransientSet, TransientCleared) == [
            TransientSet(agent="alice", what="spawning"),
            TransientCleared(agent="alice"),
        ]


@pytest.mark.parametrize(
    "name", ["", "Alice", "a_b", "-x", "x-", "a\n", "..", "manager", "operator", "a" * 64]
)
async def test_a_name_that_no_agent_can_bear_is_refused(name: str, world: World) -> None:
    async with world.hive() as hive:
        with pytest.raises(InvalidName):
            await hive.spawn(name)
        assert await hive.list() == []


async def test_a_name_whose_socket_path_is_too_long_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    run = tmp_path / ("r" * max(1, 80 - len(str(tmp_path))))
    world = World(await anyio.to_thread.run_sync(Paths.of, tmp_path / "hive", run))
    async with world.hive() as hive:
        await hive.spawn("a")
        with pytest.raises(PathTooLong):
            await hive.spawn("a" * 40)
        assert await hive.list() == ["a"]
        assert not hive.paths.agent_dir(AgentName("a" * 40)).exists()


async def test_a_live_name_is_not_spawned_again(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        with pytest.raises(Conflict):
            await hive.spawn("alice")
        await hive.stop("alice")
        with pytest.raises(Conflict):
            await hive.spawn("alice")
        assert world.loops.count("alice") == 1


async def test_a_second_action_is_refused_with_what_is_going_on(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].idle = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.stop, "alice")
            await until(lambda: bool(world.loops["alice"].stopped))
            assert hive.view("alice").transient == "stopping"
            for action in (hive.start, hive.restart, hive.destroy, hive.stop, hive.spawn):
                with pytest.raises(Conflict) as refused:
                    await action("alice")
                assert "stopping" in refused.value.message or action == hive.spawn
            world.loops["alice"].idle.set()
        assert hive.view("alice").transient is None
        assert not hive.view("alice").running


async def test_two_spawns_of_one_name_make_one_agent(world: World) -> None:
    refusals: list[Conflict] = []

    async def spawn(hive: Lifecycle) -> None:
        try:
            await hive.spawn("alice")
        except Conflict as error:
            refusals.append(error)

    async with world.hive() as hive:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(spawn, hive)
        assert len(refusals) == 4
        assert world.loops.count("alice") == 1


async def test_an_action_goes_on_when_whoever_asked_goes_away(world: World) -> None:
    async with world.hive() as hive:
        world.loops.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.spawn, "alice")
            await until(lambda: hive.exists("alice"))
            tasks.cancel_scope.cancel()
        assert hive.view("alice").transient == "spawning"
        world.loops.gate.set()
        await until(lambda: hive.view("alice").transient is None)
        assert hive.view("alice").running


async def test_stop_waits_for_the_turn_and_now_does_not(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        await hive.stop("alice")
        assert world.loops["alice"].stopped == [False]
        await hive.start("alice")
        await hive.stop("alice", now=True)
        assert world.loops["alice"].stopped == [True]
        assert world.events[1:] == [Killed(agent="alice"), Killed(agent="alice")]
        assert len({key for _, key in world.told}) == 3


async def test_a_turn_that_does_not_end_is_ended_after_the_drain_time(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].idle = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.stop, "alice")
            await until(lambda: world.sleeping_for(900))
            await world.clock.advance(899)
            assert world.loops["alice"].stopped == [False]
            await world.clock.advance(1)
        assert world.loops["alice"].stopped == [False, True]


async def test_stop_now_hurries_a_stop_under_way(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].idle = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.stop, "alice")
            await until(lambda: bool(world.loops["alice"].stopped))
            await hive.stop("alice", now=True)
            assert not hive.view("alice").running


FIRST = {"stop": "stopping", "restart": "restarting", "destroy": "destroying", "purge": "destroying"}


@pytest.mark.parametrize("second", FIRST)
@pytest.mark.parametrize("first", FIRST)
async def test_now_hurries_whatever_drains_and_then_does_its_own_work(
    first: str, second: str, world: World
) -> None:
    """Every action with `now` ends the turn that another one waits for, instead of being refused for 15 minutes."""

    async def act(hive: Lifecycle, verb: str, *, now: bool) -> None:
        if verb == "purge":
            await hive.destroy("alice", purge=True, now=now)
        else:
            await {"stop": hive.stop, "restart": hive.restart, "destroy": hive.destroy}[verb](
                "alice", now=now
            )

    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].idle = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: act(hive, first, now=False))
            await until(lambda: world.loops.made[0].stopped == [False])
            assert hive._actions.current(AgentName("alice")) == FIRST[first]
            if second == "restart" and FIRST[first] == "destroying":
                with pytest.raises(NotFound):  # but it has hurried
                    await act(hive, second, now=True)
            else:
                await act(hive, second, now=True)
        assert world.loops.made[0].stopped[:2] == [False, True]
        gone = {"stop": False, "restart": False}
        there = gone.get(first, True) is False and gone.get(second, True) is False
        assert (await hive.list() == ["alice"]) is there
        if there:
            assert hive.view("alice").running is (second == "restart")
            assert world.loops.count("alice") == (2 if "restart" in {first, second} else 1)
        assert hive.exists("alice") is ("purge" not in {first, second})


async def test_the_operators_now_holds_an_agent_that_the_manager_was_stopping(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].idle = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: hive.stop("alice", by=MANAGER))
            await until(lambda: world.loops["alice"].stopped == [False])
            await hive.stop("alice", now=True)
        assert hive.view("alice").held_by_operator
        assert world.events[1:] == [Killed(agent="alice")]


async def test_whoever_may_not_act_does_not_hurry_either(world: World) -> None:
    async with world.hive() as hive:
        await hive.ensure_manager()
        await hive.start_all()
        await hive.spawn("alice")
        for name, forbidden in (("alice", hive.restart), ("manager", hive.stop)):
            world.loops[name].idle = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hive.stop, name)
                await until(lambda n=name: world.loops[n].stopped == [False])  # type: ignore[misc]
                with pytest.raises(Forbidden):
                    await forbidden(name, now=True, by=MANAGER)
                assert world.loops[name].stopped == [False]
                world.loops[name].idle.set()


async def test_who_waits_acts_after_what_is_going_on_and_the_last_word_holds(world: World) -> None:
    """All can be stopped, and started again, whatever somebody else is doing to one of them meanwhile."""
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].idle = anyio.Event()
        ended: list[str] = []

        async def act(what: str) -> None:
            await (hive.start if what == "start" else hive.stop)("alice", wait=True)
            ended.append(what)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.restart, "alice")
            await until(lambda: bool(world.loops["alice"].stopped))
            with pytest.raises(Conflict):
                await hive.stop("alice")
            for what in ("stop", "start", "stop"):
                tasks.start_soon(act, what)
                await anyio.wait_all_tasks_blocked()
            world.loops["alice"].idle.set()
        assert ended == ["stop", "start", "stop"]
        assert world.loops.count("alice") == 3
        assert not hive.view("alice").running
        assert hive.view("alice").held_by_operator


async def test_a_stop_that_waited_for_the_agents_end_has_what_it_wanted(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].idle = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.destroy, "alice")
            await until(lambda: bool(world.loops["alice"].stopped))
            tasks.start_soon(lambda: hive.stop("alice", wait=True))
            await anyio.wait_all_tasks_blocked()
            world.loops["alice"].idle.set()
        assert await hive.list() == []


async def test_who_waits_may_do_no_more_than_others(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].idle = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.stop, "alice")
            await until(lambda: bool(world.loops["alice"].stopped))

            async def start() -> None:
                with pytest.raises(Forbidden):
                    await hive.start("alice", wait=True, by=MANAGER)

            tasks.start_soon(start)
            await anyio.wait_all_tasks_blocked()
            world.loops["alice"].idle.set()


async def test_start_of_a_running_agent_changes_nothing(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        await hive.start("alice")
        assert world.loops.count("alice") == 1


async def test_restart_makes_a_new_loop(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        await hive.restart("alice")
        assert world.loops.count("alice") == 2
        assert world.loops.made[0].stopped == [False]
        assert hive.view("alice").running


async def test_nobody_can_act_on_whom_there_is_not(world: World) -> None:
    async with world.hive() as hive:
        for action in (hive.start, hive.stop, hive.restart, hive.destroy, hive.rebuild):
            with pytest.raises(NotFound):
                await action("ghost")
        with pytest.raises(NotFound):
            hive.view("ghost")


async def test_what_comes_later_says_so(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        with pytest.raises(NotAvailable):
            await hive.rebuild("alice")
        with pytest.raises(NotAvailable):
            await hive.rollback("alice", 1)


# --- who may ---


async def test_what_the_operator_stopped_only_the_operator_starts(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        await hive.stop("alice", by=OPERATOR)
        assert hive.view("alice").held_by_operator
        for action in (hive.start, hive.restart):
            with pytest.raises(Forbidden):
                await action("alice", by=MANAGER)
        await hive.stop("alice", by=MANAGER)  # changes nothing: it is stopped, and stays the operator's
        assert hive.view("alice").held_by_operator
        await hive.start("alice", by=OPERATOR)
        assert not hive.view("alice").held_by_operator


async def test_what_the_manager_stopped_the_manager_starts(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        await hive.stop("alice", by=MANAGER)
        assert not hive.view("alice").held_by_operator
        await hive.start("alice", by=MANAGER)
        assert hive.view("alice").running


async def test_the_manager_can_neither_stop_nor_restart_itself_and_is_never_destroyed(world: World) -> None:
    async with world.hive() as hive:
        await hive.ensure_manager()
        await hive.start_all()
        for action in (hive.stop, hive.restart):
            with pytest.raises(Forbidden):
                await action("manager", by=MANAGER)
        with pytest.raises(Forbidden):
            await hive.destroy("manager")
        with pytest.raises(Forbidden):
            await hive.destroy("manager", purge=True)
        assert hive.view("manager").running
        assert hive.view("manager").role == "manager"


# --- destroy, tombstones, purge ---


async def test_destroy_keeps_the_state_and_spawn_picks_it_up_again(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        note = hive.paths.agent_state(AgentName("alice")) / "note"
        note.write_text("remember")
        await hive.destroy("alice")
        assert (await hive.list(), hive.tombstones()) == ([], ["alice"])
        assert hive.exists("alice")
        assert ContainerRemoved(name="alice") in seen(hive, ContainerRemoved)
        assert world.events[-1] == Destroyed(agent="alice")
        with pytest.raises(NotFound):
            await hive.start("alice")
        await hive.spawn("alice")
        assert (await hive.list(), hive.tombstones()) == (["alice"], [])
        assert note.read_text() == "remember"
        assert len({key for _, key in world.told}) == 3


async def test_restore_is_for_tombstones_only(world: World) -> None:
    async with world.hive() as hive:
        with pytest.raises(NotFound):
            await hive.restore("alice")
        await hive.spawn("alice")
        await hive.destroy("alice")
        await hive.restore("alice")
        assert hive.view("alice").running


async def test_purge_deletes_everything_even_what_the_agent_locked(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        alice = AgentName("alice")
        locked = hive.paths.agent_state(alice) / "go" / "pkg"
        locked.mkdir(parents=True)
        (locked / "file").write_text("x")
        outside = world.paths.state_dir.parent / "outside"
        outside.mkdir(mode=0o500)
        (hive.paths.agent_state(alice) / "link").symlink_to(outside)
        locked.chmod(0)
        await hive.destroy("alice", purge=True)
        assert not hive.exists("alice")
        assert world.forgotten == ["alice"]
        assert not hive.paths.agent_dir(alice).exists()
        assert not (hive.paths.proposed / "alice").exists()
        assert not hive.paths.tools_dir(alice).exists()
        assert outside.stat().st_mode & 0o777 == 0o500


async def test_a_tombstone_can_be_purged(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        await hive.destroy("alice")
        with pytest.raises(NotFound):
            await hive.destroy("alice")
        await hive.destroy("alice", purge=True)
        assert (hive.tombstones(), hive.exists("alice")) == ([], False)


# --- mounts ---


async def test_spawn_checks_mounts_first_and_keeps_them(world: World, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    async with world.hive() as hive:
        with pytest.raises(BadConfig):
            await hive.spawn("alice", [Mount(source=str(world.paths.state_dir), target="/workspace/x")])
        assert not hive.exists("alice")
        await hive.spawn("alice", [Mount(source=str(code), target="/workspace/code", mode="rw")])
        await hive.destroy("alice")
        await hive.spawn("alice")
    async with world.hive() as hive:
        assert hive.mounts("alice") == [MountSetting(source=str(code), target="/workspace/code", mode="rw")]


async def test_the_launcher_has_the_configured_limits_and_mounts(world: World, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    mount = MountSetting(source=str(code), target="/workspace/code")
    world.config = lambda _: AgentConfig(mounts=(mount,), limits=Limits(disk="1M"))
    async with world.hive() as hive:
        await hive.spawn("alice")
        assert hive.mounts("alice") == [mount]
        child = await hive.launcher("alice").launch(["/bin/sh", "-c", "ulimit -f"], {"PATH": "/usr/bin:/bin"})
        assert await child.stdout.receive() == b"2048\n"
        await child.aclose()


async def test_a_launcher_that_is_kept_starts_programs_with_what_is_in_force_then(
    world: World, tmp_path: Path
) -> None:
    """Limits and mounts that the operator changes while the loop runs are the next program's, and change `revision`."""
    (tmp_path / "code").mkdir()
    code = MountSetting(source=str(tmp_path / "code"), target="/workspace/code", mode="rw")
    now = {"config": AgentConfig(limits=Limits(disk="1M"), mounts=(code,))}
    world.config = lambda _: now["config"]
    async with world.hive() as hive:
        await hive.spawn("alice")
        launcher = hive.launcher("alice")
        revisions = [launcher.revision]
        for config in (
            AgentConfig(limits=Limits(disk="2M"), mounts=(code,)),
            AgentConfig(limits=Limits(disk="2M")),
        ):
            now["config"] = config
            revisions.append(launcher.revision)
            child = await launcher.launch(["/bin/sh", "-c", "ulimit -f"], {"PATH": "/usr/bin:/bin"})
            assert await child.stdout.receive() == b"4096\n"
            await child.aclose()
        assert len(set(revisions)) == 3
        now["config"] = AgentConfig(limits=Limits(disk="2M"), model="opus")
        assert launcher.revision == hive.launcher("alice").revision == revisions[-1]
        await hive.destroy("alice")
        with pytest.raises(NotFound):
            await launcher.launch(["/bin/true"], {"PATH": "/usr/bin:/bin"})


async def test_a_new_agent_changes_what_the_managers_box_shows_and_nobody_elses(world: World) -> None:
    async with world.hive() as hive:
        await hive.ensure_manager()
        await hive.start_all()
        await hive.spawn("alice")
        before = {name: hive.launcher(name).revision for name in ("manager", "alice")}
        await hive.stop("alice")
        await hive.start("alice")
        assert hive.launcher("manager").revision == before["manager"]
        await hive.spawn("bob")
        assert hive.launcher("manager").revision != before["manager"]
        assert hive.launcher("alice").revision == before["alice"]


async def test_what_lies_in_another_agents_writable_mount_is_not_shown(world: World, tmp_path: Path) -> None:
    (tmp_path / "code/sub").mkdir(parents=True)
    async with world.hive() as hive:
        await hive.spawn("alice", [Mount(source=str(tmp_path / "code"), target="/workspace/c", mode="rw")])
        with pytest.raises(BadConfig, match="can write"):
            await hive.spawn("bob", [Mount(source=str(tmp_path / "code/sub"), target="/workspace/s")])
        await hive.spawn("carol", [Mount(source=str(tmp_path / "code"), target="/workspace/c", mode="rw")])
        await hive.destroy("alice")
        await hive.destroy("carol")
        await hive.spawn("bob", [Mount(source=str(tmp_path / "code/sub"), target="/workspace/s")])


# --- across lives of the hive ---


async def test_every_agent_that_the_operator_did_not_stop_comes_back(world: World) -> None:
    async with world.hive() as hive:
        await hive.ensure_manager()
        await hive.start_all()
        for name in ("alice", "bob", "carol"):
            await hive.spawn(name)
        await hive.stop("bob", by=OPERATOR)
        await hive.stop("carol", by=MANAGER)
    async with world.hive() as hive:
        running = {name: hive.view(name).running for name in await hive.list()}
        assert running == {"manager": True, "alice": True, "bob": False, "carol": True}
        await hive.ensure_manager()
        assert await hive.list() == ["manager", "alice", "bob", "carol"]


async def test_shutdown_drains_and_a_second_one_hurries(world: World) -> None:
    async with world.hive() as hive:
        for name in ("alice", "bob"):
            await hive.spawn(name)
        world.loops["alice"].idle = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.shutdown)
            await until(lambda: bool(world.loops["alice"].stopped))
            with pytest.raises(Conflict):
                await hive.spawn("carol")
            await hive.shutdown(now=True)
        assert world.loops["alice"].stopped[:2] == [False, True]
        assert not hive.view("bob").running
        assert world.events[2:] == []  # nobody was killed: they come back
    async with world.hive() as hive:
        assert hive.view("alice").running


async def test_a_spawn_cut_short_is_finished_at_the_next_start(world: World) -> None:
    async with world.hive() as hive:
        world.loops.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def spawn() -> None:
                with pytest.raises((Closed, Conflict)):
                    await hive.spawn("alice")

            tasks.start_soon(spawn)
            await until(lambda: hive.exists("alice"))
            world.tell_fails = True
            await _die(hive)
    world.tell_fails = False
    world.loops.gate = None
    async with world.hive() as hive:
        assert hive.view("alice").running
        assert world.events == [Spawned(agent="alice", ok=True)]


async def test_a_stop_cut_short_is_finished_at_the_next_start(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.tell_fails = True
        with pytest.raises(StoreFailed):
            await hive.stop("alice")
    world.tell_fails = False
    async with world.hive() as hive:
        assert not hive.view("alice").running
        assert world.events == [Spawned(agent="alice", ok=True), Killed(agent="alice")]


@pytest.mark.parametrize("purge", [False, True])
async def test_a_destroy_cut_short_is_finished_at_the_next_start(purge: bool, world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.tell_fails = world.forget_fails = True
        with pytest.raises(StoreFailed):
            await hive.destroy("alice", purge=purge)
        assert await hive.list() == []
    world.tell_fails = world.forget_fails = False
    async with world.hive() as hive:
        assert await hive.list() == []
        assert hive.tombstones() == ([] if purge else ["alice"])
        assert world.events[-1] == Destroyed(agent="alice")
        assert hive.paths.agent_dir(AgentName("alice")).exists() is not purge
        assert world.forgotten == ["alice"]


async def test_what_cannot_be_finished_keeps_nobody_else_down(world: World) -> None:
    async with world.hive() as hive:
        for name in ("alice", "bob"):
            await hive.spawn(name)
        world.tell_fails = world.forget_fails = True
        with pytest.raises(StoreFailed):
            await hive.destroy("alice", purge=True)
        with pytest.raises(StoreFailed):
            await hive.spawn("carol")
    async with world.hive() as hive:
        assert await hive.list() == ["bob", "carol"]
        assert hive.view("bob").running
        assert hive.view("carol").running
        world.tell_fails = world.forget_fails = False
        await hive.destroy("alice", purge=True)
        assert not hive.exists("alice")


async def test_a_loop_that_fails_to_stop_is_stopped_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        child = await hive.launcher("alice").launch(["/bin/sleep", "600"], {"PATH": "/usr/bin:/bin"})

        async def stop(self: Loop, *, now: bool) -> None:
            del self, now
            raise StoreFailed("the disk is full")

        with monkeypatch.context() as patches:
            patches.setattr(Loop, "stop", stop)
            with pytest.raises(StoreFailed):
                await hive.stop("alice")
        assert not hive.view("alice").running
        assert await child.wait() != 0
        await child.aclose()


async def test_a_destroy_that_failed_can_be_asked_again(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.forget_fails = True
        with pytest.raises(StoreFailed):
            await hive.destroy("alice", purge=True)
        world.forget_fails = False
        await hive.destroy("alice", purge=True)
        assert not hive.exists("alice")


# --- crash watch ---


async def test_a_loop_that_ends_unasked_is_told_of_and_started_again(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].crash("it tripped")
        assert not hive.view("alice").running
        await until(lambda: hive.view("alice").running)
        assert world.events[1:] == [ContainerCrash(agent="alice", note="it tripped")]
        assert world.loops.count("alice") == 2
        assert hive.last_error("alice") == "it tripped"


async def test_five_crashes_in_ten_minutes_are_a_loop_with_growing_pauses(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        for number in range(1, 5):
            await world.clock.advance(100)
            await crash_and(lambda n=number: world.loops.count("alice") == n + 1, world)  # type: ignore[misc]
        for pause in (60, 120, 240):
            await crash_and(lambda: hive.view("alice").state == "failed", world)
            await until(lambda p=pause: world.sleeping_for(p))  # type: ignore[misc]
            before = world.loops.count("alice")
            await world.clock.advance(pause)
            await until(lambda n=before: world.loops.count("alice") == n + 1)  # type: ignore[misc]
            await until(lambda: hive.view("alice").running)
        assert isinstance(world.events[5], ContainerCrash)
        assert "tried again in 60 s" in (world.events[5].note or "")
        await world.clock.advance(601)
        await crash_and(lambda: hive.view("alice").running, world)  # it ran long enough: a new story
        assert len([event for event in world.events if isinstance(event, ContainerCrash)]) == 8


async def crash_and(condition: Callable[[], bool], world: World) -> None:
    world.loops["alice"].crash("again")
    await until(condition)


async def test_an_agent_that_cannot_be_started_is_failed_and_tried_again(world: World) -> None:
    world.loops.broken = "there is no claude"
    async with world.hive() as hive:
        with pytest.raises(MissingPart):
            await hive.spawn("alice")
        assert hive.view("alice").state == "failed"
        assert world.events == [Spawned(agent="alice", ok=False, note="there is no claude")]
        world.loops.broken = None
        await until(lambda: world.sleeping_for(60))
        await world.clock.advance(60)
        await until(lambda: hive.view("alice").running)
        assert hive.view("alice").state == "idle"


async def test_an_agent_whose_directories_cannot_be_made_is_failed_and_tried_again(world: World) -> None:
    """A file in the way, a full disk, a read-only one: spawn says why, and nobody stays silently stopped."""
    async with world.hive() as hive:
        await hive.spawn("alice")
        await hive.stop("alice", by=MANAGER)
    repo = world.paths.proposed / "alice"
    (repo / "config").rmdir()
    repo.rmdir()
    for name in ("alice", "bob", "manager"):
        (world.paths.proposed / name).write_text("x")
    async with world.hive(start=False) as hive:
        await hive.ensure_manager()
        await hive.start_all()
        with pytest.raises(WorldError) as refused:
            await hive.spawn("bob")
        assert "proposed/bob is no directory" in str(refused.value)
        for name in ("alice", "bob", "manager"):
            assert hive.view(name).state == "failed"
            assert f"proposed/{name} is no directory" in (hive.last_error(name) or "")
        assert isinstance(world.events[-1], Spawned)
        assert "proposed/bob" in (world.events[-1].note or "")
        for name in ("alice", "manager"):
            (world.paths.proposed / name).unlink()
        await until(lambda: world.sleeping_for(60))
        await world.clock.advance(60)
        await until(lambda: hive.view("alice").running and hive.view("manager").running)
        await hive.destroy("bob", purge=True)
        assert not (world.paths.proposed / "bob").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
async def test_a_disk_that_takes_no_directory_fails_the_start_and_no_more(
    number: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    async with world.hive() as hive:
        with monkeypatch.context() as patches:
            patches.setattr(os, "mkdir", refuse)
            with pytest.raises(WorldError) as refused:
                await hive.spawn("alice")
        assert os.strerror(number) in str(refused.value)
        assert hive.view("alice").state == "failed"
        await hive.start("alice")
        assert hive.view("alice").state == "idle"


async def test_a_failed_start_does_not_keep_the_others_down(world: World) -> None:
    async with world.hive() as hive:
        for name in ("alice", "bob"):
            await hive.spawn(name)
    world.loops.broken = "there is no claude"
    async with world.hive() as hive:
        assert [hive.view(name).state for name in await hive.list()] == ["failed", "failed"]
        world.loops.broken = None
        await hive.start("alice")
        assert [hive.view(name).state for name in await hive.list()] == ["idle", "failed"]


async def test_an_operators_stop_ends_the_retries(world: World) -> None:
    world.loops.broken = "there is no claude"
    async with world.hive() as hive:
        with pytest.raises(MissingPart):
            await hive.spawn("alice")
        await hive.stop("alice")
        world.loops.broken = None
        await world.clock.advance(7200)
        await run_until_blocked()
        assert not hive.view("alice").running
        assert hive.view("alice").state == "stopped"


async def test_the_end_that_a_stop_brings_is_no_crash(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        loop = world.loops["alice"]
        await hive.stop("alice")
        loop.crash("late news")
        await run_until_blocked()
        assert world.events[1:] == [Killed(agent="alice")]
        assert world.loops.count("alice") == 1


async def test_a_crash_is_told_with_the_last_lines_of_the_agents_log(world: World) -> None:
    async def tail(name: AgentName) -> list[str]:
        return [f"{name} {number}\nFrom: operator" for number in range(30)] + ["x" * 5000]

    world.log_tail = tail
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].crash("it tripped")
        await until(lambda: len(world.events) > 1)
        crash = world.events[1]
        assert isinstance(crash, ContainerCrash)
        first, title, *lines = (crash.note or "").splitlines()
        assert (first, title) == ("it tripped", "last lines of its log:")
        assert len(lines) == 20
        assert all(line.startswith("| ") and len(line) <= 202 for line in lines)
        assert lines[0] == "| alice 11 From: operator"
        assert hive.last_error("alice") == "it tripped"


@pytest.mark.parametrize("how", ["fails", "never answers"])
async def test_a_log_that_cannot_be_read_keeps_no_crash_from_being_told(
    how: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tail(_: AgentName) -> list[str]:
        if how == "fails":
            raise StoreFailed("the log is broken")
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr("hyperhive.lifecycle.supervisor.LOG_SECONDS", 0.05)
    world.log_tail = tail
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].crash("it tripped")
        await until(lambda: world.loops.count("alice") == 2)
        assert world.events[1:] == [ContainerCrash(agent="alice", note="it tripped")]


async def test_what_an_earlier_loop_still_says_is_no_crash_of_the_new_one(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        await hive.restart("alice")
        world.loops.made[0].crash("late news")
        assert hive.view("alice").running
        await run_until_blocked()
        assert world.events == [Spawned(agent="alice", ok=True)]
        assert world.loops.count("alice") == 2


@pytest.mark.parametrize("moment", ["at once", "while it is cleaned up after"])
@pytest.mark.parametrize("loops", [False, True], ids=["first crash", "crash loop"])
async def test_whom_the_manager_stops_right_after_a_crash_stays_stopped(
    moment: str, loops: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash brings an agent back by itself; a stop that comes in between is the later word."""
    reached, go_on = anyio.Event(), anyio.Event()
    release = ProcessRuntime.release

    async def slowly(self: ProcessRuntime, agent: AgentName) -> None:
        if not reached.is_set():
            reached.set()
            await go_on.wait()
        await release(self, agent)

    async with world.hive() as hive:
        await hive.spawn("alice")
        if loops:
            for number in range(1, 5):
                await crash_and(lambda n=number: world.loops.count("alice") == n + 1, world)  # type: ignore[misc]
                await until(lambda: hive.view("alice").running)
        monkeypatch.setattr(ProcessRuntime, "release", slowly)
        world.loops["alice"].crash("it tripped")
        made = world.loops.count("alice")
        if moment == "at once":
            reached.set()
            go_on.set()
        else:
            await reached.wait()
        await hive.stop("alice", by=MANAGER)
        go_on.set()
        await until(lambda: sum(isinstance(event, ContainerCrash) for event in world.events) == made)
        await run_until_blocked()
        await world.clock.advance(7200)
        await run_until_blocked()
        assert world.loops.count("alice") == made
        assert hive.view("alice").state == "stopped"


async def test_a_start_forgets_the_retry_that_was_due(world: World) -> None:
    """Else it would come on top of the new one, and out of anybody's reach."""
    world.loops.broken = "there is no claude"
    async with world.hive() as hive:
        with pytest.raises(MissingPart):
            await hive.spawn("alice")
        await until(lambda: world.sleeping_for(60))
        await world.clock.advance(30)
        with pytest.raises(MissingPart):
            await hive.start("alice")
        await until(lambda: world.sleeping_for(60))
        assert not world.sleeping_for(30)
        await hive.stop("alice")
        await run_until_blocked()
        assert not world.sleeping_for(60)


# --- scale ---


async def test_a_thousand_agents_are_no_thousand_tasks_or_threads(world: World) -> None:
    """Idle agents cost memory only: what runs beside them does not grow with their number."""
    import asyncio
    import threading

    async with world.hive() as hive:
        await hive.ensure_manager()
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(hive.spawn, f"agent-{number}")
        assert len(await hive.list()) == 201
        await run_until_blocked()
        assert len(asyncio.all_tasks()) < 12
        assert threading.active_count() < 50
    async with world.hive() as hive:
        views = [hive.view(name) for name in await hive.list()]
        assert all(view.running for view in views)
        assert len(seen(hive, ContainerStateChanged)) <= 4 * len(views)


async def _die(hive: Lifecycle) -> None:
    """As much of a kill -9 as one process can have: nothing is settled any more."""
    hive._actions.close()
    await hive._background.aclose()
