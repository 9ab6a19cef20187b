"""Crashes: the core, or a git of its own, is killed anywhere; what is done again ends as if nothing had been."""

import os
import signal
import sys
import time
from pathlib import Path

import anyio
import pytest

from config_repos import ALICE, Desk, paths_at, plain_repos, shell_git
from hyperhive.errors import LimitReached, WorldError
from hyperhive.lifecycle.repos import RepoLimits, Repos, reader
from hyperhive.lifecycle.runtimes import wrapper
from hyperhive.paths import Paths

pytestmark = pytest.mark.needs("git")

# Kills itself as soon as its nth git runs.
CHILD = """
import os, signal, sys
sys.path[:0] = sys.argv[1].split(":")
import anyio
from pathlib import Path
from hyperhive.lifecycle.repos import git
from hyperhive.paths import Paths
from config_repos import plain_repos
from test_repo_cuts import story

left, talk = int(sys.argv[3]), git._talk

async def cut(*args):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return await talk(*args)

git._talk = cut
anyio.run(story, plain_repos(Paths.of(Path(sys.argv[2]))), sys.argv[4])
"""


async def story(repos: Repos, sha: str) -> None:
    """From birth to a deployed commit; all of it may be done again."""
    await repos.ensure(ALICE)
    if sha:
        proposed = await repos.propose(ALICE, sha, 1)
        await repos.tag(ALICE, "approved/1", sha)
        await repos.tag(ALICE, "failed/1", sha, "it would not start")
        if await repos.main(ALICE) != sha:
            await repos.advance_main(ALICE, proposed.base_sha, sha)
        await repos.tag(ALICE, "deployed/1", sha)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_at(tmp_path)


async def cut_at(paths: Paths, point: int, sha: str) -> bool:
    """Plays the story in a process that is killed at its nth git; whether it was cut at all."""
    places = f"{Path(__file__).parent}:{Path(__file__).parents[2] / 'support'}"
    done = await anyio.run_process(
        [sys.executable, "-c", CHILD, places, str(paths.state_dir), str(point), sha],
        check=False, stdout=None, stderr=None,
    )  # fmt: skip
    assert done.returncode in {0, -signal.SIGKILL}
    return done.returncode != 0


async def check_end(paths: Paths, sha: str) -> None:
    """Nothing of the crash is left, and the story has its one end."""
    repos = plain_repos(paths)
    await story(repos, sha)
    tags = await repos.tags(ALICE)
    words = {"deployed/0"} | (
        {f"{word}/1" for word in ("proposal", "approved", "failed", "deployed")} if sha else set()
    )
    assert set(tags) == words
    assert {commit for name, commit in tags.items() if name != "deployed/0"} == ({sha} if sha else set())
    assert await repos.main(ALICE) == (sha or tags["deployed/0"])
    assert list(paths.staging.iterdir()) == []
    applied = paths.applied_repo(ALICE)
    assert [str(place) for place in applied.rglob("*.lock")] == []
    assert shell_git(applied, "fsck", "--strict", "--no-dangling") == ""
    assert Desk(paths.proposed_config(ALICE)).git("status", "--porcelain") == ""


@pytest.mark.parametrize("point", [2, 5])
async def test_a_birth_cut_short_is_finished_the_next_time(paths: Paths, point: int) -> None:
    assert await cut_at(paths, point, "")
    await check_end(paths, "")


@pytest.mark.parametrize("point", [6, 11, 18])
async def test_a_deploy_cut_short_is_finished_the_next_time(paths: Paths, point: int) -> None:
    await story(plain_repos(paths), "")
    sha = Desk(paths.proposed_config(ALICE)).commit({"agent.toml": "model = 'x'\n"})
    assert await cut_at(paths, point, sha)
    await check_end(paths, sha)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
async def test_every_cut_alone_and_twice_is_finished(tmp_path: Path) -> None:
    for second in (0, 3, 8):
        for point in range(1, 40):
            paths = await anyio.to_thread.run_sync(paths_at, tmp_path / f"{point}-{second}")
            await story(plain_repos(paths), "")
            sha = Desk(paths.proposed_config(ALICE)).commit({"agent.toml": "model = 'x'\n"})
            if not await cut_at(paths, point, sha):
                break
            if second:
                await cut_at(paths, second, sha)
            await check_end(paths, sha)


