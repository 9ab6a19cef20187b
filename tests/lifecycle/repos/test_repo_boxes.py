"""What the manager and the agent can do with the repos from their own boxes, with the git that is there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config_repos import ALICE, boxed_repos, paths_at
from hyperhive.lifecycle.repos import Repos
from hyperhive.lifecycle.runtimes import Runtime
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths

pytestmark = [pytest.mark.needs("git"), pytest.mark.needs("bwrap")]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = paths_at(tmp_path)
    made.make_agent(MANAGER)
    return made


@pytest.fixture(params=["bwrap", pytest.param("nspawn", marks=pytest.mark.needs("nspawn"))])
async def hive(paths: Paths, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Repos, Runtime]]:
    repos, runtime = await boxed_repos(paths, request.param)
    await repos.ensure(ALICE)
    yield repos, runtime
    await runtime.aclose()


async def box(runtime: Runtime, name: AgentName, script: str) -> str:
    """What a shell in that agent's box says."""
    launcher = runtime.launcher(name, mounts=(), limits=ResourceLimits(), network="none")
    env = {"PATH": "/usr/bin:/bin", "HOME": "/state"}
    process = await launcher.launch(["/bin/sh", "-c", f"exec 2>&1; {script}"], env)
    try:
        return b"".join([chunk async for chunk in process.stdout]).decode().strip()
    finally:
        await process.aclose()


async def test_the_manager_commits_proposes_and_rebases(hive: tuple[Repos, Runtime]) -> None:
    repos, runtime = hive
    change = "cd /agents/alice/config && echo 'model = \"opus\"' > agent.toml"
    work = f"{change} && git commit -qam one && git rev-parse HEAD"
    sha = await box(runtime, MANAGER, work)
    pinned = await repos.propose(ALICE, sha[:10], 1)
    assert pinned.sha == sha
    back = await repos.rollback_commit(ALICE, pinned.base_sha, sha, "back")
    await repos.advance_main(ALICE, pinned.base_sha, sha)
    await repos.advance_main(ALICE, sha, back)
    seen = await box(
        runtime, MANAGER, "cd /agents/alice/config && git fetch -q origin && git rev-parse origin/main"
    )
    assert seen == back
    again = await box(
        runtime, MANAGER, "cd /agents/alice/config && git rebase -q origin/main && git rev-parse HEAD"
    )
    assert (await repos.propose(ALICE, again, 2)).base_sha == back
    for attempt in (
        "cd /applied/alice && git update-ref refs/heads/main HEAD^ && echo MOVED",
        "cd /agents/alice/config && git push -q origin HEAD:refs/tags/approved/9 && echo MOVED",
        "mv /agents/alice/config /agents/alice/other && echo MOVED",
    ):
        assert "MOVED" not in await box(runtime, MANAGER, attempt)
    assert await repos.main(ALICE) == back


async def test_the_agent_reads_its_config_and_cannot_write_it(hive: tuple[Repos, Runtime]) -> None:
    repos, runtime = hive
    said = await box(
        runtime, ALICE, "cd /agents/alice/config && git rev-parse HEAD && cat agent.toml | head -c 1"
    )
    assert said == f"{await repos.main(ALICE)}\n#"
    tried = "cd /agents/alice/config; echo x > agent.toml && echo WROTE; git commit --allow-empty -qm x && echo WROTE"
    assert "WROTE" not in await box(runtime, ALICE, tried)
    assert "SEEN" not in await box(runtime, ALICE, "ls -d /applied && echo SEEN")
