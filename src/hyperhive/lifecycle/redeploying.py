"""`Redeploying`: what concerns the agents' configs: who carries that out, and what they do with an agent that lives.

When and why an agent is started anew is the deployer's affair (`deploy`), which reaches this through its port `Stage`.
Writes no row.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import anyio

from hyperhive.errors import Forbidden, HiveError, NotAvailable
from hyperhive.lifecycle.upkeep import Upkeep
from hyperhive.names import OPERATOR, AgentName
from hyperhive.protocol.screens import MetaInput

T = TypeVar("T")


class ConfigDeployer(Protocol):
    """What the lifecycle needs of `deploy.Deployer`."""

    async def rebuild(self, agent: str, *, now: bool = False) -> str | None: ...

    async def roll_back(self, agent: str, to: int) -> int: ...


class ConfigUpdater(Protocol):
    """What it needs of `deploy.Updates`."""

    async def update(self, agent: str, *, now: bool = False) -> str | None: ...

    async def update_all(self) -> Mapping[AgentName, HiveError | None]: ...


class ConfigInputs(Protocol):
    """What it needs of `deploy.MetaInputs`."""

    async def listed(self) -> list[MetaInput]: ...

    async def bump(self, names: Sequence[str]) -> str: ...


class Redeploying(Upkeep):
    """An upkeep whose agents can be started anew on another config."""

    _deployer: ConfigDeployer | None = None
    _updater: ConfigUpdater | None = None
    _inputs: ConfigInputs | None = None

    def deploy_by(
        self, deployer: ConfigDeployer, updater: ConfigUpdater, inputs: ConfigInputs | None = None
    ) -> None:
        """Who carries out what concerns configs."""
        self._deployer, self._updater, self._inputs = deployer, updater, inputs

    async def rebuild(self, name: str, *, now: bool = False) -> str | None:
        """Puts right whatever drifted on the host, and starts the agent anew.

        Returns when it is well; where that cannot be known (it is stopped), why.

        Raises:
            NotFound: there is none. HiveError: it is not well, and why.
            Conflict: the port of its own is another's.
            NotAvailable: this lifecycle is used alone, without config repos.
        """
        self._admit(self._roster.live(name).name)
        return await self._with(self._deployer).rebuild(name, now=now)

    async def update(self, name: str, *, now: bool = False, by: AgentName = OPERATOR) -> str | None:
        """Builds the agent's approved config anew by the hive's own revision.

        Returns as `rebuild`.

        Raises:
            NotFound: there is none. Forbidden: the manager, itself. HiveError: it is not well, and why; it goes on as
                it was. NotAvailable: as `rebuild`.
        """
        check_not_self(name, by)
        self._roster.live(name)
        return await self._with(self._updater).update(name, now=now)

    async def update_all(self) -> Mapping[AgentName, HiveError | None]:
        """`update` for every agent that another revision built; what went wrong with whom.

        Raises:
            NotAvailable: as `rebuild`.
        """
        return await self._with(self._updater).update_all()

    async def meta_inputs(self) -> list[MetaInput]:
        """What agents are built from: what all share first, then each agent's commit.

        Raises:
            NotAvailable: as `rebuild`.
        """
        return await self._with(self._inputs).listed()

    async def meta_update(self, names: Sequence[str]) -> str:
        """Pins what is newest of these inputs once everybody's system was built with it; says what is new.

        Starts nobody anew: whoever was built with something else needs an update then.

        Raises:
            NotAvailable: agents are not built by Nix here; or as `rebuild`. BadRequest, NotFound: of the names.
            Conflict: another bump is under way. WorldError: it cannot be locked or built; nothing has changed.
        """
        return await self._with(self._inputs).bump(names)

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
        """Nobody has stopped it."""
        agent = self._roster.live(name)
        return not (agent.row.held or agent.stopped)

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

    async def build_for_deploy(self, name: str, commit: str) -> bool:
        """What it would live in at this commit is built. Inside `redeploy` only.

        Returns whether it must be started anew to live there.

        Raises:
            HiveError: it cannot be built.
        """
        return await self._lodgings.build(self._roster.live(name).name, commit)

    async def hand_over(self, name: str) -> None:
        """What a harness in a container reads of its settings is as they are in force now.

        Raises:
            HiveError: it cannot be written.
        """
        await self._lodgings.hand_over(self._roster.live(name).name)

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
