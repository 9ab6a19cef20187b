"""A hive of another revision: who needs an update, who gets it by itself, and what becomes of one that fails."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
import pytest

from deploy_world import ALICE, Crash, DeployWorld, Life
from hyperhive.agent_toml import AgentFile
from hyperhive.config import AgentConfig
from hyperhive.errors import BadConfig, Closed, NotAvailable, NotFound, WorldError
from hyperhive.names import AgentName
from hyperhive.protocol.events import NeedsUpdate, Rebuilt


@pytest.fixture
async def world(tmp_path: Path) -> DeployWorld:
    """A host whose alice was deployed by revision 1, and whose hive is of revision 2 now."""
    world = DeployWorld(tmp_path)
    async with world.life() as life:
        await deploy(life, world, 'prompt = "new"\n')
        assert not life.updates.needs("alice")
    world.told.clear()
    world.log.clear()
    world.revision = "2"
    return world


async def deploy(life: Life, world: DeployWorld, text: str) -> None:
    number = await life.queue.request_apply_commit("alice", await world.commit(text), by="manager")
    await life.approve(number)
    await life.work()


async def revisions(life: Life) -> list[str]:
    return [one.revision for one in await life.configs.history("alice")]


def starts(world: DeployWorld) -> int:
    return sum(what == "start" for what, *_ in world.log)


async def test_an_agent_of_another_revision_needs_an_update_until_it_had_one(world: DeployWorld) -> None:
    async with world.life() as life:
        assert life.updates.waiting() == [ALICE]
        assert await life.updates.update("alice") is None
        assert not life.updates.needs("alice")
        assert await revisions(life) == ["1", "2"]
        assert Rebuilt(agent="alice", ok=True) in world.told.values()
    async with world.life() as life:
        assert life.updates.waiting() == []


async def test_an_update_starts_the_agent_anew_also_where_it_needs_none(world: DeployWorld) -> None:
    world.revision = "1"
    async with world.life() as life:
        before = life.stage.life(ALICE)
        await life.updates.update("alice")
        assert life.stage.life(ALICE) != before


async def test_a_stopped_agent_is_updated_and_stays_stopped(world: DeployWorld) -> None:
    world.held.add("alice")
    async with world.life() as life:
        assert await life.updates.update("alice") == "it is stopped: its health is not known"
        assert not life.updates.needs("alice")
        assert life.stage.life(ALICE) is None


async def test_where_it_goes_by_itself_nobody_is_told_and_nothing_is_started_that_stays_as_it_is(
    world: DeployWorld,
) -> None:
    async with world.life() as life:
        world.log.clear()
        await life.updates.catch_up(by_itself=True)
        assert life.updates.waiting() == []
        assert (world.told, starts(world)) == ({}, 0)


async def test_what_this_revision_reads_in_another_way_is_in_force_after_the_update(
    world: DeployWorld,
) -> None:
    async with world.life() as life:
        row = life.configs.deployed("alice")
        assert row is not None  # the revision before stored it in its own words
        await life.configs.built(msgspec.structs.replace(row, config='{"prompt": "of old"}'))
        assert life.configs.effective("alice", AgentConfig()).prompt == "of old"
        world.log.clear()
        await life.updates.catch_up(by_itself=True)
        assert life.configs.effective("alice", AgentConfig()).prompt == "new"
        assert starts(world) == 1
    async with world.life() as life:
        assert life.configs.effective("alice", AgentConfig()).prompt == "new"


async def test_where_it_does_not_go_by_itself_it_is_told_under_one_key(world: DeployWorld) -> None:
    for _ in range(2):
        async with world.life() as life:
            await life.updates.catch_up(by_itself=False)
            assert life.updates.needs("alice")
    assert list(world.told.values()) == [NeedsUpdate(agent="alice")]


@pytest.mark.parametrize("fault", ["sick", "unreadable", "packages"])
async def test_what_fails_leaves_the_agent_on_what_it_had_and_is_told_and_tried_again(
    fault: str, world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sick(_: str) -> None:
        raise WorldError("its tools are not connected")

    async def unreadable(_: str, __: str) -> AgentFile:
        raise BadConfig(["agent.toml:1: prompt: is not known any more"])

    def missing(_: Sequence[str]) -> None:
        raise NotAvailable("this runtime has no packages")

    async with world.life() as life:
        with monkeypatch.context() as patch:
            if fault == "sick":
                patch.setattr(life.stage, "probe", sick)
            elif fault == "unreadable":
                patch.setattr(life.deployer, "read", unreadable)
            else:
                patch.setattr(life.stage, "check_packages", missing)
            with pytest.raises((WorldError, BadConfig, NotAvailable)):
                await life.updates.update("alice")
            await life.updates.catch_up(by_itself=True)
            assert life.updates.needs("alice")
        assert life.stage.running[ALICE][1].prompt == "new"
        assert {event.ok for event in world.told.values() if isinstance(event, Rebuilt)} == {False}
        ended = await life.updates.update_all()
        assert (ended, life.updates.waiting()) == ({ALICE: None}, [])


@pytest.mark.parametrize("what", ["update", "rebuild"])
async def test_an_agent_whose_remains_do_not_end_is_told_of_and_runs_all_the_same(
    what: str, world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.life() as life:

        async def hangs(agent: AgentName, *, now: bool) -> None:
            del now
            life.stage.running.pop(agent, None)
            raise WorldError(f"processes of {agent} do not end although they were killed")

        monkeypatch.setattr(life.stage, "halt", hangs)
        with pytest.raises(WorldError, match="do not end"):
            await (life.updates.update if what == "update" else life.deployer.rebuild)("alice")
        assert life.stage.life(ALICE) is not None


async def test_update_all_says_what_went_wrong_with_whom_and_leaves_alone_who_needs_none(
    world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.agents |= {"bob", "carol"}
    async with world.life() as life:  # both are new, of this revision
        row = life.configs.deployed("bob")
        assert row is not None
        await life.configs.built(msgspec.structs.replace(row, revision="1"))
        real = life.stage.probe

        async def probe(agent: str) -> None:
            if agent == "bob":
                raise WorldError("no tools")
            await real(ALICE)

        monkeypatch.setattr(life.stage, "probe", probe)
        ended = await life.updates.update_all()
        assert {str(name): error and error.message for name, error in ended.items()} == {
            "alice": None,
            "bob": "no tools",
        }


async def test_nobody_is_updated_whom_there_is_not(world: DeployWorld) -> None:
    async with world.life() as life:
        with pytest.raises(NotFound):
            await life.updates.update("nobody")
        world.agents.clear()
        assert life.updates.waiting() == []


@pytest.mark.parametrize("while_it", ["starts", "is looked at"])
async def test_a_hive_that_stops_leaves_the_update_for_the_next_start(
    while_it: str, world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.life() as life:

        async def hangs(_: str) -> None:
            life.stage.closing.set()
            await anyio.sleep_forever()

        async def comes_up_without_a_loop(agent: AgentName) -> None:
            life.stage.closing.set()
            life.stage.running.pop(agent, None)

        if while_it == "starts":
            monkeypatch.setattr(life.stage, "start", comes_up_without_a_loop)
        else:
            monkeypatch.setattr(life.stage, "probe", hangs)
        with pytest.raises(Closed):
            await life.updates.update("alice")
        assert life.updates.needs("alice")
        assert world.told == {}


async def test_update_all_starts_anew_also_whom_a_start_alone_gives_what_waits(world: DeployWorld) -> None:
    """A container whose limits are others now, say; a hive that starts leaves it running."""
    world.agents.add("bob")
    async with world.life() as life:
        await life.updates.update_all()
        world.waits.add("bob")
        world.log.clear()
        await life.updates.catch_up(by_itself=True)
        assert world.log == []
        assert await life.updates.update_all() == {"bob": None}
        assert [(what, who) for what, who, _ in world.log] == [("halt", "bob"), ("start", "bob")]


@pytest.mark.parametrize("step", ["start_anew", "check_health", "built"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_hive_that_dies_in_an_update_does_it_again(
    step: str, after: bool, world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dying(life: Life) -> None:
        part = life.configs if step == "built" else life.deployer
        real = getattr(part, step)

        async def dies(*args: object, **more: object) -> None:
            if after:
                await real(*args, **more)
            raise Crash(step)

        monkeypatch.setattr(part, step, dies)
        await life.updates.update("alice")

    await world.live(None, dying)
    async with world.life() as life:
        assert life.updates.needs("alice") is not (step == "built" and after)
        assert life.stage.running[ALICE][1].prompt == "new"
        await life.updates.catch_up(by_itself=True)
        assert not life.updates.needs("alice")
        assert life.stage.running[ALICE][1].prompt == "new"
