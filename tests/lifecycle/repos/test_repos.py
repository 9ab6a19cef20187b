"""An agent's two repos from birth to purge, with real git: what the queue and the deployer build on."""

import shutil
from pathlib import Path

import anyio
import pytest

from config_repos import ALICE, Desk, paths_at, plain_repos, shell_git
from hyperhive.errors import BadRequest, Conflict, LimitReached, NotFound, StaleBase, WorldError
from hyperhive.lifecycle.repos import Repos
from hyperhive.paths import Paths

pytestmark = pytest.mark.needs("git")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_at(tmp_path)


@pytest.fixture
async def repos(paths: Paths) -> Repos:
    made = plain_repos(paths)
    await made.ensure(ALICE)
    return made


@pytest.fixture
def desk(paths: Paths, repos: Repos) -> Desk:  # noqa: ARG001 - the repos must be there
    return Desk(paths.proposed_config(ALICE))


async def test_a_new_agent_starts_at_deployed_0_with_its_config_checked_out(repos: Repos, desk: Desk) -> None:
    first = await repos.main(ALICE)
    assert await repos.tags(ALICE) == {"deployed/0": first}
    assert desk.git("rev-parse", "main") == first
    assert desk.git("status", "--porcelain") == ""
    assert (desk.repo / "agent.toml").read_text().startswith("# ")
    assert desk.git("fetch", "origin") == ""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Paths:
    return paths_at(tmp_path / "other")


async def test_every_hive_gives_a_new_agent_the_same_first_commit(repos: Repos, elsewhere: Paths) -> None:
    other = plain_repos(elsewhere)
    await other.ensure(ALICE)
    assert await other.main(ALICE) == await repos.main(ALICE)


async def test_ensure_again_changes_nothing(repos: Repos, paths: Paths, desk: Desk) -> None:
    sha = desk.commit({"agent.toml": "model = 'x'\n"})
    before = sorted(str(p) for p in paths.applied.rglob("*"))
    await plain_repos(paths).ensure(ALICE)
    assert sorted(str(p) for p in paths.applied.rglob("*")) == before
    assert desk.git("rev-parse", "HEAD") == sha
    assert await repos.main(ALICE) != sha


async def test_a_lost_proposed_repo_comes_back_from_what_is_applied(
    repos: Repos, paths: Paths, desk: Desk
) -> None:
    sha = desk.commit({"agent.toml": "model = 'x'\n", "deep/er/file.nix": "{}\n"})
    proposed = await repos.propose(ALICE, sha, 1)
    await repos.advance_main(ALICE, proposed.base_sha, sha)
    shell_git(paths.proposed, "init", "-q", "elsewhere")
    (paths.proposed / "alice").rename(paths.state_dir / "lost")
    await repos.ensure(ALICE)
    assert desk.git("rev-parse", "HEAD") == sha
    assert desk.git("status", "--porcelain") == ""
    assert (desk.repo / "deep/er/file.nix").read_text() == "{}\n"


async def test_a_proposal_walks_through_its_tags_and_moves_main_when_it_is_deployed(
    repos: Repos, desk: Desk
) -> None:
    base = await repos.main(ALICE)
    sha = desk.commit({"agent.toml": 'model = "sonnet"\n'})
    proposed = await repos.propose(ALICE, sha[:7], 7)
    assert (proposed.sha, proposed.base_sha) == (sha, base)
    assert await repos.propose(ALICE, sha, 7) == proposed
    for word in ("approved", "building", "deployed"):
        await repos.tag(ALICE, f"{word}/7", sha)
        await repos.tag(ALICE, f"{word}/7", sha)
    assert await repos.main(ALICE) == base
    for _ in range(2):
        await repos.advance_main(ALICE, base, sha)
    assert await repos.main(ALICE) == sha
    words = ("proposal", "approved", "building", "deployed")
    assert await repos.tags(ALICE) == {"deployed/0": base} | {f"{word}/7": sha for word in words}
    assert await repos.read(ALICE, sha, "agent.toml", 100) == b'model = "sonnet"\n'


