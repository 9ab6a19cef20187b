"""What approvals and deploys need of config repos: the same of those on disk and of those in memory."""

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import anyio.to_thread
import pytest

from hyperhive.errors import Conflict, NotFound, StaleBase
from hyperhive.lifecycle.approvals.ports import Repos
from hyperhive.lifecycle.repos import PlainReader
from hyperhive.lifecycle.repos import Repos as GitRepos
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.testing.repos import MemoryRepos
from parts import CLEAN_ENV

ALICE = AgentName("alice")
PATH = "/usr/bin:/bin"


class Kit(Protocol):
    """Repos, and a manager who commits in the proposed one."""

    @property
    def repos(self) -> Repos: ...

    async def commit(self, text: str, on: str | None) -> str: ...


class MemoryKit:
    def __init__(self) -> None:
        self.repos = MemoryRepos()

    async def commit(self, text: str, on: str | None) -> str:
        return self.repos.commit({"agent.toml": text}, on=on)


class GitKit:
    def __init__(self, root: Path) -> None:
        self.paths = Paths(root, root / "r")
        self.paths.make_hive()
        self.repos = GitRepos(
            self.paths, path=PATH, reader=lambda marks: PlainReader(self.paths, marks, PATH)
        )

    async def commit(self, text: str, on: str | None) -> str:
        return await anyio.to_thread.run_sync(self._commit, text, on)

    def _commit(self, text: str, on: str | None) -> str:
        repo = self.paths.proposed_config(ALICE)

        def git(*words: str) -> str:
            identity = ("-c", "user.name=m", "-c", "user.email=m@x.invalid")
            done = subprocess.run(
                ["git", *identity, *words],
                cwd=repo,
                env=CLEAN_ENV,
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout.strip()

        if on is None:
            git("checkout", "-q", "--orphan", f"aside-{len(text)}")
        else:
            git("fetch", "-q", str(self.paths.applied_repo(ALICE)), "main")
            git("checkout", "-q", "-B", "work", on)
        (repo / "agent.toml").write_text(text)
        git("add", "agent.toml")
        git("commit", "-q", "-m", "change")
        sha = git("rev-parse", "HEAD")
        git("branch", "-f", f"keep-{sha[:12]}")
        return sha


Make = Callable[[], Awaitable[Kit]]


@pytest.fixture(params=["memory", pytest.param("git", marks=pytest.mark.needs("git"))])
async def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Kit:
    made: Kit = MemoryKit() if request.param == "memory" else await anyio.to_thread.run_sync(GitKit, tmp_path)
    await made.repos.ensure(ALICE)
    await made.repos.ensure(ALICE)
    return made


async def test_a_fresh_agent_starts_at_deployed_0(kit: Kit) -> None:
    main = await kit.repos.main(ALICE)
    assert dict(await kit.repos.tags(ALICE)) == {"deployed/0": main}
    assert await kit.repos.read(ALICE, main, "agent.toml", 1000) is not None
    assert await kit.repos.read(ALICE, main, "other", 1000) is None


async def test_a_proposal_is_pinned_by_its_full_id_and_the_same_again(kit: Kit) -> None:
    main = await kit.repos.main(ALICE)
    sha = await kit.commit("prompt = 'x'\n", main)
    for _ in range(2):
        proposed = await kit.repos.propose(ALICE, sha[:10], 7)
        assert (proposed.sha, proposed.base_sha) == (sha, main)
    assert (await kit.repos.tags(ALICE))["proposal/7"] == sha
    assert await kit.repos.read(ALICE, sha, "agent.toml", 1000) == b"prompt = 'x'\n"
    assert await kit.repos.descends(ALICE, main, sha)
    assert not await kit.repos.descends(ALICE, sha, main)


async def test_what_is_not_there_or_does_not_build_on_main_is_refused(kit: Kit) -> None:
    with pytest.raises(NotFound):
        await kit.repos.propose(ALICE, "0123456789", 1)
    with pytest.raises(NotFound):
        await kit.repos.main(AgentName("nobody"))
    aside = await kit.commit("prompt = 'aside'\n", None)
    with pytest.raises(StaleBase):
        await kit.repos.propose(ALICE, aside, 2)
    assert "proposal/2" not in await kit.repos.tags(ALICE)


async def test_the_same_two_commits_give_the_same_diff_and_others_another(kit: Kit) -> None:
    main = await kit.repos.main(ALICE)
    one, two = await kit.commit("a = 1\n", main), await kit.commit("a = 2\n", main)
    for number, sha in enumerate((one, two), 1):
        await kit.repos.propose(ALICE, sha, number)
    first, second = await kit.repos.diff(ALICE, main, one), await kit.repos.diff(ALICE, main, two)
    assert "+a = 1" in first.text
    assert first.sha256 == (await kit.repos.diff(ALICE, main, one)).sha256 != second.sha256
    assert not first.too_big


async def test_a_tag_is_made_once(kit: Kit) -> None:
    main = await kit.repos.main(ALICE)
    sha = await kit.commit("a = 1\n", main)
    await kit.repos.propose(ALICE, sha, 1)
    for _ in range(2):
        await kit.repos.tag(ALICE, "failed/1", sha, "it did not start")
    with pytest.raises(Conflict):
        await kit.repos.tag(ALICE, "failed/1", main)
    assert (await kit.repos.tags(ALICE))["failed/1"] == sha


async def test_what_is_not_there_is_not_tagged_nor_built_on(kit: Kit) -> None:
    main = await kit.repos.main(ALICE)
    for pair in ((main, "0123456789" * 4), ("0123456789" * 4, main)):
        with pytest.raises(NotFound):
            await kit.repos.descends(ALICE, *pair)
    for message in (None, "it did not start"):
        with pytest.raises(NotFound):
            await kit.repos.tag(ALICE, "failed/1", "0123456789" * 4, message)
    await kit.repos.purge(ALICE)
    for message in (None, "it did not start"):
        with pytest.raises(NotFound):
            await kit.repos.tag(ALICE, "failed/1", main, message)


async def test_main_moves_forward_from_where_it_was_and_nowhere_else(kit: Kit) -> None:
    main = await kit.repos.main(ALICE)
    one, two = await kit.commit("a = 1\n", main), await kit.commit("a = 2\n", main)
    for number, sha in enumerate((one, two), 1):
        await kit.repos.propose(ALICE, sha, number)
    for _ in range(2):
        await kit.repos.advance_main(ALICE, main, one)
    assert await kit.repos.main(ALICE) == one
    with pytest.raises(Conflict):
        await kit.repos.advance_main(ALICE, main, two)
    with pytest.raises(StaleBase):
        await kit.repos.advance_main(ALICE, one, two)
    assert await kit.repos.main(ALICE) == one


async def test_a_rollback_is_the_old_tree_on_top_and_always_the_same_commit(kit: Kit) -> None:
    main = await kit.repos.main(ALICE)
    sha = await kit.commit("a = 1\n", main)
    await kit.repos.propose(ALICE, sha, 1)
    await kit.repos.advance_main(ALICE, main, sha)
    back = [await kit.repos.rollback_commit(ALICE, main, sha, "rollback") for _ in range(2)]
    assert back[0] == back[1] != main
    assert await kit.repos.descends(ALICE, sha, back[0])
    was = await kit.repos.read(ALICE, main, "agent.toml", 1000)
    assert await kit.repos.read(ALICE, back[0], "agent.toml", 1000) == was


async def test_purged_repos_are_gone_and_made_anew(kit: Kit) -> None:
    before = await kit.repos.main(ALICE)
    await kit.repos.tag(ALICE, "deployed/5", before)
    for _ in range(2):
        await kit.repos.purge(ALICE)
    with pytest.raises(NotFound):
        await kit.repos.main(ALICE)
    await kit.repos.ensure(ALICE)
    assert set(await kit.repos.tags(ALICE)) == {"deployed/0"}
