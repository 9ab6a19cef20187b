"""An approval queue on its own: with its own database and repos, and without agents to deploy to."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import anyio.to_thread

from hyperhive.clock import Clock
from hyperhive.config import RuntimeName
from hyperhive.lifecycle.approvals.queue import ApprovalQueue
from hyperhive.lifecycle.approvals.schema import MIGRATIONS
from hyperhive.lifecycle.repos import Repos
from hyperhive.lifecycle.runtimes import pick_runtime
from hyperhive.names import parse_resident
from hyperhive.paths import Paths
from hyperhive.store import Store


async def open_alone(
    state_dir: str | os.PathLike[str],
    agents: Collection[str],
    runtime: RuntimeName,
    clock: Clock,
    environ: Mapping[str, str],
) -> ApprovalQueue:
    """See `ApprovalQueue.open`."""
    paths = await anyio.to_thread.run_sync(Paths.of, Path(state_dir), None)
    await anyio.to_thread.run_sync(paths.make_hive)
    names = [parse_resident(name) for name in agents]
    chosen = await pick_runtime(runtime, paths, environ)
    store = await Store.open(paths.database, migrations=[MIGRATIONS], clock=clock)

    async def close() -> None:
        await store.aclose()
        await chosen.aclose()

    try:
        repos = Repos.of(paths, chosen, environ.get("PATH", os.defpath))
        for name in names:
            await anyio.to_thread.run_sync(paths.make_agent, name)
            await repos.ensure(name)
        queue = ApprovalQueue(store=store, repos=repos, clock=clock, alive=lambda name: name in names)
        await queue.start()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await close()
        raise
    queue.close_with(close)
    return queue