async def test_a_failure_keeps_its_text_in_an_annotated_tag(repos: Repos, paths: Paths, desk: Desk) -> None:
    sha = desk.commit({"a": "1"})
    await repos.propose(ALICE, sha, 1)
    text = "agent.toml:3: no such key\n\nüñ \u202e -- line\0two"
    for at in (5, 9):  # a retry after a crash may come with another time
        await repos.tag(ALICE, "failed/1", sha, text, at=at)
    assert await repos.annotation(ALICE, "failed/1") == text.replace("\0", "") + "\n"
    assert (await repos.tags(ALICE))["failed/1"] == sha
    assert await repos.annotation(ALICE, "proposal/1") is None
    assert await repos.annotation(ALICE, "failed/2") is None
    shown = shell_git(
        paths.applied_repo(ALICE), "for-each-ref", "--format=%(taggerdate:unix)", "refs/tags/failed/1"
    )
    assert shown == "5"
    with pytest.raises(Conflict):
        await repos.tag(ALICE, "failed/1", sha, "another reason")
    with pytest.raises(Conflict):
        await repos.tag(ALICE, "failed/1", sha)


async def test_a_tag_never_moves(repos: Repos, desk: Desk) -> None:
    one, two = desk.commit({"a": "1"}), desk.commit({"a": "2"})
    await repos.propose(ALICE, one, 1)
    await repos.propose(ALICE, two, 2)
    await repos.tag(ALICE, "approved/1", one)
    with pytest.raises(Conflict):
        await repos.tag(ALICE, "approved/1", two)
    with pytest.raises(Conflict):
        await repos.propose(ALICE, two, 1)
    assert (await repos.tags(ALICE))["approved/1"] == one


async def test_main_moves_from_where_it_was_seen_and_forwards_only(repos: Repos, desk: Desk) -> None:
    base = await repos.main(ALICE)
    one, two = desk.commit({"a": "1"}), desk.commit({"a": "2"})
    await repos.propose(ALICE, two, 2)
    await repos.advance_main(ALICE, base, two)
    for old, new, refused in ((base, one, Conflict), (two, one, StaleBase)):
        with pytest.raises(refused):
            await repos.advance_main(ALICE, old, new)
    assert await repos.main(ALICE) == two


async def test_what_does_not_descend_from_main_is_stale(repos: Repos, desk: Desk) -> None:
    base = await repos.main(ALICE)
    left = desk.commit({"a": "1"})
    desk.git("checkout", "--quiet", "-b", "right", base)
    right = desk.commit({"b": "1"})
    await repos.propose(ALICE, left, 1)
    await repos.propose(ALICE, right, 2)
    await repos.advance_main(ALICE, base, left)
    for number in (2, 3):  # one that was proposed in time, and one that is only now
        with pytest.raises(StaleBase) as refused:
            await repos.propose(ALICE, right, number)
        assert refused.value.code == "stale_base"
    assert not await repos.descends(ALICE, left, right)
    assert await repos.descends(ALICE, base, right)
    assert "proposal/3" not in await repos.tags(ALICE)
    desk.git("checkout", "--quiet", "--orphan", "fresh")
    with pytest.raises(StaleBase):
        await repos.propose(ALICE, desk.commit({"c": "1"}), 4)


async def test_only_commits_on_a_branch_can_be_proposed(repos: Repos, desk: Desk) -> None:
    lost = desk.commit({"a": "1"})
    desk.git("reset", "--quiet", "--hard", "HEAD^")
    tree = desk.git("rev-parse", "HEAD^{tree}")
    for ref in (lost, lost[:7], "0" * 40, "1234567", tree):
        with pytest.raises(NotFound):
            await repos.propose(ALICE, ref, 1)


