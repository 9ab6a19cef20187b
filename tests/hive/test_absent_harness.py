"""A deploy to an agent whose harness is a process of its own, and is not there: it ends, soon, and changes nothing."""

from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from config_repos import Desk
from hyperhive.config import HiveConfig, load
from hyperhive.host import Hive
from hyperhive.lifecycle.deploy.handing import handed
from hyperhive.names import AgentName
from hyperhive.protocol.types import Approval

pytestmark = pytest.mark.needs("git")
ALICE = AgentName("alice")


@pytest.fixture
def config(home: Path, environ: dict[str, str]) -> HiveConfig:
    """Nobody starts alice's harness."""
    toml = 'health_seconds = 1\nup_seconds = 0\n[agents.alice]\nharness = "own"\n'
    (home / "hive.toml").write_text(toml)
    return load(environ, state_dir=home / "state", run_dir=home / "run")


async def deployed(hive: Hive, text: str) -> Approval:
    """How the approval of this agent.toml ended."""
    await hive.config_code.deployer.provision(ALICE)

    def commit() -> str:
        desk = Desk(hive.paths.proposed_config(ALICE))
        desk.git("fetch", "-q", str(hive.paths.applied_repo(ALICE)), "main")
        desk.git("reset", "-q", "--hard", "FETCH_HEAD")
        return desk.commit({"agent.toml": text})

    sha = await anyio.to_thread.run_sync(commit)
    number = await hive.approvals.request_apply_commit("alice", sha, by="manager")
    seen = (await hive.approvals.show(number)).approval
    async with hive.bus.subscribe() as events:
        await hive.approvals.approve(number, sha, seen.diff_sha256)
        with anyio.fail_after(30):
            while (now := (await hive.approvals.show(number)).approval).stage not in {"deployed", "failed"}:
                await anext(aiter(events))
    await hive.lifecycle._actions.wait(ALICE)
    return now


def read(hive: Hive) -> object:
    """What a harness of alice's would be handed when it comes."""
    return msgspec.to_builtins(handed(hive.paths.agent_harness(ALICE)))


@pytest.mark.parametrize("text", ['model = "sonnet"\n', 'prompt = "Be brief."\n'])
async def test_it_fails_within_the_time_for_health_and_what_is_handed_is_the_old_one(
    text: str, hive: Hive
) -> None:
    await hive.lifecycle.spawn("alice")
    before = await anyio.to_thread.run_sync(read, hive)
    done = await deployed(hive, text)
    assert (done.stage, "not well within 1 s" in (done.note or "")) == ("failed", True), done
    assert await anyio.to_thread.run_sync(read, hive) == before
    assert hive.lifecycle.view("alice").running, "the hive goes on waiting for it"


async def test_one_that_the_operator_stopped_gets_it_when_it_is_started(hive: Hive) -> None:
    await hive.lifecycle.spawn("alice")
    await hive.lifecycle.stop(ALICE)
    done = await deployed(hive, 'model = "sonnet"\n')
    assert (done.stage, done.note) == ("deployed", "it is stopped: its health is not known")
    await hive.lifecycle.start(ALICE)
    found = await anyio.to_thread.run_sync(handed, hive.paths.agent_harness(ALICE))
    assert found.model == "sonnet"
