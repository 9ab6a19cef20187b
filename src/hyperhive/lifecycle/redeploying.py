"""`Redeploying`: what concerns the agents' configs: who carries that out, and what they do with an agent that lives.

When and why an agent is started anew is the deployer's affair (`deploy`), which reaches this through its port `Stage`.
Writes no row.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import anyio

from hyperhive.errors import Forbidden, HiveError, NotAvailable
from hyperhive.lifecycle.upkeep import Upkeep
from hyperhive.names import OPERATOR, AgentName

T = TypeVar("T")


class ConfigDeployer(Protocol):
    """What the lifecycle needs of `deploy.Deployer`."""

    async def rebuild(self, agent: str, *, now: bool = False) -> None: ...

    async def roll_back(self, agent: str, to: int) -> int: ...


class ConfigUpdater(Protocol):
    """What it needs of `deploy.Updates`."""

    async def update(self, agent: str, *, now: bool = False) -> None: ...

    async def update_all(self) -> Mapping[AgentName, HiveError | None]: ...


class Redeploying(Upkeep):
    """An upkeep whose agents can be started anew on another config."""

    _deployer: ConfigDeployer | None = None
    _updater: ConfigUpdater | None = None

    def deploy_by(self, deployer: ConfigDeployer, updater: ConfigUpdater) -> None:
        """Who carries out what concerns configs."""
        self._deployer, self._updater = deployer, updater

    async def rebuild(self, name: str, *, now: bool = False) -> None:
        """Puts right whatever drifted on the host, and starts the agent anew; returns when it is well.

        Raises:
            NotFound: there is none. HiveError: it is not well, and why.
            NotAvailable: this lifecycle is used alone, without config repos.
        """
        self._roster.live(name)
        await self._with(self._deployer).rebuild(name, now=now)

    async def update(self, name: str, *, now: bool = False, by: AgentName = OPERATOR) -> None:
        """Builds the agent's approved config anew by the hive's own revision; returns when it is well.

        Raises:
            NotFound: there is none. Forbidden: the manager, itself. HiveError: it is not well, and why; it goes on as
                it was. NotAvailable: as `rebuild`.
        """
        check_not_self(name, by)
        self._roster.live(name)
        await self._with(self._updater).update(name, now=now)

    async def update_all(self) -> Mapping[AgentName, HiveError | None]:
        """`update` for every agent that another revision built; what went wrong with whom.

        Raises:
            NotAvailable: as `rebuild`.
        """
        return await self._with(self._updater).update_all()

    async def rollback(self, name: str, to: int) -> int:
        """Deploys what was deployed under number `to` again; returns the new approval's id once that is durable.

        Raises:
            NotFound: there is no such agent or number. Conflict: it runs that already, or another deploy is under way.
            NotAvailable: this lifecycle is used alone, without config repos.
        """
        self._roster.live(name)
        return await self._with(self._deployer).roll_back(name, to)

    def _with(self, part: T | None) -> T:
        if part is None:
            raise NotAvailable("this lifecycle has no config repos", hint="a hive has them")
        return part

    # --- for the deployer -------------------------------------------------------------------------------------------

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

    async def build_for_deploy(self, name: str, commit: str) -> None:
        """What it would live in at this commit is built. Inside `redeploy` only.

        Raises:
            HiveError: it cannot be built.
        """
        await self._lodgings.build(self._roster.live(name).name, commit)

    async def start_for_deploy(self, name: str) -> None:
        """Starts its loop. Inside `redeploy` only.

        Raises:
            HiveError: it cannot be started.
        """
        await self._supervisor.start(self._roster.live(name), afresh=True)


def check_not_self(name: str, by: AgentName) -> None:
    """Raises: Forbidden: somebody asks for their own end."""
    if name == by:
        raise Forbidden(f"{by} can neither stop nor restart itself")
