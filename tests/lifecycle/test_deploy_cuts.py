"""The whole way of an approval, cut short at every failpoint, and again in the life after that.

However often the process dies, and where: the approval ends once and well, what was answered has happened, the agent
runs what the rows say, and whoever asked is told. Repos and agents are in memory here; `test_deploy_git` has git.
"""

import copy
import inspect
import random
import re
import shutil
from pathlib import Path

import pytest

from deploy_world import ALICE, Crash, DeployWorld, Fuse, Life
from hyperhive.lifecycle.deploy.steps import ABORT, DEPLOY, SPAWN, Steps
from hyperhive.protocol.events import ApprovalResolvedMail
from hyperhive.testing.approval_checker import ApprovalChecker
from parts import ROOT

OLD = 'prompt = "old"\n'

STORIES: dict[str, tuple[str, str, str]] = {
    # what the manager proposes, what the operator says, how it ends
    "deploy": ('prompt = "new"\n', "approve", "deployed"),
    "live": (OLD + 'model = "sonnet"\n', "approve", "deployed"),
    "unwell": ('prompt = "sick"\n', "approve", "failed"),
    "invalid": ("prompt = 3\n", "approve", "failed"),
    "deny": ('prompt = "new"\n', "deny", "denied"),
    "roll back": ("", "roll back", "deployed"),
    "spawn": ("", "approve", "deployed"),
}


async def play(life: Life, world: DeployWorld, story: str, checker: ApprovalChecker) -> None:
    """What the manager and the operator do, as far as it is not done: they see what is there, and go on from it."""
    text, word, _ = STORIES[story]
    asked = [
        entry.approval for entry in await life.queue.audit() if entry.action in {"requested", "rollback"}
    ]
    number = max((each for each in asked if each > 1), default=0)
    if not number and word == "roll back":
        number = await life.deployer.roll_back("alice", 0)
        checker.answered(number, "rollback")
    elif not number and story == "spawn":
        number = await life.queue.request_spawn("bob", by="manager")
        checker.answered(number, "requested")
    elif not number:
        commit = world.memory.commit({"agent.toml": text}, on=world.memory.mains["alice"])
        number = await life.queue.request_apply_commit("alice", commit, by="manager")
        checker.answered(number, "requested")
    if (await life.queue.row(number)).stage == "proposal":
        checker.saw(number, (await life.queue.show(number)).approval.commit_ref)
        if word == "deny":
            await life.queue.deny(number, "no")
            checker.answered(number, "denied")
        else:
            await life.approve(number)
            checker.answered(number, "approved")
    await life.work()


class Template:
    """A world in which alice has been deployed once; copied for each schedule."""

    def __init__(self, root: Path) -> None:
        self.world = DeployWorld(root)

    async def make(self) -> "Template":
        self.world.root.mkdir()
        async with self.world.life() as life:
            commit = self.world.memory.commit({"agent.toml": OLD}, on=self.world.memory.mains["alice"])
            number = await life.queue.request_apply_commit("alice", commit, by="manager")
            await life.approve(number)
            await life.work()
        return self

    def copy(self, root: Path) -> DeployWorld:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.world.root, root)
        return DeployWorld(root, repos=copy.deepcopy(self.world.repos))


async def run(world: DeployWorld, story: str, cuts: tuple[int | None, ...]) -> list[Fuse]:
    """So many lives, each with its cut, and one more without; then everything is looked at."""
    checker = ApprovalChecker()
    began = world.memory.mains["alice"]
    fuses = [Fuse(at) for at in cuts]
    for fuse in [*fuses, Fuse()]:
        await world.live(fuse, lambda life: play(life, world, story, checker))
        checker.main_is(world.memory.mains["alice"])
    async with world.life() as life:
        await _check(world, life, story, checker, began)
    return fuses


