"""What stands between running and gone: a removal that could not be finished, and agents that somebody stopped."""

from pathlib import Path

import pytest

from hyperhive.errors import Conflict, StoreFailed
from hyperhive.names import MANAGER
from hyperhive.paths import Paths
from lifecycle_world import World


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
