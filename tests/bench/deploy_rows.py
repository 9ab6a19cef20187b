"""From the operator's approval to the agent serving on the new config: embedded, in bubblewrap, with the real CLI.

The change is one that restarts the agent's loop between two turns; no packages. The second that a new config must have
been up (`up_seconds`) is in the figure.
"""

import tempfile
import time
from pathlib import Path

import anyio
from tests.bench.table import Contender, Goal, Group, Sample

from config_repos import Desk
from hyperhive.bus import Missed
from hyperhive.config import HiveConfig, HiveFile
from hyperhive.host import Hive
from hyperhive.protocol.events import ApprovalResolved
from parts import CLEAN_ENV, claude_path, missing

GOAL_MS = 2000.0


def _from_approval_to_serving(_: Path) -> Sample:
    with tempfile.TemporaryDirectory(prefix="hh-", dir="/tmp") as place:  # sockets need a short path
        return Sample(anyio.run(_deploy, Path(place)))


async def _deploy(root: Path) -> float:
    cli = claude_path("2.1.328")
    environ = {**CLEAN_ENV, "HOME": str(root), "HYPERHIVE_CLAUDE": str(cli), "ANTHROPIC_API_KEY": "dummy-key"}
    environ["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:9"  # nothing is asked of a model
    config = HiveConfig(
        file=HiveFile(), state_dir=root / "s", run_dir=root / "r", runtime="bwrap", claude=str(cli)
    )
    async with Hive.open(config=config, environ=environ) as hive:
        await hive.lifecycle.spawn("alice")
        alice = hive.lifecycle.names()[-1]
        await hive.config_code.deployer.provision(alice)
        sha = await anyio.to_thread.run_sync(
            Desk(hive.paths.proposed_config(alice)).commit, {"agent.toml": 'prompt = "Be brief."\n'}
        )
        number = await hive.approvals.request_apply_commit("alice", sha, by="manager")
        seen = (await hive.approvals.show(number)).approval
        async with hive.bus.subscribe() as events:
            begun = time.perf_counter()
            await hive.approvals.approve(number, seen.commit_ref, seen.diff_sha256)
            async for item in events:
                if not isinstance(item, Missed) and isinstance(item.event, ApprovalResolved):
                    if item.event.approval.stage != "deployed":
                        raise RuntimeError(item.event.approval.note)
                    return (time.perf_counter() - begun) * 1000
    raise RuntimeError("the hive ended")


def _goal(_: Path) -> Sample:
    return Sample(GOAL_MS)


def groups() -> list[Group]:
    """One row."""
    if missing("claude") or missing("bwrap"):
        return []
    contenders: dict[str, Contender] = {"approval to serving": _from_approval_to_serving, "goal": _goal}
    return [
        Group(
            "from the approval to the agent serving on the new config (bwrap, embedded)",
            " ms",
            contenders,
            [Goal("approval to serving", "goal", 1.0, at_most=True)],
            count_flushes=False,
        )
    ]
