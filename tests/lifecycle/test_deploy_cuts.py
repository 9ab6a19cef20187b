"""The whole way of an approval, cut short at every failpoint, and again in the life after that.

However often the process dies, and where: the approval ends once and well, what was answered has happened, the agent
runs what the rows say, and whoever asked is told. Agents are in memory; repos are in memory, or real git.
"""

import inspect
import itertools
import random
import re
from pathlib import Path

import pytest

from deploy_world import ALICE, Crash, DeployWorld, Fuse, Life
from git_world import GitWorld
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
        commit = await world.commit(text)
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


async def deployed_once(world: DeployWorld) -> DeployWorld:
    """A host on which alice was deployed once; each schedule gets a copy of it."""
    world.root.mkdir()
    async with world.life() as life:
        commit = await world.commit(OLD)
        await life.approve(await life.queue.request_apply_commit("alice", commit, by="manager"))
        await life.work()
    return world


async def run(world: DeployWorld, story: str, cuts: tuple[int | None, ...]) -> list[Fuse]:
    """So many lives, each with its cut, and one more without; then everything is looked at."""
    checker = ApprovalChecker()
    began = await world.main()
    fuses = [Fuse(at) for at in cuts]
    for fuse in fuses:
        await world.live(fuse, lambda life: play(life, world, story, checker))
        checker.main_is(await world.main())
    async with world.life() as life:
        await play(life, world, story, checker)
        checker.main_is(await world.main())
        await _check(world, life, story, checker, began)
    return fuses


async def _check(world: DeployWorld, life: Life, story: str, checker: ApprovalChecker, began: str) -> None:
    text, _, end = STORIES[story]
    audit = await life.queue.audit()
    tags = await world.repos.tags(ALICE)
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
    head = await world.main()
    assert (head == row.sha) is (end == "deployed")
    assert await life.deployer._lock.read() == {"alice": head}
    assert not life.deployer._lock.aside(ALICE).exists()
    if text and end == "deployed":
        assert await world.repos.read(ALICE, head, "agent.toml", 1000) == text.encode()
    if story == "invalid":
        assert not [entry for entry in world.log if entry[0].startswith("halt")], "it was never even tried"


@pytest.mark.parametrize("story", STORIES)
async def test_one_kill_anywhere_ends_well(story: str, tmp_path: Path) -> None:
    template = await deployed_once(DeployWorld(tmp_path / "template"))
    (whole,) = await run(await template.copied(tmp_path / "w"), story, (None,))
    least = {"deny": 8, "spawn": 12}.get(story, 20)
    assert len(whole.passed) >= least
    for at in range(1, len(whole.passed) + 1):
        (fuse,) = await run(await template.copied(tmp_path / "w"), story, (at,))
        assert len(fuse.passed) == at, "it was killed there"


async def pairs(story: str, template: DeployWorld, tmp_path: Path, most: int | None) -> None:
    (whole,) = await run(await template.copied(tmp_path / "w"), story, (None,))
    length = len(whole.passed)
    if most is not None:
        schedules = [(first, second) for first in range(1, length + 1) for second in range(1, length + 1)]
        for schedule in random.Random(story).sample(schedules, min(most, len(schedules))):
            await run(await template.copied(tmp_path / "w"), story, schedule)
        return
    for first in range(1, length + 1):
        for second in itertools.count(1):
            fuses = await run(await template.copied(tmp_path / "w"), story, (first, second))
            if len(fuses[1].passed) < second:  # the second life came to its end before that
                break


@pytest.mark.parametrize("story", STORIES)
async def test_a_second_kill_in_the_life_after_changes_nothing(story: str, tmp_path: Path) -> None:
    """Every pair of what most approvals come to; of the others some, the same ones every time."""
    most = None if story == "deploy" else 10
    await pairs(story, await deployed_once(DeployWorld(tmp_path / "template")), tmp_path, most)


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("story", STORIES)
async def test_every_pair_of_kills_ends_well(story: str, tmp_path: Path) -> None:
    await pairs(story, await deployed_once(DeployWorld(tmp_path / "template")), tmp_path, None)


async def git_schedules(story: str, step: int, tmp_path: Path) -> None:
    template = await deployed_once(GitWorld(tmp_path / "template"))
    (whole,) = await run(await template.copied(tmp_path / "w"), story, (None,))
    for at in range(1, len(whole.passed) + 1, step):
        await run(await template.copied(tmp_path / "w"), story, (at,))


WITH_GIT = [("deploy", 3), *(pytest.param(story, 1, marks=pytest.mark.campaign) for story in STORIES)]


@pytest.mark.timeout(900)
@pytest.mark.needs("git")
@pytest.mark.parametrize(("story", "step"), WITH_GIT)
async def test_one_kill_anywhere_ends_well_with_real_git(story: str, step: int, tmp_path: Path) -> None:
    """At every third point of what most approvals come to on every push; all points of all stories in the campaign."""
    await git_schedules(story, step, tmp_path)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.needs("git")
@pytest.mark.parametrize("story", STORIES)
async def test_pairs_of_kills_end_well_with_real_git(story: str, tmp_path: Path) -> None:
    template = await deployed_once(GitWorld(tmp_path / "template"))
    await pairs(story, template, tmp_path, 100)


class Deadly(Fuse):
    """Kills the process at one step, every time."""

    async def __call__(self, name: str) -> None:
        if name == "before health":
            raise Crash(name)


async def test_a_deploy_that_takes_the_hive_down_with_it_is_given_up(tmp_path: Path) -> None:
    world = await (await deployed_once(DeployWorld(tmp_path / "template"))).copied(tmp_path / "w")
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
    for name in ("asking", "queue", "book"):
        source = (ROOT / "src/hyperhive/lifecycle/approvals" / f"{name}.py").read_text()
        before = re.findall(r'_failpoint\("before (\w+)"\)', source)
        after = re.findall(r'_failpoint\("after (\w+)"\)', source)
        assert before
        assert sorted(before) == sorted(after)
