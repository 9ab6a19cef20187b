"""A state directory of the older layout becomes one of this layout, whatever cuts the change short."""

from pathlib import Path

import pytest

from config_repos import ALICE, Desk, paths_at, plain_repos, shell_git
from hyperhive.lifecycle.repos import migrating
from hyperhive.names import AgentName
from hyperhive.paths import Paths

pytestmark = pytest.mark.needs("git")
BOB = AgentName("bob")


def older(place: Path, files: dict[str, str]) -> Desk:
    """A repo with a working tree and one commit."""
    place.mkdir(parents=True, exist_ok=True)
    shell_git(place, "init", "-q", "-b", "main")
    desk = Desk(place)
    desk.commit({**files})
    return desk


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = paths_at(tmp_path)
    applied = older(made.applied_repo(ALICE), {"agent.nix": "{}\n"})
    applied.git("tag", "deployed/0")
    applied.commit({"agent.nix": "{ }\n"})
    applied.git("tag", "-a", "failed/1", "-m", "no")
    proposed = made.agent_dir(ALICE) / "config"
    shell_git(made.state_dir, "clone", "-q", str(made.applied_repo(ALICE)), str(proposed))
    made.applied_repo(BOB).mkdir()
    shell_git(made.applied_repo(BOB), "init", "-q")
    return made


async def test_both_repos_go_on_where_they_were(paths: Paths) -> None:
    main = shell_git(paths.applied_repo(ALICE), "rev-parse", "HEAD")
    repos = plain_repos(paths)
    said = "\n".join(await repos.migrate())
    assert "alice" in said
    assert "bob" in said  # no commit in it: named, and kept aside
    assert await repos.migrate() == []
    await repos.ensure(ALICE)
    await repos.ensure(BOB)
    assert await repos.main(ALICE) == main
    assert set(await repos.tags(ALICE)) == {"deployed/0", "failed/1"}
    assert await repos.annotation(ALICE, "failed/1") == "no\n"
    desk = Desk(paths.proposed_config(ALICE))
    sha = desk.commit({"agent.toml": "model = 'x'\n"})
    assert (await repos.propose(ALICE, sha, 2)).base_sha == main
    assert not (paths.agent_dir(ALICE) / "config").exists()
    assert (paths.state_dir / ".layout").read_text() == migrating.LAYOUT


@pytest.mark.parametrize("step", ["_move_proposed", "_put_aside", "finish_applied", "remove_tree", "_mark"])
@pytest.mark.parametrize("after", [False, True])
async def test_cut_short_at_any_step_it_is_finished_the_next_time(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    class Cut(Exception):
        pass

    real = getattr(migrating, step)

    def cut(*args: object) -> None:
        if after:
            real(*args)
        raise Cut

    main = shell_git(paths.applied_repo(ALICE), "rev-parse", "HEAD")
    with monkeypatch.context() as patch:
        patch.setattr(migrating, step, cut)
        with pytest.raises(Cut):
            await plain_repos(paths).migrate()
    repos = plain_repos(paths)
    await repos.migrate()
    await repos.ensure(ALICE)
    assert await repos.main(ALICE) == main
    assert set(await repos.tags(ALICE)) == {"deployed/0", "failed/1"}
    assert Desk(paths.proposed_config(ALICE)).git("rev-parse", "HEAD") == main
    assert not list(paths.applied.glob(".alice*"))


async def test_a_state_directory_with_the_mark_is_left_alone(paths: Paths) -> None:
    (paths.state_dir / ".layout").write_text(migrating.LAYOUT)
    assert await plain_repos(paths).migrate() == []
    assert (paths.agent_dir(ALICE) / "config").exists()
