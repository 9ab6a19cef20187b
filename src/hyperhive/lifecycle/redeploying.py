"""`Redeploying`: what a deploy does with an agent that lives: one action, its end, its start. Writes no row.

When and why that happens is the deployer's affair (`deploy`), which reaches this through its port `Stage`.
"""

from collections.abc import Awaitable, Callable

import anyio

from hyperhive.lifecycle.upkeep import Upkeep


class Redeploying(Upkeep):
    """An upkeep whose agents can be started anew on another config."""

    @property
    def closing(self) -> anyio.Event:
        """Set when the hive stops: no further action begins."""
        return self._actions.closed

    def is_alive(self, name: str) -> bool:
        """There is such an agent, and it is no tombstone."""
        return name in self.names()

    def should_run(self, name: str) -> bool:
        """The operator has not stopped it."""
        return not self._roster.live(name).row.held

    def life_of(self, name: str) -> int | None:
        """Which of its starts runs now; None where none does."""
        agent = self._roster.live(name)
        return agent.life if agent.running else None

    async def redeploy(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` as the agent's action `rebuilding`, after whatever is going on with it now.

        Raises:
            NotFound: there is no such agent, or no more when its turn came. Conflict: the hive is stopping.
        """
        agent = self._roster.live(name).name
        await self._actions.wait(agent)
        await self._actions.run(self._roster.live(agent).name, "rebuilding", work)

    async def halt_for_deploy(self, name: str, *, now: bool) -> None:
        """Ends its loop, after the running turn unless `now`. Inside `redeploy` only."""
        await self._supervisor.halt(self._roster.live(name), now=now)

    async def start_for_deploy(self, name: str) -> None:
        """Starts its loop. Inside `redeploy` only.

        Raises:
            HiveError: it cannot be started.
        """
        await self._supervisor.start(self._roster.live(name), afresh=True)
