"""Deploys: what was approved comes to run, what is unwell does not, and either is told with its reason."""

from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from deploy_world import ALICE, Crash, DeployWorld, Life
from hyperhive.config import AgentConfig, Limits
from hyperhive.errors import BadConfig, Conflict, NotFound, StoreFailed, WorldError
from hyperhive.lifecycle.approvals.rows import Move, Row
from hyperhive.names import AgentName
from hyperhive.protocol.events import AnyHelperEvent, ApprovalResolvedMail, Rebuilt
from hyperhive.protocol.types import Approval


@pytest.fixture
def world(tmp_path: Path) -> DeployWorld:
    return DeployWorld(tmp_path)


async def propose(life: Life, world: DeployWorld, text: str) -> int:
    commit = world.memory.commit({"agent.toml": text}, on=world.memory.mains["alice"])
    return await life.queue.request_apply_commit("alice", commit, by="manager")


async def deploy(life: Life, world: DeployWorld, text: str) -> Approval:
    number = await propose(life, world, text)
    await life.approve(number)
    await life.work()
    return (await life.queue.show(number)).approval


def running(life: Life) -> AgentConfig:
    return life.stage.running["alice"][1]


async def test_an_approved_commit_comes_to_run_and_is_told(world: DeployWorld) -> None:
    async with world.life() as life:
        done = await deploy(life, world, 'prompt = "new"\n')
        assert (done.status, done.stage, done.note) == ("approved", "deployed", None)
        assert running(life).prompt == "new"
        assert world.memory.mains["alice"] == done.commit_ref
        tags = world.memory.tags_of["alice"]
        for word in ("proposal", "approved", "building", "deployed"):
            assert tags[f"{word}/{done.id}"] == done.commit_ref
        assert await life.deployer._lock.read() == {"alice": done.commit_ref}
        mail, rebuilt = world.told[f"approval:{done.id}:resolved"], world.told[f"approval:{done.id}:rebuilt"]
        assert isinstance(mail, ApprovalResolvedMail)
        assert (mail.status, mail.commit_ref) == ("approved", done.commit_ref)
        assert rebuilt == Rebuilt(agent="alice", ok=True)
        assert [entry.action for entry in await life.queue.audit()] == ["deployed", "approved", "requested"]
    async with world.life() as life:  # and the next start needs no git for it
        assert running(life).prompt == "new"


