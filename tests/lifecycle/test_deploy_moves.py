"""Between the operator's look and their word everything may move: what is deployed is what was seen, or nothing."""

import random
from pathlib import Path

import anyio.to_thread
import pytest

from config_repos import Desk, paths_at, shell_git
from deploy_world import ALICE, DeployWorld
from git_world import GitWorld
from hyperhive.errors import Conflict

SEEDS = [*range(60), *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(60, 1000))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_moves_what_is_deployed_is_what_was_seen(seed: int, tmp_path: Path) -> None:
    """Forced moves of tags and bases, other proposals deployed meanwhile, in any order."""
    world, shuffled = DeployWorld(tmp_path), random.Random(seed)
    async with world.life() as life:
        seed_main = await world.main()
        first = world.memory.commit({"agent.toml": 'prompt = "one"\n'}, on=seed_main)
        second = world.memory.commit(
            {"agent.toml": 'prompt = "two"\n'}, on=shuffled.choice([seed_main, first])
        )
        aside = world.memory.commit({"agent.toml": 'prompt = "aside"\n'}, on=seed_main)
        numbers = [
            await life.queue.request_apply_commit("alice", sha, by="manager") for sha in (first, second)
        ]
        shown = {number: await life.queue.show(number) for number in numbers}
        moves = shuffled.choices(["tag", "tag back", "main", "main back", "look again", "deploy other"], k=4)
        mine, other = shuffled.sample(numbers, 2)
        for move in moves:
            tags = world.memory.tags_of["alice"]
            if move == "tag":
                tags[f"proposal/{mine}"] = aside
            elif move == "tag back":
                tags[f"proposal/{mine}"] = shown[mine].approval.commit_ref
            elif move == "main":
                world.memory.mains["alice"] = shuffled.choice([aside, first])
            elif move == "main back":
                world.memory.mains["alice"] = seed_main
            elif move == "look again":
                shown[mine] = await life.queue.show(mine)
            else:
                try:
                    await life.approve(other)
                except Conflict:
                    continue
                await life.work()
        base = await world.main()
        seen = shown[mine].approval
        untouched = (
            world.memory.tags_of["alice"][f"proposal/{mine}"] == seen.commit_ref and seen.base_ref == base
        )
        try:
            await life.queue.approve(mine, seen.commit_ref, seen.diff_sha256)
            approved, codes = True, set()
        except Conflict as error:
            approved, codes = False, {error.wire_code}
        assert codes <= {"moved", "stale_base", "conflict"}
        await life.work()
        row = await life.queue.row(mine)
        if row.stage == "deployed":
            assert approved
            assert (row.sha, row.diff_sha256) == (seen.commit_ref, seen.diff_sha256)
            assert untouched
            assert await world.main() == seen.commit_ref


@pytest.mark.needs("git")
async def test_refs_that_are_forced_in_the_real_repos_end_in_a_conflict(tmp_path: Path) -> None:
    world = GitWorld(tmp_path / "w")
    world.root.mkdir()
    async with world.life() as life:
        start = await world.main()
        sha = await world.commit('prompt = "seen"\n')
        number = await life.queue.request_apply_commit("alice", sha[:9], by="manager")
        seen = (await life.queue.show(number)).approval
        assert seen.diff_sha256 is not None
        paths = await anyio.to_thread.run_sync(paths_at, world.root)
        applied, desk = paths.applied_repo(ALICE), Desk(paths.proposed_config(ALICE))

        async def refused(code: str) -> None:
            with pytest.raises(Conflict) as caught:
                await life.queue.approve(number, sha, seen.diff_sha256)
            assert caught.value.wire_code == code
            assert life.waiting == []

        def force(ref: str, to: str) -> None:
            shell_git(applied, "update-ref", "--no-deref", ref, to)

        await anyio.to_thread.run_sync(force, f"refs/tags/proposal/{number}", start)
        await refused("moved")
        await anyio.to_thread.run_sync(force, f"refs/tags/proposal/{number}", sha)
        await anyio.to_thread.run_sync(
            force, "refs/heads/main", sha
        )  # another base: nothing would change any more
        await refused("moved")
        await anyio.to_thread.run_sync(force, "refs/heads/main", start)
        # The branch that was proposed is amended: what was seen is what runs.
        await anyio.to_thread.run_sync(
            lambda: desk.git("commit", "--quiet", "--amend", "-m", "something else")
        )
        await life.queue.approve(number, sha, seen.diff_sha256)
        await life.work()
        assert (await life.queue.row(number)).stage == "deployed"
        assert await world.main() == sha
        assert life.stage.running["alice"][1].prompt == "seen"


@pytest.mark.campaign
@pytest.mark.needs("git")
@pytest.mark.parametrize("seed", range(100))
async def test_whatever_is_forced_in_the_real_repos_what_is_deployed_is_what_was_seen(
    seed: int, tmp_path: Path
) -> None:
    """Tags and main of applied, branches and objects of proposed, in any order, between the look and the word."""
    shuffled, world = random.Random(seed), GitWorld(tmp_path / "w")
    world.root.mkdir()
    async with world.life() as life:
        start = await world.main()
        sha = await world.commit('prompt = "seen"\n')
        number = await life.queue.request_apply_commit("alice", sha, by="manager")
        other = await world.commit('prompt = "other"\n')
        await life.queue.request_apply_commit("alice", other, by="manager")  # so that applied has its objects
        seen = (await life.queue.show(number)).approval
        paths = await anyio.to_thread.run_sync(paths_at, world.root)
        applied, proposed = paths.applied_repo(ALICE), paths.proposed_config(ALICE)

        def force(move: str) -> None:
            if move in {"tag", "main"}:
                ref = f"refs/tags/proposal/{number}" if move == "tag" else "refs/heads/main"
                to = shuffled.choice([start, sha, other])
                shell_git(applied, "update-ref", "--no-deref", ref, to)
            elif move == "back":
                shell_git(applied, "update-ref", "--no-deref", f"refs/tags/proposal/{number}", sha)
                shell_git(applied, "update-ref", "--no-deref", "refs/heads/main", start)
            elif move == "branch":
                shell_git(proposed, "update-ref", "refs/heads/main", shuffled.choice([start, sha, other]))
            elif move == "amend":
                shell_git(proposed, "commit", "--quiet", "--amend", "--allow-empty", "-m", "amended")
            else:
                shell_git(proposed, "tag", "--force", f"proposal/{number}", other)

        for move in shuffled.choices(["tag", "main", "back", "branch", "amend", "their tag"], k=4):
            await anyio.to_thread.run_sync(force, move)
        tag = (await world.repos.tags(ALICE))[f"proposal/{number}"]
        untouched = (tag, await world.main()) == (sha, start)
        try:
            await life.queue.approve(number, seen.commit_ref, seen.diff_sha256)
            code = None
        except Conflict as error:
            code = error.wire_code
        await life.work()
        row = await life.queue.row(number)
        assert code in ({None} if untouched else {"moved", "stale_base", "conflict"})
        assert (row.stage == "deployed") is untouched
        if untouched:
            assert (await world.main(), life.stage.running["alice"][1].prompt) == (sha, "seen")