async def _check(world: DeployWorld, life: Life, story: str, checker: ApprovalChecker, began: str) -> None:
    text, _, end = STORIES[story]
    audit = await life.queue.audit()
    tags = world.memory.tags_of["alice"]
    checker.finish([entry for entry in audit if entry.approval > 1], tags, [began])
    number = max(entry.approval for entry in audit)
    row = await life.queue.row(number)
    assert row.stage == end
    assert row.told == 1
    mail = world.told[f"approval:{number}:resolved"]
    assert isinstance(mail, ApprovalResolvedMail)
    assert (mail.status, mail.note) == (row.status, row.note)
    assert (await life.queue.unfinished()) == ([], [])
    if story == "spawn":
        assert world.spawned == ["bob"]
        return
    _, config = life.stage.running["alice"]
    wanted = {"deploy": "new", "roll back": ""}.get(story, "old")
    assert (config.prompt, config.model) == (wanted, "sonnet" if story == "live" else None)
    head = world.memory.mains["alice"]
    assert (head == row.sha) is (end == "deployed")
    assert await life.deployer._lock.read() == {"alice": head}
    assert not life.deployer._lock.aside(ALICE).exists()
    if text and end == "deployed":
        assert world.memory.commits[head].files["agent.toml"] == text
    if story == "invalid":
        assert not [entry for entry in world.log if entry[0].startswith("halt")], "it was never even tried"


@pytest.mark.parametrize("story", STORIES)
async def test_one_kill_anywhere_ends_well(story: str, tmp_path: Path) -> None:
    template = await Template(tmp_path / "template").make()
    (whole,) = await run(template.copy(tmp_path / "w"), story, (None,))
    least = {"deny": 8, "spawn": 12}.get(story, 20)
    assert len(whole.passed) >= least
    for at in range(1, len(whole.passed) + 1):
        (fuse,) = await run(template.copy(tmp_path / "w"), story, (at,))
        assert len(fuse.passed) == at, "it was killed there"


async def pairs(story: str, tmp_path: Path, most: int | None) -> None:
    template = await Template(tmp_path / "template").make()
    (whole,) = await run(template.copy(tmp_path / "w"), story, (None,))
    length = len(whole.passed)
    schedules = [(first, second) for first in range(1, length + 1) for second in range(1, length + 1)]
    if most is not None:
        schedules = random.Random(story).sample(schedules, min(most, len(schedules)))
    for schedule in schedules:
        await run(template.copy(tmp_path / "w"), story, schedule)


@pytest.mark.parametrize("story", STORIES)
async def test_a_second_kill_in_the_life_after_changes_nothing(story: str, tmp_path: Path) -> None:
    """Some of the pairs, the same ones every time; all of them in the campaign."""
    await pairs(story, tmp_path, 10)


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("story", STORIES)
async def test_every_pair_of_kills_ends_well(story: str, tmp_path: Path) -> None:
    await pairs(story, tmp_path, None)


class Deadly(Fuse):
    """Kills the process at one step, every time."""

    async def __call__(self, name: str) -> None:
        if name == "before health":
            raise Crash(name)


async def test_a_deploy_that_takes_the_hive_down_with_it_is_given_up(tmp_path: Path) -> None:
    world = (await Template(tmp_path / "template").make()).copy(tmp_path / "w")
    for _ in range(8):
        await world.live(Deadly(), lambda life: play(life, world, "deploy", ApprovalChecker()))
    async with world.life() as life:
        row = await life.queue.row(2)
        assert (row.stage, "went down 5 times" in (row.note or "")) == ("failed", True)
        assert life.stage.running["alice"][1].prompt == "old"


# --- lint: every step has its failpoints ----------------------------------------------------------------------------


def test_every_step_of_a_deploy_stands_in_a_table_and_is_walked() -> None:
    tables = {*DEPLOY, *ABORT, *SPAWN}
    taken = {
        name
        for name, member in inspect.getmembers(Steps, inspect.iscoroutinefunction)
        if list(inspect.signature(member).parameters) == ["self", "run"]
    }
    assert taken == tables, "a step that no table names has no failpoint"


def test_no_effect_of_an_approval_is_without_a_failpoint_on_either_side() -> None:
    """In the queue and the book, too: around what changes rows, refs or mail, and nowhere else."""
    for name in ("queue", "book"):
        source = (ROOT / "src/hyperhive/lifecycle/approvals" / f"{name}.py").read_text()
        before = re.findall(r'_failpoint\("before (\w+)"\)', source)
        after = re.findall(r'_failpoint\("after (\w+)"\)', source)
        assert before
        assert sorted(before) == sorted(after)
