"""What a deploy needs of the agents that run: `Stage`, filled in by the lifecycle and the hive."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import anyio

from hyperhive.names import AgentName


class Stage(Protocol):
    """The agents as a deploy handles them.

    Contract: `act` runs one action on an agent, after whatever is going on with it now, shown as `rebuilding`; the
    other methods that change something are called inside of it. None of them writes a row.
    """

    @property
    def closing(self) -> anyio.Event:
        """Set when the hive stops: what is not done then is done at the next start."""
        ...

    def alive(self, agent: AgentName) -> bool:
        """There is such an agent, and it is no tombstone."""
        ...

    def should_run(self, agent: AgentName) -> bool:
        """Nobody stopped it."""
        ...

    def life(self, agent: AgentName) -> int | None:
        """Which of its starts runs now; None where none does."""
        ...

    async def act(self, agent: AgentName, work: Callable[[], Awaitable[None]]) -> None:
        """Raises: NotFound: there is no such agent. Conflict: the hive is stopping."""
        ...

    async def halt(self, agent: AgentName, *, now: bool) -> None:
        """Ends its loop, after the running turn (for as long as that may drain) unless `now`."""
        ...

    async def start(self, agent: AgentName) -> None:
        """Starts its loop. Raises: HiveError: it cannot be started."""
        ...

    async def take_over(self, agent: AgentName) -> None:
        """Its settings are others now: a running loop takes over what it can. Raises: HiveError: it cannot."""
        ...

    async def probe(self, agent: AgentName) -> None:
        """Its environment works: a CLI process of its own comes up, without a turn, and has its tools.

        Raises:
            HiveError: it does not, and why.
        """
        ...

    async def forget_model(self, agent: AgentName, note: str) -> None:
        """The model that was set at run time counts no more; the agent's stream says so by this note. Idempotent."""
        ...

    @property
    def lives_by_commit(self) -> bool:
        """What an agent lives in is built from all of its commit, and it is started anew for each."""
        ...

    def check_packages(self, packages: Sequence[str]) -> None:
        """Raises: NotAvailable: the runtime cannot provide one of them."""
        ...

    async def build(self, agent: AgentName, commit: str) -> bool:
        """Builds what the agent lives in, as its config repo says at this commit; nothing that runs changes.

        Returns whether the agent must be started anew to live in it.

        Raises:
            HiveError: it cannot be built.
        """
        ...

    async def spawn(self, agent: AgentName) -> None:
        """Makes an agent and starts it. Raises: as `Lifecycle.spawn`."""
        ...
