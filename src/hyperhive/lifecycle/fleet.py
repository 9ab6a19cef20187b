"""`Fleet`: what can be asked about a hive's agents. It changes nothing; `Lifecycle` is a fleet that can be changed."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from hyperhive.background import Background
from hyperhive.bus import Bus
from hyperhive.clock import Clock
from hyperhive.config import AgentConfig, MountSetting, Network
from hyperhive.lifecycle.actions import Actions
from hyperhive.lifecycle.launching import AgentLauncher
from hyperhive.lifecycle.lodgings import Basis, Lodgings
from hyperhive.lifecycle.mounts import ResolvedMount, check_mounts
from hyperhive.lifecycle.networks import network_in_force
from hyperhive.lifecycle.roster import Roster
from hyperhive.lifecycle.runtimes import ResourceLimits, Runtime
from hyperhive.lifecycle.runtimes.base import Lodging
from hyperhive.lifecycle.views import FactsOf, Life, Views, assemble
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.ports import Launcher
from hyperhive.protocol.events import AnyDashboardEvent
from hyperhive.protocol.types import ContainerView, Mount, TransientName
from hyperhive.store import Store


class Fleet:
    """The agents of one hive, as they are now. Nothing here waits."""

    def __init__(
        self,
        *,
        store: Store,
        paths: Paths,
        runtime: Runtime,
        bus: Bus[AnyDashboardEvent],
        clock: Clock,
        config_of: Callable[[AgentName], AgentConfig],
        facts_of: FactsOf,
        behind_gateway: Callable[[AgentName], bool],
        basis: Callable[[AgentName], Basis],
        stay: bool,
    ) -> None:
        """See `Lifecycle`."""
        self.bus = bus
        self.paths = paths
        self.runtime = runtime
        self._config_of = config_of
        self._facts_of = facts_of
        self._behind_gateway = behind_gateway
        self._basis = basis
        self._lodgings = Lodgings(runtime, self._lodging, stay=stay, changed=self.touch)
        self._roster = Roster(store)
        self._background = Background("lifecycle")
        self._views = Views(self._look, bus, clock)
        self._actions = Actions(bus, self._background, self._views.touch)

    def names(self) -> Sequence[AgentName]:
        """The names of all agents, the manager first; no tombstones."""
        return [agent.name for agent in self._roster.living()]

    def tombstones(self) -> Sequence[str]:
        """The names of destroyed agents whose state is kept."""
        return sorted(agent.name for agent in self._roster if agent.row.phase == "tombstone")

    def destroyed_at(self, name: str) -> int | None:
        """When this tombstone became one, where that is known."""
        agent = self._roster.get(AgentName(name))
        return None if agent is None else agent.row.destroyed_at

    def transients(self) -> dict[str, TransientName]:
        """What is going on with whom, also with those who are not in the fleet yet."""
        return self._actions.all()

    def exists(self, name: str) -> bool:
        """Whether there is an agent or a tombstone of this name: somebody to write to."""
        return name in self._roster

    def view(self, name: str) -> ContainerView:
        """What the fleet shows of an agent now.

        Raises:
            NotFound: there is none.
        """
        return self._look(self._roster.live(name).name)

    def last_error(self, name: str) -> str | None:
        """Why the agent is failed, or crashed last."""
        return self._roster.live(name).reason

    def mounts(self, name: str) -> Sequence[MountSetting]:
        """The agent's mounts: the configuration's and those of its spawn."""
        agent = self._roster.live(name)
        return self._all_mounts(agent.name, agent.row.mounts)

    def mounts_judge(self, name: str) -> Callable[[], list[ResolvedMount]]:
        """What judges the agent's mounts as they are now. It blocks, raises BadConfig, and may be called in a thread.

        Raises:
            NotFound: there is no such agent.
        """
        mounts, shared = self.mounts(name), self._shared(AgentName(name))
        return partial(check_mounts, mounts, self.paths, shared=shared)

    def launcher(self, name: str) -> AgentLauncher:
        """Where this agent's programs are started, each with the mounts and limits that are in force then.

        Raises:
            NotFound: there is none.
        """
        agent = self._roster.live(name).name
        return AgentLauncher(lambda: self._launcher_now(agent), lambda: self._revision(agent))

    def _launcher_now(self, name: AgentName) -> Launcher:
        return self.runtime.launcher(
            name,
            mounts=self.mounts(name),
            limits=self._limits(name),
            network=self.network(name),
            shared=self._shared(name),
        )

    @property
    def lodges(self) -> bool:
        """Whether each agent lives in a container with its harness."""
        return self._lodgings.there_are

    @property
    def harnesses_stay(self) -> bool:
        """Whether harnesses in processes of their own go on when only the core stops."""
        return self._lodgings.outlive_the_core or not self.lodges

    async def sweep(self) -> None:
        """Cuts what harnesses in containers have logged; to be called hourly. Raises: WorldError: it cannot be."""
        await self._lodgings.trim_logs()

    def waits_for_start(self, name: AgentName) -> bool:
        """What is in force for it reaches its container when the agent is started again. Cheap."""
        agent = self._roster.get(name)
        return agent is not None and agent.running and self._lodgings.waits(name)

    def _lodging(self, name: AgentName) -> Lodging:
        config, file, commit, account = self._basis(name)
        return Lodging(
            config=config,
            file=file,
            mounts=self.mounts(name),
            limits=self._limits(name),
            network=self.network(name),
            shared=self._shared(name),
            commit=commit,
            account=account,
        )

    def network(self, name: AgentName) -> Network:
        """What the programs of an agent reach now."""
        return network_in_force(
            self._config_of(name), isolated=self.runtime.isolated, behind_gateway=self.behind_gateway(name)
        )

    def behind_gateway(self, name: AgentName) -> bool:
        """Whether the hive's model gateway serves the agent's CLI, so that no key is in its box."""
        return self._behind_gateway(name)

    def _limits(self, name: AgentName) -> ResourceLimits:
        return ResourceLimits.of(self._config_of(name).limits)

    def _revision(self, name: AgentName) -> str:
        """Of what a box shows and allows. The manager's shows a repo for every agent that has been started."""
        repos = sorted(agent.name for agent in self._roster if agent.started) if name == MANAGER else []
        content = msgspec.json.encode((self.mounts(name), self._limits(name), self.network(name), repos))
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def touch(self, name: str) -> None:
        """Something that `facts_of` tells of this agent has changed: its view is looked at again, soon."""
        self._views.touch(AgentName(name))

    def _look(self, name: AgentName) -> ContainerView:
        agent = self._roster.live(name)
        life = Life(
            name=name,
            manager=agent.row.role == "manager",
            running=agent.running,
            failed=agent.failed,
            held=agent.row.held,
            isolation=self.runtime.isolation,
            network=self.network(name),
            transient=self._actions.current(name),
        )
        return assemble(life, self._facts_of(name))

    def _all_mounts(self, name: AgentName, spawned: Sequence[Mount]) -> list[MountSetting]:
        own = [MountSetting(source=m.source, target=m.target, mode=m.mode) for m in spawned]
        return [*self._config_of(name).mounts, *own]

    def _shared(self, name: AgentName) -> list[Path]:
        """What all other agents can write of the operator's directories."""
        return [
            Path(mount.source)
            for agent in self._roster.living()
            if agent.name != name
            for mount in self._all_mounts(agent.name, agent.row.mounts)
            if mount.mode == "rw"
        ]
