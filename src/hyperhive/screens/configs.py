"""`AgentConfigs`: one agent's config in all its stands: what runs, what is applied, what is proposed, what is in force.

Read from the hive's own applied repos and rows: nothing is opened that an agent or the manager can write. What is in
the proposed repo and was never proposed is therefore not here. Changes nothing.
"""

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from hyperhive import agent_toml
from hyperhive.config import AgentConfig
from hyperhive.errors import HiveError, NotFound
from hyperhive.lifecycle.deploy.configs import Configs
from hyperhive.lifecycle.repos import Repos
from hyperhive.names import AgentName, parse_resident
from hyperhive.protocol import replies as p
from hyperhive.protocol.screens import ConfigFile, ConfigStand, Deployment, Proposal, ProposedStand
from hyperhive.screens.indexer import Database

FILES_MAX: Final = 64
TEXTS_MAX: Final = 16
TEXT_MAX: Final = 64 * 1024
DEPLOYMENTS_MAX: Final = 200
HIDDEN: Final = "(hidden)"

_OF_AGENT: Final = " FROM approvals WHERE agent = ? AND kind = 'apply_commit' AND sha <> ''"
_PROPOSED: Final = (
    f"SELECT id, sha, requested_at, stage, note{_OF_AGENT} AND stage <> 'draft' AND id = coalesce(?, id)"
    " ORDER BY stage = 'proposal' DESC, id DESC LIMIT 1"
)
_WAITING: Final = f"SELECT id, sha, requested_at{_OF_AGENT} AND stage = 'proposal' ORDER BY id DESC LIMIT 50"


class AgentConfigs:
    """The configs of one hive's agents.

    Args:
        operators: the operator's settings of an agent.
        exists: whether there is such an agent.
    """

    def __init__(
        self,
        database: Database,
        repos: Repos,
        configs: Configs,
        operators: Callable[[str], AgentConfig],
        exists: Callable[[str], bool],
    ) -> None:
        self._database = database
        self._repos = repos
        self._configs = configs
        self._operators = operators
        self._exists = exists

    async def show(self, name: str, proposal: int | None = None) -> p.AgentConfigPage:
        """All of it; of what is proposed this approval's, else the newest that waits, else the newest.

        Raises:
            NotFound: there is no such agent, or no such proposal of its.
        """
        agent = parse_resident(name)
        if not self._exists(agent):
            raise NotFound(f"there is no agent named {agent}", hint="`hyperhive list` shows who there is")
        proposed, waiting = await self._database.read(partial(_proposals, agent=agent, proposal=proposal))
        if proposal is not None and proposed is None:
            raise NotFound(f"approval {proposal} is no proposal of {agent}'s config")
        history = await self._configs.history(agent)
        running = self._configs.deployed(agent)
        deployed = None
        if running is not None:
            deployed = ConfigStand(
                id=running.number,
                sha=running.sha,
                at=running.at,
                files=await self._files(agent, running.sha) if running.sha else (),
            )
        merged = agent_toml.effective(self._operators(agent), self._configs.file(agent), agent)
        return p.AgentConfigPage(
            name=agent,
            deployed=deployed,
            applied=await self._applied(agent),
            proposed=_stand(proposed, None if running is None else running.sha),
            waiting=tuple(waiting),
            effective=shown(merged.config),
            cut=merged.cuts,
            deployments=tuple(
                Deployment(id=one.number, sha=one.sha, at=one.at)
                for one in history[: -DEPLOYMENTS_MAX - 1 : -1]
            ),
        )

    async def _applied(self, agent: AgentName) -> ConfigStand | None:
        try:
            return ConfigStand(sha=await self._repos.main(agent))
        except HiveError:  # it has no repos yet
            return None

    async def _files(self, agent: AgentName, sha: str) -> tuple[ConfigFile, ...]:
        """The files of a commit; of the first few the text, where it is one."""
        try:
            listed = await self._repos.files(agent, sha)
        except HiveError:
            return ()
        files = []
        for place, one in enumerate(listed[:FILES_MAX]):
            text = None
            if place < TEXTS_MAX and one.size <= TEXT_MAX:
                text = await self._text(agent, sha, one.path)
            files.append(ConfigFile(path=one.path, size=one.size, text=text))
        return tuple(files)

    async def _text(self, agent: AgentName, sha: str, path: str) -> str | None:
        data = await self._repos.read(agent, sha, path, TEXT_MAX)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError:
            return None


_Row = tuple[int, str, int, str, str | None]


def _proposals(
    conn: sqlite3.Connection, agent: str, proposal: int | None
) -> tuple[_Row | None, list[Proposal]]:
    """The one that is to be shown, and those that wait."""
    row = conn.execute(_PROPOSED, (agent, proposal)).fetchone()
    waiting = [Proposal(id=one[0], sha=one[1], at=one[2]) for one in conn.execute(_WAITING, (agent,))]
    return row, waiting


def _stand(found: _Row | None, deployed: str | None) -> ProposedStand:
    if found is None:
        return ProposedStand()
    number, sha, at, stage, note = found
    return ProposedStand(
        sha=sha, at=at, differs=sha != deployed, approval=number, error=note if stage == "failed" else None
    )


def shown(config: AgentConfig) -> dict[str, Any]:
    """Settings by their names, those that are set; values of environments, which may be secrets, are not shown."""
    fields: dict[str, Any] = {
        name: value for name, value in msgspec.to_builtins(config).items() if value not in (None, {}, [], "")
    }
    if "env" in fields:
        fields["env"] = dict.fromkeys(fields["env"], HIDDEN)
    for server in fields.get("mcp", {}).values():
        if server.get("env"):
            server["env"] = dict.fromkeys(server["env"], HIDDEN)
    return fields
