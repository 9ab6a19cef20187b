"""The agents in memory: each one's row, and what it is doing in this process.

The roster is read once and written through the store; nobody else writes the table. It starts and stops nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio

from hyperhive.errors import NotFound
from hyperhive.lifecycle.crashes import Crashes
from hyperhive.lifecycle.harnesses import Harness
from hyperhive.lifecycle.rows import PUT, REMOVE, AgentRow, read_agents
from hyperhive.names import MANAGER, AgentName, parse_resident
from hyperhive.store import Store


@dataclass(slots=True)
class Agent:
    """One agent of this process."""

    row: AgentRow
    harness: Harness | None = None
    life: int = 0
    """Counts starts: what an earlier life still says is not heard."""
    started: float = 0.0
    """Monotonic."""
    stopped: bool = False
    """Somebody stopped it, and nobody has started it since."""
    draining: bool = False
    """An action waits for its turn to end."""
    hurried: bool = False
    """Somebody waits for the action that is going on: no turn is waited for in it."""
    failed: bool = False
    reason: str | None = None
    """Why it is failed, or crashed last."""
    crashes: Crashes = field(default_factory=Crashes)
    retry: anyio.CancelScope | None = None

    @property
    def name(self) -> AgentName:
        """The agent's name."""
        return self.row.name

    @property
    def running(self) -> bool:
        """Its loop runs."""
        return self.harness is not None


class Roster:
    """Every agent that there is, tombstones included."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._agents: dict[AgentName, Agent] = {}

    async def load(self) -> None:
        """Reads the table."""
        rows = await self._store.read(read_agents)
        self._agents = {row.name: Agent(row) for row in rows}

    def __iter__(self) -> Iterator[Agent]:
        return iter(list(self._agents.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._agents

    def get(self, name: AgentName) -> Agent | None:
        """The agent or tombstone of this name."""
        return self._agents.get(name)

    def live(self, name: str) -> Agent:
        """The agent of this name.

        Raises:
            InvalidName: no agent can be named so.
            NotFound: there is none, or a tombstone only.
        """
        agent = self._agents.get(parse_resident(name))
        if agent is None or agent.row.phase != "alive":
            tomb = agent is not None
            raise NotFound(
                f"there is no agent named {name}" + (", only its tombstone" if tomb else ""),
                hint=f"`hyperhive spawn {name}` brings it back"
                if tomb
                else "`hyperhive list` shows who there is",
            )
        return agent

    def living(self) -> list[Agent]:
        """All that are no tombstones; the manager first, then by name."""
        return sorted(
            (agent for agent in self if agent.row.phase == "alive"), key=lambda a: (a.name != MANAGER, a.name)
        )

    async def put(self, row: AgentRow) -> Agent:
        """Stores a row; durable on return."""
        await self._store.submit(PUT, row)
        agent = self._agents.get(row.name)
        if agent is None:
            agent = self._agents[row.name] = Agent(row)
        agent.row = row
        return agent

    async def remove(self, name: AgentName) -> None:
        """Forgets an agent for good."""
        await self._store.submit(REMOVE, name)
        self._agents.pop(name, None)
