"""`Configs`: what every agent runs, in memory: its newest deployment, and the settings that follow from it.

Read from the rows at start, so that starting needs no git. A deploy tries a file out (`use`) before it is a row.
"""

import logging
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from hyperhive.agent_toml import AgentFile, Effective, effective
from hyperhive.config import AgentConfig
from hyperhive.errors import HiveError
from hyperhive.names import AgentName
from hyperhive.store import Operation, Store

log = logging.getLogger(__name__)


class Deployment(msgspec.Struct, frozen=True):
    """One deployment, as stored. `number`: its approval's, or 0 for what the agent began with.

    `revision`: of the hive that built it; empty where that is not known.
    """

    agent: str
    number: int
    sha: str
    config: str
    at: int
    revision: str = ""

    def file(self) -> AgentFile:
        """Its agent.toml. One that this version cannot read any more counts as empty; it is said."""
        try:
            return msgspec.json.decode(self.config, type=AgentFile)
        except msgspec.DecodeError as error:
            log.warning(
                "deployed_config_unreadable agent=%s number=%s error=%s", self.agent, self.number, error
            )
            return AgentFile()


_COLUMNS: Final = "agent, number, sha, config, at, revision"


def _newest(conn: sqlite3.Connection) -> list[Deployment]:
    query = (
        f"SELECT {_COLUMNS} FROM deployments WHERE seq IN (SELECT max(seq) FROM deployments GROUP BY agent)"  # noqa: S608
    )
    return [Deployment(*row) for row in conn.execute(query)]


def _all_of(conn: sqlite3.Connection, agent: str) -> list[Deployment]:
    query = f"SELECT {_COLUMNS} FROM deployments WHERE agent = ? ORDER BY seq"  # noqa: S608 - our own words
    return [Deployment(*row) for row in conn.execute(query, (agent,))]


def _begin(conn: sqlite3.Connection, batch: Sequence[Sequence[Deployment]]) -> Sequence[HiveError | None]:
    conn.executemany(
        "INSERT OR IGNORE INTO deployments (agent, number, sha, config, at, revision) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (one.agent, one.number, one.sha, one.config, one.at, one.revision)
            for history in batch
            for one in history
        ],
    )
    return [None] * len(batch)


def _forget(conn: sqlite3.Connection, batch: Sequence[str]) -> Sequence[HiveError | None]:
    conn.executemany("DELETE FROM deployments WHERE agent = ?", [(agent,) for agent in batch])
    return [None] * len(batch)


def _built(conn: sqlite3.Connection, batch: Sequence[Deployment]) -> Sequence[HiveError | None]:
    conn.executemany(
        "UPDATE deployments SET config = ?, revision = ? WHERE agent = ? AND number = ? AND sha = ?",
        [(one.config, one.revision, one.agent, one.number, one.sha) for one in batch],
    )
    return [None] * len(batch)


BEGIN: Final[Operation[Sequence[Deployment], None]] = Operation("first deployments", _begin)
BUILT: Final[Operation[Deployment, None]] = Operation("deployment built anew", _built)
FORGET: Final[Operation[str, None]] = Operation("forget deployments", _forget)


_NO_FILE: Final = AgentFile()


class Configs:
    """The deployed configs of one hive. `load` before use."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._deployed: dict[str, Deployment] = {}
        self._files: dict[str, AgentFile] = {}
        self._tried: dict[str, str] = {}
        self._cache: dict[str, tuple[AgentConfig, AgentFile, Effective]] = {}

    async def load(self) -> None:
        """Reads what is deployed."""
        self._deployed = {one.agent: one for one in await self._store.read(_newest)}
        self._files = {agent: one.file() for agent, one in self._deployed.items()}

    def deployed(self, agent: str) -> Deployment | None:
        """What the agent runs by the rows; None before its repos were made."""
        return self._deployed.get(agent)

    def agents(self) -> list[AgentName]:
        """Whose deployments are known."""
        return [AgentName(agent) for agent in sorted(self._deployed)]

    def file(self, agent: str) -> AgentFile:
        """The agent.toml that is in force."""
        return self._files.get(agent) or AgentFile()

    def effective(self, agent: str, operator: AgentConfig) -> AgentConfig:
        """What the agent runs with, given the operator's settings. Cheap."""
        file = self._files.get(agent, _NO_FILE)
        known = self._cache.get(agent)
        if known is None or known[0] != operator or known[1] is not file:
            known = self._cache[agent] = (operator, file, effective(operator, file, agent))
        return known[2].config

    def use(self, agent: str, file: AgentFile, commit: str | None = None) -> None:
        """From now on this file is in force, though it is no row yet (or no more). `commit`: another than deployed."""
        self._files[agent] = file
        if commit is None:
            self._tried.pop(agent, None)
        else:
            self._tried[agent] = commit

    def commit(self, agent: str) -> str | None:
        """The commit in force; None where the agent has none yet."""
        deployed = self._deployed.get(agent)
        return self._tried.get(agent) or (deployed.sha if deployed is not None else None)

    async def history(self, agent: str) -> list[Deployment]:
        """All deployments of an agent, in order."""
        return await self._store.read(lambda conn: _all_of(conn, agent))

    async def begin(self, history: Sequence[Deployment]) -> None:
        """What an agent begins with: at least one deployment, the last of which it runs. Idempotent."""
        await self._store.submit(BEGIN, history)
        await self.refresh(history[-1].agent)

    async def built(self, deployment: Deployment) -> None:
        """This deployment was built anew: its settings and revision are these. Idempotent."""
        await self._store.submit(BUILT, deployment)
        await self.refresh(deployment.agent)

    async def refresh(self, agent: str) -> None:
        """The agent's newest row is in force."""
        history = await self.history(agent)
        if history:
            self._deployed[agent] = history[-1]
            self.use(agent, history[-1].file())

    async def forget(self, agent: AgentName) -> None:
        """The agent is purged. Idempotent."""
        await self._store.submit(FORGET, agent)
        self._deployed.pop(agent, None)
        self._files.pop(agent, None)
        self._tried.pop(agent, None)
        self._cache.pop(agent, None)