BROKEN = {
    "no TOML": ("prompt = ", "agent.toml: Invalid value"),
    "an unknown key": ("promt = 'x'", "agent.toml:1: promt: unknown key"),
    "the operator's": ("account = 'x'", "account: is the operator's alone"),
    "a package that there is not": ("packages = ['git']", "no packages"),
    "does not start": ('prompt = "does not start"', "does not start"),
    "no tools": ('prompt = "sick"', "tools are not connected"),
    "never well": ('prompt = "hangs"', "not well within 120 s"),
    "does not stay": ('prompt = "ends at once"', "its loop ended"),
    "starts anew by itself": ('prompt = "dies"', "was started again"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_config_fails_with_its_reason_and_the_old_one_runs(
    case: str, world: DeployWorld
) -> None:
    text, reason = BROKEN[case]
    async with world.life() as life:
        good = await deploy(life, world, 'prompt = "old"\n')
        number = await propose(life, world, text)
        await life.approve(number)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.work)
            if case == "never well":
                while not world.clock._sleepers:
                    await anyio.lowlevel.checkpoint()
                await world.clock.advance(121)
        done = (await life.queue.show(number)).approval
        assert (done.status, done.stage) == ("failed", "failed")
        assert reason in (done.note or "")
        assert running(life).prompt == "old"
        assert world.memory.mains["alice"] == good.commit_ref
        assert world.memory.messages["alice", f"failed/{number}"] == done.note
        assert f"deployed/{number}" not in world.memory.tags_of["alice"]
        assert await life.deployer._lock.read() == {"alice": good.commit_ref}
        assert not life.deployer._lock.aside(ALICE).exists()
        assert world.told[f"approval:{number}:rebuilt"] == Rebuilt(agent="alice", ok=False, note=done.note)
    async with world.life() as life:
        assert running(life).prompt == "old"


async def test_what_a_running_agent_can_take_over_restarts_nothing(world: DeployWorld) -> None:
    async with world.life() as life:
        world.log.clear()
        await deploy(life, world, 'model = "sonnet"\n')
        assert [word for word, _, _ in world.log] == ["forget model"]
        assert running(life).model == "sonnet"
        world.log.clear()
        await deploy(life, world, 'model = "sonnet"\nprompt = "x"\n')
        assert [word for word, _, _ in world.log] == ["halt", "start"]
        world.log.clear()
        await deploy(life, world, 'model = "sonnet"\nprompt = "x"\n# a remark\n')
        assert world.log == []


async def test_the_diff_says_what_is_live_what_restarts_what_is_cut_and_what_would_fail(
    world: DeployWorld,
) -> None:
    world.operator = AgentConfig(limits=Limits(pids=10))
    async with world.life() as life:
        await life.queue.start()
        said = await life.deployer.remarks(
            ALICE, "", world.memory.commit({"agent.toml": 'model = "x"\npids = 99\n'})
        )
        assert said == [
            "cut: pids: 99 is cut to 10 by [agents.alice.limits]",
            "taken over while it runs: model",
        ]
        said = await life.deployer.remarks(ALICE, "", world.memory.commit({"agent.toml": "model = 3\n"}))
        assert said == ["it would fail: agent.toml:1: model: expected text, not a whole number"]


async def test_where_an_agent_lives_by_its_commit_nothing_is_said_to_be_taken_over_live(
    world: DeployWorld,
) -> None:
    """A commit that changes agent.nix alone changes the agent, too."""
    world.lives_by_commit = True
    built = "its container is built from all of this commit, and it is started anew in that"
    async with world.life() as life:
        elsewhere = world.memory.commit({"agent.toml": "", "agent.nix": "{ }"})
        assert await life.deployer.remarks(ALICE, "", elsewhere) == [built]
        model = world.memory.commit({"agent.toml": 'model = "x"\n'})
        assert await life.deployer.remarks(ALICE, "", model) == [
            "taken by a restart between two turns: model",
            built,
        ]


async def test_beside_the_diff_stands_what_the_runtime_cannot_give_and_that_the_hosts_network_is_asked_for(
    world: DeployWorld,
) -> None:
    async with world.life() as life:
        text = 'packages = ["rg"]\nnetwork = "host"\n'
        said = await life.deployer.remarks(ALICE, "", world.memory.commit({"agent.toml": text}))
        assert "it would fail: this runtime has no packages" in said
        assert any("share the host's network" in one for one in said)
        plain = await life.deployer.remarks(
            ALICE, "", world.memory.commit({"agent.toml": 'network = "none"\n'})
        )
        assert not any("host's network" in one or "would fail" in one for one in plain)


async def test_a_stopped_agent_is_not_started_by_a_deploy(world: DeployWorld) -> None:
    world.held.add("alice")
    async with world.life() as life:
        done = await deploy(life, world, 'prompt = "new"\n')
        assert (done.stage, done.note) == ("deployed", "it is stopped: its health is not known")
        assert life.stage.running == {}
        world.held.clear()
        await life.stage.start(ALICE)
        assert running(life).prompt == "new"


async def test_whom_somebody_stops_while_its_health_is_looked_at_is_no_failure(world: DeployWorld) -> None:
    async with world.life() as life:

        async def stopped(agent: AgentName) -> None:
            world.held.add(agent)
            life.stage.running.pop(agent)
            raise Conflict(f"{agent} does not run")

        life.stage.probe = stopped  # type: ignore[method-assign]
        done = await deploy(life, world, 'prompt = "new"\n')
        assert (done.stage, done.note) == ("deployed", "it is stopped: its health is not known")
        assert life.stage.running == {}


async def test_a_base_that_moves_after_the_approval_ends_in_a_failure_never_in_a_deploy(
    world: DeployWorld,
) -> None:
    async with world.life() as life:
        number = await propose(life, world, 'prompt = "new"\n')
        await life.approve(number)
        elsewhere = world.memory.commit({"agent.toml": "# elsewhere"}, on=world.memory.mains["alice"])
        world.memory.mains["alice"] = elsewhere
        await life.work()
        done = (await life.queue.show(number)).approval
        assert done.stage == "failed"
        assert "stale_base" in (done.note or "")
        assert running(life).prompt == ""


async def test_what_was_judged_by_an_older_main_is_not_deployed_on_top_of_what_the_rows_say(
    world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Main could not be moved to what was deployed, so that the next one was approved by the diff against the old."""

    async def refuses(agent: AgentName, old: str, new: str) -> None:
        raise WorldError(f"main of {agent} cannot be moved from {old} to {new}")

    async with world.life() as life:
        with monkeypatch.context() as patches:
            patches.setattr(world.memory, "advance_main", refuses)
            one = await deploy(life, world, 'prompt = "one"\n')
            assert (one.stage, one.commit_ref != world.memory.mains["alice"]) == ("deployed", True)
            two = await deploy(life, world, 'model = "sonnet"\n')
        assert two.stage == "failed"
        assert "stale_base" in (two.note or "")
        assert (running(life).prompt, running(life).model) == ("one", None)
    async with world.life() as life:
        assert world.memory.mains["alice"] == one.commit_ref
        assert (await deploy(life, world, 'prompt = "three"\n')).stage == "deployed"


async def test_a_database_that_is_older_than_the_repos_goes_on_from_what_they_hold(tmp_path: Path) -> None:
    """As one from yesterday's copy; what was approved on top of a later main holds what the rows know of."""
    (tmp_path / "now").mkdir()
    world = DeployWorld(tmp_path / "now")
    async with world.life() as life:
        await deploy(life, world, 'prompt = "one"\n')
    older = await world.copied(tmp_path / "older")
    async with world.life() as life:
        await deploy(life, world, 'prompt = "two"\n')
    older.repos = world.repos
    async with older.life() as life:
        assert running(life).prompt == "one"
        assert (await deploy(life, older, 'prompt = "three"\n')).stage == "deployed"
        assert older.memory.mains["alice"] == (await life.configs.history("alice"))[-1].sha


async def test_an_agent_whose_remains_do_not_end_is_brought_back_and_its_approval_told(
    world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.life() as life:
        await deploy(life, world, 'prompt = "old"\n')

        async def hangs(agent: AgentName, *, now: bool) -> None:
            life.stage.running.pop(agent, None)
            if now:
                raise WorldError(f"processes of {agent} do not end although they were killed")

        monkeypatch.setattr(life.stage, "halt", hangs)
        done = await deploy(life, world, 'prompt = "sick"\n')
        assert done.stage == "failed"
        assert running(life).prompt == "old"
        assert f"approval:{done.id}:resolved" in world.told


async def test_an_unwell_agent_is_switched_back_also_where_that_cannot_be_written_down(
    world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The approval fails at the next start then."""
    async with world.life() as life:
        await deploy(life, world, 'prompt = "old"\n')
        stage = life.queue.stage

        async def full(id: int, to: Move, note: str | None = None, **more: str) -> Row:  # noqa: A002
            if to == "failed":
                raise StoreFailed("the disk is full")
            return await stage(id, to, note, **more)

        monkeypatch.setattr(life.queue, "stage", full)
        number = await propose(life, world, 'prompt = "sick"\n')
        await life.approve(number)
        await life.work()
        assert (await life.queue.row(number)).stage == "building"
        assert running(life).prompt == "old"
    async with world.life() as life:
        assert (await life.queue.show(number)).approval.stage == "failed"
        assert running(life).prompt == "old"


async def test_who_is_told_of_a_deploy_after_a_crash_finds_it_in_the_repo(tmp_path: Path) -> None:
    class Looking(DeployWorld):
        async def tell(self, event: AnyHelperEvent, key: str) -> None:
            if isinstance(event, ApprovalResolvedMail):
                assert event.commit_ref == self.memory.mains["alice"]
                assert self.memory.tags_of["alice"][f"deployed/{event.id}"] == event.commit_ref
            await super().tell(event, key)

    world = Looking(tmp_path)

    async def dies(name: str) -> None:
        if name == "after finalize":
            raise Crash(name)

    with suppress(Crash):
        async with world.life() as life:
            life.deployer._steps._failpoint = dies
            number = await propose(life, world, 'prompt = "new"\n')
            await life.approve(number)
            await life.work()
    assert not world.told
    async with world.life():
        assert f"approval:{number}:resolved" in world.told


async def test_a_rollback_deploys_an_earlier_tree_under_a_new_number(world: DeployWorld) -> None:
    async with world.life() as life:
        first = await deploy(life, world, 'prompt = "one"\n')
        await deploy(life, world, 'prompt = "two"\n')
        number = await life.deployer.roll_back("alice", first.id)
        await life.work()
        done = (await life.queue.show(number)).approval
        assert (done.stage, done.note, done.resolved_by) == (
            "deployed",
            f"rollback to deployed/{first.id}",
            "operator",
        )
        assert running(life).prompt == "one"
        files = world.memory.commits[done.commit_ref].files
        assert files == world.memory.commits[first.commit_ref].files
        assert world.memory.mains["alice"] == done.commit_ref != first.commit_ref
        back = await life.deployer.roll_back("alice", 0)
        await life.work()
        assert running(life).prompt == ""
        assert (await life.queue.audit())[1].action == "rollback"
        with pytest.raises(NotFound, match="there are 0, 1, 2"):
            await life.deployer.roll_back("alice", 99)
        with pytest.raises(Conflict, match="is what alice runs"):
            await life.deployer.roll_back("alice", back)


async def test_a_spawn_that_was_approved_makes_the_agent(world: DeployWorld) -> None:
    async with world.life() as life:
        number = await life.queue.request_spawn("bob", by="manager")
        await life.approve(number)
        await life.work()
        done = (await life.queue.show(number)).approval
        assert (done.status, done.stage) == ("approved", "deployed")
        assert world.spawned == ["bob"]
        late = await life.queue.request_spawn("carol", by="manager")
        await life.approve(late)
        world.agents.add("carol")  # the operator was quicker
        await life.work()
        done = (await life.queue.show(late)).approval
        assert (done.stage, world.spawned) == ("failed", ["bob"])


async def test_a_deploy_of_an_agent_that_is_gone_fails(world: DeployWorld) -> None:
    async with world.life() as life:
        number = await propose(life, world, 'prompt = "new"\n')
        await life.approve(number)
        world.agents.clear()
        await life.work()
        done = (await life.queue.show(number)).approval
        assert (done.stage, (done.note or "")[:9]) == ("failed", "destroyed")


async def test_a_rebuild_puts_right_what_drifted(world: DeployWorld) -> None:
    async with world.life() as life:
        done = await deploy(life, world, 'prompt = "new"\n')
        del world.memory.tags_of["alice"][f"deployed/{done.id}"]
        life.deployer._lock.path.write_text("not JSON")
        life.stage.running.clear()
        await life.deployer.rebuild("alice")
        assert world.memory.tags_of["alice"][f"deployed/{done.id}"] == done.commit_ref
        assert await life.deployer._lock.read() == {"alice": done.commit_ref}
        assert running(life).prompt == "new"
        assert Rebuilt(agent="alice", ok=True) in world.told.values()
        life.configs.use(ALICE, life.configs.file(ALICE))


async def test_a_rebuild_that_leaves_the_agent_unwell_says_so(
    world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sick(_: str) -> None:
        raise WorldError("no tools")

    async with world.life() as life:
        monkeypatch.setattr(life.stage, "probe", sick)
        with pytest.raises(WorldError, match="no tools"):
            await life.deployer.rebuild("alice")
        assert Rebuilt(agent="alice", ok=False, note="no tools") in world.told.values()


async def test_a_host_that_lost_its_rows_begins_with_what_the_repos_say(world: DeployWorld) -> None:
    async with world.life() as life:
        done = await deploy(life, world, 'prompt = "new"\n')
    (world.root / "hive.sqlite").unlink()
    async with world.life() as life:
        assert running(life).prompt == "new"
        assert [one.number for one in await life.configs.history("alice")] == [0, done.id]
        assert (await deploy(life, world, 'prompt = "newer"\n')).id == done.id + 1


async def test_a_hive_that_stops_puts_the_deploy_off(world: DeployWorld) -> None:
    async with world.life() as life:
        number = await propose(life, world, 'prompt = "hangs"\n')
        await life.approve(number)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.work)
            while running(life).prompt != "hangs":
                await anyio.lowlevel.checkpoint()
            life.stage.closing.set()
        assert (await life.queue.show(number)).approval.stage == "building"


async def test_what_is_approved_while_the_hive_goes_down_is_answered_and_carried_out_by_the_next(
    world: DeployWorld,
) -> None:
    async with world.life() as life:
        commit = await world.commit('prompt = "late"\n')
        number = await life.queue.request_apply_commit("alice", commit, by="manager")
        life.queue.deploy_with(life.deployer)
        await life.deployer.aclose()
        await life.approve(number)
        assert (await life.queue.row(number)).stage == "approved"
    async with world.life() as life:
        assert (await life.queue.row(number)).stage == "deployed"
        assert life.stage.running["alice"][1].prompt == "late"


async def test_a_bug_in_a_step_fails_the_approval(
    world: DeployWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: object) -> None:
        raise ZeroDivisionError

    async with world.life() as life:
        monkeypatch.setattr(life.deployer._steps, "build", broken)
        done = await deploy(life, world, 'prompt = "new"\n')
        assert (done.stage, done.note) == ("failed", "a bug in the hive: ZeroDivisionError")


async def test_an_invalid_file_is_read_as_such(world: DeployWorld) -> None:
    async with world.life() as life:
        with pytest.raises(BadConfig):
            await life.deployer._steps.read(ALICE, world.memory.commit({"agent.toml": "x"}))