async def test_a_rollback_is_the_old_tree_on_top_and_always_the_same_commit(
    repos: Repos, paths: Paths, desk: Desk
) -> None:
    base = await repos.main(ALICE)
    sha = desk.commit({"agent.toml": "model = 'x'\n", "more": "1"})
    await repos.propose(ALICE, sha, 1)
    await repos.advance_main(ALICE, base, sha)
    made = {await repos.rollback_commit(ALICE, base, sha, "roll back to 0") for _ in range(2)}
    back = made.pop()
    assert not made
    applied = paths.applied_repo(ALICE)
    assert shell_git(applied, "rev-parse", f"{back}^{{tree}}") == shell_git(
        applied, "rev-parse", f"{base}^{{tree}}"
    )
    assert shell_git(applied, "rev-parse", f"{back}^") == sha
    await repos.advance_main(ALICE, sha, back)
    assert await repos.read(ALICE, back, "more", 10) is None


async def test_reading_a_file_is_bounded_and_takes_the_path_for_what_it_is(repos: Repos, desk: Desk) -> None:
    sha = desk.commit({"agent.toml": "x" * 50, "dir/file": "y", "*": "star"})
    await repos.propose(ALICE, sha, 1)
    assert await repos.read(ALICE, sha, "dir/file", 10) == b"y"
    assert await repos.read(ALICE, sha, "*", 10) == b"star"
    for path in ("dir", "none", "a*", ":(top)dir/file", "--help", "../x"):
        assert await repos.read(ALICE, sha, path, 10) is None
    with pytest.raises(LimitReached):
        await repos.read(ALICE, sha, "agent.toml", 49)


async def test_purge_leaves_nothing_and_the_agent_can_be_made_anew(
    repos: Repos, paths: Paths, desk: Desk
) -> None:
    desk.commit({"a": "1"})
    for _ in range(2):
        await repos.purge(ALICE)
    assert list(paths.applied.iterdir()) == list(paths.proposed.iterdir()) == []
    with pytest.raises(NotFound):
        await repos.main(ALICE)
    await repos.ensure(ALICE)
    assert list(await repos.tags(ALICE)) == ["deployed/0"]


async def test_what_the_manager_put_there_first_is_left_and_no_link_is_followed(
    paths: Paths, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    place = paths.proposed_config(ALICE)
    (place / "agent.toml").symlink_to(outside / "none")
    (place / ".git").symlink_to(outside)
    repos = plain_repos(paths)
    await repos.ensure(ALICE)
    assert list(outside.iterdir()) == []
    with pytest.raises(WorldError):
        await repos.propose(ALICE, "1234567", 1)
    (place / ".git").unlink()
    await repos.ensure(ALICE)
    assert (place / "agent.toml").is_symlink()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("what", ["link", "file"])
async def test_a_place_that_is_no_directory_is_refused(paths: Paths, tmp_path: Path, what: str) -> None:
    place = paths.proposed_config(ALICE)
    place.rmdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    place.symlink_to(outside) if what == "link" else place.write_text("")
    with pytest.raises(WorldError):
        await plain_repos(paths).ensure(ALICE)
    assert list(outside.iterdir()) == []


async def test_an_agent_that_does_not_run_can_be_proposed_for(repos: Repos, paths: Paths, desk: Desk) -> None:
    """Its sockets' directories are gone after a reboot, and made again when it starts."""
    sha = desk.commit({"a": "1"})
    await anyio.to_thread.run_sync(shutil.rmtree, paths.run_dir)
    assert (await repos.propose(ALICE, sha, 1)).sha == sha


async def test_full_ids_alone_are_taken_after_the_proposal(repos: Repos) -> None:
    sha = await repos.main(ALICE)
    for name in ("HEAD", "main", sha[:12], sha.upper(), f"{sha}\n", "--output=x"):
        with pytest.raises(BadRequest):
            await repos.tag(ALICE, "approved/1", name)
        with pytest.raises(BadRequest):
            await repos.diff(ALICE, sha, name)
        with pytest.raises(BadRequest):
            await repos.advance_main(ALICE, sha, name)
