"""A host for tests of deploys with real git: as `DeployWorld`, on repos that are opened anew in each life."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread

from config_repos import Desk, paths_at, plain_repos
from deploy_world import ALICE, DeployWorld, Fuse, Life
from hyperhive.paths import Paths


class GitWorld(DeployWorld):
    """With real repos on disk, opened anew in each life."""

    @asynccontextmanager
    async def life(self, fuse: Fuse | None = None) -> AsyncIterator[Life]:
        self.repos = await anyio.to_thread.run_sync(plain_repos, await self._paths())
        async with super().life(fuse) as life:
            yield life

    async def _paths(self) -> Paths:
        return await anyio.to_thread.run_sync(paths_at, self.root)

    async def commit(self, text: str) -> str:
        return await anyio.to_thread.run_sync(self._commit, text)

    def _commit(self, text: str) -> str:
        paths = paths_at(self.root)
        desk = Desk(paths.proposed_config(ALICE))
        desk.git("fetch", "--quiet", str(paths.applied_repo(ALICE)), "main")
        desk.git("reset", "--quiet", "--hard", "FETCH_HEAD")
        return desk.commit({"agent.toml": text})

    def copy(self, root: Path) -> "GitWorld":
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.root, root, symlinks=True)
        return GitWorld(root, repos=plain_repos(paths_at(root)))
