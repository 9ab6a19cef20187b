"""What stands between running and gone: a removal that could not be finished, and agents that somebody stopped."""

from pathlib import Path

import anyio
import pytest

from hyperhive.errors import Conflict, StoreFailed, WorldError
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.events import ContainerCrash
from lifecycle_world import World, until


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Paths.of(tmp_path / "hive"))


@pytest.mark.parametrize("purge", [False, True])
async def test_a_name_is_not_given_again_before_all_of_it_is_removed(purge: bool, world: World) -> None:
    """What is left of it, state that was to be deleted among it, must not be a new agent's."""
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.forget_fails = True
        with pytest.raises(StoreFailed):
            await hive.destroy("alice", purge=purge)
        with pytest.raises(Conflict, match="alice is not all removed yet") as caught:
            await hive.spawn("alice")
        flag = " --purge" if purge else ""
        assert caught.value.hint == f"`hyperhive destroy alice{flag}` goes on with it, as does the next start"
        world.forget_fails = False
        await hive.destroy("alice", purge=purge)
        await hive.spawn("alice")
        assert hive.view("alice").running


async def test_whom_anybody_stopped_no_deploy_starts(world: World) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")
        assert hive.should_run("alice")
        world.loops["alice"].crash("it tripped")
        assert hive.should_run("alice"), "its crash is for the hive to mend"
        await hive.stop("alice", by=MANAGER)
        assert not hive.should_run("alice")
        await hive.start("alice", by=MANAGER)
        assert hive.should_run("alice")
        await hive.stop("alice", by=MANAGER)
    async with world.hive() as hive:
        assert hive.should_run("alice"), "the manager's stop lasts until the hive starts anew"


@pytest.mark.parametrize("verb", ["restart", "stop", "destroy"])
async def test_a_deploy_is_in_nobodys_way_and_a_restart_leaves_its_new_loop_alone(
    verb: str, world: World
) -> None:
    """Its health would be asked of a loop that was stopped; whoever wants the agent to end ends it all the same."""
    started, well = anyio.Event(), anyio.Event()
    async with world.hive() as hive:
        await hive.spawn("alice")

        async def deploy() -> None:
            await hive.halt_for_deploy("alice", now=False)
            await hive.start_for_deploy("alice")
            started.set()
            await well.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.redeploy, "alice", deploy)
            await started.wait()
            act = {"restart": hive.restart, "stop": hive.stop, "destroy": hive.destroy}[verb]
            tasks.start_soon(lambda: act("alice", now=True))
            if verb == "restart":
                await anyio.wait_all_tasks_blocked()
                assert (world.loops.made[1].stopped, hive.should_run("alice")) == ([], True)
            else:
                await until(lambda: hive.life_of("alice") is None)
                assert (world.loops.made[1].stopped, hive.should_run("alice")) == ([True], False)
            well.set()
        assert world.loops.made[1].stopped == [True]
        assert hive.exists("alice") is True


async def test_now_ends_the_turn_too_that_a_deploy_only_comes_to_wait_for(world: World) -> None:
    built = anyio.Event()
    async with world.hive() as hive:
        await hive.spawn("alice")
        world.loops["alice"].idle = anyio.Event()

        async def deploy() -> None:
            await built.wait()
            await hive.halt_for_deploy("alice", now=False)
            await hive.start_for_deploy("alice")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.redeploy, "alice", deploy)
            tasks.start_soon(lambda: hive.restart("alice", now=True))
            await anyio.wait_all_tasks_blocked()
            assert world.loops["alice"].stopped == []
            built.set()
        assert world.loops.made[0].stopped == [True]
        # whoever hurried is gone, and the next one drains as it says
        world.loops["alice"].idle = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hive.stop, "alice")
            await until(lambda: world.loops["alice"].stopped == [False])
            world.loops["alice"].idle.set()


async def test_a_crash_is_told_of_and_mended_also_where_something_of_it_does_not_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.hive() as hive:
        await hive.spawn("alice")

        async def hangs(agent: AgentName) -> None:
            raise WorldError(f"processes of {agent} do not end although they were killed")

        with monkeypatch.context() as patches:
            patches.setattr(hive.runtime, "release", hangs)
            world.loops["alice"].crash("it tripped")
            await until(lambda: world.loops.count("alice") == 2)
        crash = world.events[-1]
        assert isinstance(crash, ContainerCrash)
        assert (crash.note or "").startswith("it tripped")