async def test_what_a_dead_git_left_does_not_stop_the_next_hive(paths: Paths) -> None:
    await story(plain_repos(paths), "")
    sha = Desk(paths.proposed_config(ALICE)).commit({"agent.toml": "model = 'x'\n"})
    applied = paths.applied_repo(ALICE)
    for name in (
        "refs/heads/main.lock", "refs/tags/proposal/1.lock", "packed-refs.lock", "config.lock", "shallow.lock",
        "objects/pack/tmp_pack_x", "objects/pack/tmp_idx_y", "objects/ab/tmp_obj_z",
    ):  # fmt: skip
        (applied / name).parent.mkdir(parents=True, exist_ok=True)
        (applied / name).write_text("half")
    (paths.staging / "alice.import/objects").mkdir(parents=True)
    await check_end(paths, sha)
    assert [str(place) for place in applied.rglob("tmp_*")] == []


def instead(monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    """Something else runs where upload-pack would."""
    monkeypatch.setattr(reader, "upload_pack", lambda *_: (list(argv), {"PATH": "/usr/bin:/bin"}))


async def left(repos: Repos) -> list[int]:
    """Processes that these repos started and that still run."""
    return await anyio.to_thread.run_sync(wrapper.marked, repos._marks.any, wrapper.ONE_HIVE)


async def running(repos: Repos, name: str) -> list[int]:
    """Those of that program, once there are some."""

    def look() -> list[int]:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = [
                pid for pid in wrapper.marked(repos._marks.any, wrapper.ONE_HIVE) if program(pid) == name
            ]
            if found:
                return found
        raise AssertionError(f"no {name} runs")

    def program(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return ""

    return await anyio.to_thread.run_sync(look)


async def test_a_killed_fetch_is_an_error_and_the_next_one_works(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    repos = plain_repos(paths)
    await repos.ensure(ALICE)
    sha = Desk(paths.proposed_config(ALICE)).commit({"a": "1"})
    with monkeypatch.context() as patch:
        instead(patch, "/bin/sleep", "1000")
        async with anyio.create_task_group() as group:

            async def refused() -> None:
                with pytest.raises(WorldError):
                    await repos.propose(ALICE, sha, 1)

            group.start_soon(refused)
            for pid in await running(repos, "git"):
                os.kill(pid, signal.SIGKILL)
    assert await left(repos) == []
    assert (await repos.propose(ALICE, sha, 1)).sha == sha
    assert list(paths.staging.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        ("/bin/sleep", "1000"),
        ("/bin/cat", "/dev/zero"),
        ("/bin/sh", "-c", "exec >&-; exec sleep 1000"),
        ("/bin/true",),
    ],
)
async def test_an_upload_pack_that_stalls_floods_or_says_nothing_ends_in_an_error(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    repos = plain_repos(paths, RepoLimits(seconds=2.0, pack=1 << 20))
    await repos.ensure(ALICE)
    instead(monkeypatch, *argv)
    with anyio.fail_after(40), pytest.raises((WorldError, LimitReached)):
        await repos.propose(ALICE, "1234567", 1)
    assert await left(repos) == []
    assert list(paths.staging.iterdir()) == []


async def test_a_cancelled_proposal_leaves_nothing_behind(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    repos = plain_repos(paths)
    await repos.ensure(ALICE)
    instead(monkeypatch, "/bin/sleep", "1000")
    async with anyio.create_task_group() as group:
        group.start_soon(repos.propose, ALICE, "1234567", 1)
        await running(repos, "sleep")
        group.cancel_scope.cancel()
    assert await left(repos) == []
    assert list(paths.staging.iterdir()) == []


async def test_calls_for_one_agent_wait_for_each_other(paths: Paths) -> None:
    repos = plain_repos(paths)
    await repos.ensure(ALICE)
    desk = Desk(paths.proposed_config(ALICE))
    shas = [desk.commit({"a": str(number)}) for number in range(3)]

    async with anyio.create_task_group() as group:
        for number, sha in enumerate(shas, 1):
            group.start_soon(repos.propose, ALICE, sha, number)
    assert [(await repos.tags(ALICE))[f"proposal/{number}"] for number in (1, 2, 3)] == shas
