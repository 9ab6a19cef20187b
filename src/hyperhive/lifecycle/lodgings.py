"""`Lodgings`: the containers of a hive whose runtime keeps the harnesses in its boxes; nothing where it does not.

What an agent's container is made of is put together here, as it is in force when it is asked for. What a container is
is the runtime's affair (`runtimes.base.Containers`).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from hyperhive.accounts import Account
from hyperhive.config import AgentConfig, HiveFile
from hyperhive.lifecycle.runtimes import Runtime
from hyperhive.lifecycle.runtimes.base import Containers, Lodging
from hyperhive.names import AgentName


class Basis(NamedTuple):
    """What the hive knows of an agent beside what its box shows: the operator's settings, and the commit in force."""

    config: AgentConfig = AgentConfig()
    file: HiveFile = HiveFile()
    commit: str | None = None
    account: Account | None = None
    """Its account, where no gateway serves it."""


class Lodgings:
    """The containers of one hive's agents.

    Args:
        runtime: what agents live in.
        lodging: an agent's, as it is in force now.
        stay: they go on when only the core stops, as those of a service do.
        changed: `waits` may say something else of this agent.
    """

    def __init__(
        self,
        runtime: Runtime,
        lodging: Callable[[AgentName], Lodging],
        *,
        stay: bool,
        changed: Callable[[AgentName], None] = lambda _: None,
    ) -> None:
        self._containers = runtime if isinstance(runtime, Containers) else None
        self._lodging = lodging
        self._stay = stay
        self._changed = changed
        self._waiting: set[AgentName] = set()

    @property
    def there_are(self) -> bool:
        """Whether agents live in containers with their harnesses."""
        return self._containers is not None

    @property
    def outlive_the_core(self) -> bool:
        """When only the core stops, agents are left running."""
        return self.there_are and self._stay

    def waits(self, agent: AgentName) -> bool:
        """Its container runs, and would take mounts, limits or an agent CLI that are new if it were started again."""
        return agent in self._waiting

    def _note(self, agent: AgentName, *, waits: bool) -> None:
        if waits != (agent in self._waiting):
            (self._waiting.add if waits else self._waiting.discard)(agent)
            self._changed(agent)

    async def admit(self, agent: AgentName) -> None:
        """Raises: InvalidName, Conflict: as `Containers.admit`."""
        if self._containers is not None:
            await self._containers.admit(agent)

    async def build(self, agent: AgentName, commit: str) -> bool:
        """Builds what the agent would live in at this commit. Returns whether it must be started anew for that.

        Raises:
            HiveError: it cannot be built.
        """
        if self._containers is None:
            return False
        return await self._containers.build(agent, replace(self._lodging(agent), commit=commit))

    async def up(self, agent: AgentName) -> None:
        """Raises: HiveError: as `Containers.up`."""
        if self._containers is not None:
            self._note(agent, waits=await self._containers.up(agent, self._lodging(agent)))

    async def hand_over(self, agent: AgentName) -> None:
        """What the agent's harness reads of all this is as it is in force now. Raises: HiveError: it cannot be."""
        if self._containers is not None:
            self._note(agent, waits=await self._containers.hand_over(agent, self._lodging(agent)))

    async def log_tail(self, agent: AgentName, lines: int) -> Sequence[str]:
        """What the agent's harness wrote last. Raises: WorldError: it cannot be read."""
        return () if self._containers is None else await self._containers.log_tail(agent, lines)

    async def trim_logs(self) -> None:
        """Raises: WorldError: as `Containers.trim_logs`."""
        if self._containers is not None:
            await self._containers.trim_logs()

    async def keep_only(self, agents: Collection[AgentName]) -> None:
        """Raises: WorldError: as `Containers.keep_only`."""
        if self._containers is not None:
            await self._containers.keep_only(agents)

    async def remove(self, agent: AgentName) -> None:
        """Raises: WorldError: something of it is left."""
        if self._containers is not None:
            await self._containers.remove(agent)
            self._note(agent, waits=False)
