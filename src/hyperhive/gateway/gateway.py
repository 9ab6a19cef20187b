"""`Gateway`: the model gateway of one hive: a door an agent, one way to the API, and how everybody stands."""

from collections.abc import Callable
from pathlib import Path

import anyio

from hyperhive.accounts import BoundAccount
from hyperhive.clock import Clock
from hyperhive.gateway.door import Door
from hyperhive.gateway.meter import Meter
from hyperhive.gateway.passage import Passage
from hyperhive.gateway.standing import Standings
from hyperhive.gateway.upstream import Upstream
from hyperhive.names import AgentName
from hyperhive.protocol.replies import ModelStanding


class Gateway:
    """Serves the agents whose account is a key, where the runtime isolates.

    Args:
        isolated: whether agents live in boxes. Where they do not, a key could be read anyhow: nobody is served.
        account: the account that an agent runs under now.
        socket: where an agent's model socket is.
        upstream: the API. Closed with this.
        meter: counts usage and knows budgets.
    """

    def __init__(
        self,
        *,
        isolated: bool,
        account: Callable[[AgentName], BoundAccount],
        socket: Callable[[AgentName], Path],
        upstream: Upstream,
        meter: Meter,
        clock: Clock,
    ) -> None:
        self._isolated = isolated
        self._account = account
        self._socket = socket
        self._upstream = upstream
        self._meter = meter
        self._clock = clock
        self._doors: dict[AgentName, Door] = {}
        self.standings = Standings(account=account, served=self.serves, meter=meter, clock=clock)

    def serves(self, agent: AgentName) -> bool:
        """Whether this agent's CLI is served here rather than given its account's key."""
        if not self._isolated:
            return False
        account = self._account(agent).account
        return account is not None and account.kind == "key"

    async def preload(self) -> None:
        """Loads what is slow to load, in the background, where anybody may be served."""
        if self._isolated:
            await self._upstream.preload()

    async def open(self, agent: AgentName) -> None:
        """Opens an agent's door, also while its account is no key: it may become one.

        Raises:
            HiveError: its socket cannot be bound.
        """
        await self.close(agent)
        if not self._isolated:
            return
        passage = Passage(
            agent,
            account=lambda: self._account(agent),
            standings=self.standings,
            upstream=self._upstream,
            meter=self._meter,
            clock=self._clock,
        )
        self._doors[agent] = door = Door(agent, self._socket(agent), passage.handle)
        await door.open()

    async def close(self, agent: AgentName) -> None:
        """Closes it; what is under way there is ended. Idempotent."""
        door = self._doors.pop(agent, None)
        if door is not None:
            await door.aclose()

    def standing(self, agent: AgentName) -> ModelStanding:
        """How an agent stands with the model now."""
        return self.standings.now(agent)

    async def wait_for_standing(self, agent: AgentName, seconds: float) -> ModelStanding:
        """The same; while it may not use the model, so long or until it may."""
        return await self.standings.wait(agent, seconds)

    async def aclose(self) -> None:
        """Closes all doors and the connections to the API."""
        with anyio.CancelScope(shield=True):
            for agent in list(self._doors):
                await self.close(agent)
            await self._upstream.aclose()
