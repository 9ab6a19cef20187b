"""Config as code, put together for one hive: repos, approvals, deployed configs and the deployer.

Owns nothing but how these parts meet the others: what a deploy does with a running agent (`HiveStage`), and what is
left behind when an agent goes. What an approval is, and how it is carried out, is theirs.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import anyio
import anyio.to_thread

from hyperhive.bus import Bus
from hyperhive.clock import Clock
from hyperhive.config import AgentConfig, HiveConfig, HiveFile
from hyperhive.errors import BugError, Conflict, NotAvailable, WorldError
from hyperhive.lifecycle import Lifecycle
from hyperhive.lifecycle.approvals import ApprovalQueue
from hyperhive.lifecycle.approvals.book import Tell
from hyperhive.lifecycle.approvals.ports import Repos as AnyRepos
from hyperhive.lifecycle.deploy import Configs, Deployer, MetaInputs, Updates
from hyperhive.lifecycle.deploy.handing import hand_over
from hyperhive.lifecycle.deploy.lock import MetaLock
from hyperhive.lifecycle.lodgings import Basis
from hyperhive.lifecycle.repos import Repos
from hyperhive.lifecycle.repos.migrating import is_migrated
from hyperhive.lifecycle.runtimes import NixosContainerRuntime, Runtime
from hyperhive.lifecycle.runtimes.base import Containers
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.events import AnyDashboardEvent, MetaInputsChanged, NeedsUpdate
from hyperhive.protocol.harness_line import AnyHarnessCommand, ForgetModel, Probe, Reread
from hyperhive.protocol.replies import Reply
from hyperhive.protocol.types import ApprovalEnd
from hyperhive.store import Store

log = logging.getLogger(__name__)

REPORT_AGAIN_SECONDS: Final = 0.2


class Harnesses(Protocol):
    """What a deploy needs of the crew."""

    async def ask(self, name: AgentName, command: AnyHarnessCommand) -> Reply: ...

    def config_changed(self, agent: AgentName) -> None: ...


class ConfigCode:
    """Made before the lifecycle (whose settings come from here), and given it with `serve`."""

    def __init__(
        self,
        *,
        store: Store,
        paths: Paths,
        runtime: Runtime,
        environ: Mapping[str, str],
        clock: Clock,
        bus: Bus[AnyDashboardEvent],
        tell: Tell,
        config: Callable[[], HiveConfig],
        harnesses: Harnesses,
        revision: str = "",
        room: Callable[[], Awaitable[None]] | None = None,
        admit: Callable[[AgentName], None] | None = None,
        repos: AnyRepos | None = None,
    ) -> None:
        """As its parts.

        Args:
            revision: the hive's own.
            room: raises WorldError where nothing should be deployed on this disk.
            admit: as `ApprovalQueue`'s.
            repos: others than those on this disk, for tests.
        """
        self._config = config
        self._clock = clock
        self._paths = paths
        self._handed = isinstance(runtime, Containers)
        self._lifecycle: Lifecycle | None = None
        self.configs = Configs(store)
        boxes = runtime.boxes if isinstance(runtime, NixosContainerRuntime) else runtime
        self.on_disk = Repos.of(paths, boxes, environ.get("PATH", "/usr/bin:/bin"))
        self.repos = repos or self.on_disk
        self.queue = ApprovalQueue(
            store=store,
            repos=self.repos,
            bus=bus,
            clock=clock,
            alive=lambda name: self._agents.is_alive(name),
            room=room,
            admit=admit,
            tell=tell,
            ready=lambda agent: self.deployer.provision(agent),
            remarks=lambda agent, base, sha: self.deployer.remarks(agent, base, sha),
        )
        file = config().file
        self._stage = stage = HiveStage(lambda: self._agents, harnesses, runtime.name, clock, self._hand_over)
        self.deployer = Deployer(
            queue=self.queue,
            repos=self.repos,
            configs=self.configs,
            stage=stage,
            lock=MetaLock(paths.meta, changed=lambda: bus.publish(MetaInputsChanged())),
            operator=lambda name: self._config().operators(name),
            clock=clock,
            tell=tell,
            health_seconds=file.health_seconds,
            up_seconds=up_seconds(file, containers=self._handed),
            revision=revision,
        )
        self.updates = Updates(
            deployer=self.deployer,
            configs=self.configs,
            stage=stage,
            operator=lambda name: self._config().operators(name),
            revision=revision,
            tell=tell,
            outdated=lambda agent: self.inputs.outdated(agent),
            waits=lambda agent: self._agents.waits_for_start(agent),
        )
        self.inputs = MetaInputs(
            configs=self.configs,
            revision=revision,
            shared=runtime.inputs if isinstance(runtime, NixosContainerRuntime) else None,
            changed=self._inputs_bumped,
        )
        self._bus, self._tell = bus, tell

    @property
    def _agents(self) -> Lifecycle:
        if self._lifecycle is None:
            raise BugError("config as code was not given a lifecycle")
        return self._lifecycle

    def serve(self, lifecycle: Lifecycle) -> None:
        """Deploys to these agents."""
        self._lifecycle = lifecycle
        lifecycle.deploy_by(self.deployer, self.updates, self.inputs)

    async def start(self) -> None:
        """Reads the rows; what is approved from now on is carried out. Before any agent starts.

        An older layout of the repos becomes this one first.
        """
        await self._migrate()
        await self.inputs.start()
        await self.configs.load()
        await self.queue.start()
        await self.deployer.start()

    async def _inputs_bumped(self, agents: Sequence[AgentName]) -> None:
        self._bus.publish(MetaInputsChanged())
        for name in agents:
            if self._agents.is_alive(name):
                self._agents.touch(name)
                at = int(self._clock.time() * 1000)
                await self._tell(NeedsUpdate(agent=name), f"needs_update:{name}:inputs:{at}")

    async def _migrate(self) -> None:
        if await anyio.to_thread.run_sync(is_migrated, self._paths):
            return
        try:
            for said in await self.on_disk.migrate():
                log.warning("layout_migrated what=%s", said)
        except WorldError as error:  # git is missing, for one: the next start does it, and nothing is lost
            log.warning("layout_not_migrated error=%s", error)

    async def provision(self, agent: AgentName) -> None:
        """The agent has, or will soon have, its repos. Waits where they may say what it is to run.

        A harness in a process of its own finds what is deployed in a file.
        """
        await self._provision(agent)
        await self._hand_over(agent)

    async def _hand_over(self, agent: AgentName) -> bool:
        """Whether this agent's harness is a process of its own; then it finds in its file what is in force."""
        own = self._handed or self._config().operators(agent).harness == "own"
        if own:
            directory = self._paths.agent_harness(agent)
            await anyio.to_thread.run_sync(hand_over, directory, self.configs.file(agent))
        return own

    async def hand_on(self, agent: AgentName) -> None:
        """What the operator or the hive changed for an agent is handed to its harness, which takes over what it can.

        Raises:
            HiveError: it cannot be written, or the harness refuses it.
        """
        if self._stage.alive(agent):
            await self._stage.take_over(agent)

    async def _provision(self, agent: AgentName) -> None:
        known = await anyio.to_thread.run_sync((self._paths.applied_repo(agent) / "HEAD").is_file)
        if known or self._handed:  # a container is built from its repo
            await self.deployer.provision(agent)
        else:
            self.deployer.provide(agent)

    async def resume(self) -> None:
        """Goes on with what an earlier life left. Once the agents run."""
        await self.deployer.resume()

    async def catch_up(self) -> None:
        """What another revision built is built anew, or told of. Once the agents run; takes as long as their turns."""
        await self.updates.catch_up(by_itself=self._config().file.auto_update)

    async def aclose(self) -> None:
        """Begins nothing more. Before the agents stop."""
        await self.deployer.aclose()

    def overlay(self, name: str, operator: AgentConfig) -> AgentConfig:
        """See `HiveConfig.overlay`."""
        return self.configs.effective(name, operator)

    def basis(self, name: AgentName) -> Basis:
        """What an agent's container is made from."""
        config = self._config()
        return Basis(config.operators(name), config.file, self.configs.commit(name))

    def deployed_sha(self, name: str) -> str | None:
        """The commit that an agent runs; None where it began with none of its own."""
        deployment = self.configs.deployed(name)
        return None if deployment is None else deployment.sha

    async def leave_behind(self, name: AgentName, *, purged: bool) -> None:
        """An agent is destroyed: nobody decides on it any more. Purged: nothing tells what it ran. Idempotent."""
        await self.queue.resolve_all(name, "destroyed")
        if purged:
            await self.deployer.forget(name)

    # --- a source of loose ends ---

    async def loose_ends(self, owner: str | None) -> Sequence[ApprovalEnd]:
        """See `LooseEndSource`."""
        return self.queue.loose_ends(owner)

    async def cancel(self, id: int, /, *, by: str, any: bool) -> object:  # noqa: A002 - the wire's names
        """Raises: NotAvailable: only the operator's word ends an approval."""
        del by, any
        raise NotAvailable(f"approval {id} cannot be withdrawn: the operator approves or denies it")


def up_seconds(file: HiveFile, *, containers: bool) -> float:
    """How long an agent must have been up on a new config to count as well."""
    if file.up_seconds is not None:
        return file.up_seconds
    return 5.0 if containers else 1.0


class HiveStage:
    """Implements `deploy.Stage` on the agents of a hive."""

    def __init__(
        self,
        lifecycle: Callable[[], Lifecycle],
        harnesses: Harnesses,
        runtime: str,
        clock: Clock,
        hand_over: Callable[[AgentName], Awaitable[bool]],
    ) -> None:
        self._hand_over = hand_over
        self._of = lifecycle
        self._clock = clock
        self._harnesses = harnesses
        self._runtime = runtime

    @property
    def closing(self) -> anyio.Event:
        """See `Stage`, as all of these."""
        return self._of().closing

    def alive(self, agent: AgentName) -> bool:
        return self._of().is_alive(agent)

    def should_run(self, agent: AgentName) -> bool:
        return self._of().should_run(agent)

    def life(self, agent: AgentName) -> int | None:
        return self._of().life_of(agent)

    async def act(self, agent: AgentName, work: Callable[[], Awaitable[None]]) -> None:
        await self._of().redeploy(agent, work)

    async def halt(self, agent: AgentName, *, now: bool) -> None:
        await self._of().halt_for_deploy(agent, now=now)

    async def start(self, agent: AgentName) -> None:
        await self._of().start_for_deploy(agent)

    async def take_over(self, agent: AgentName) -> None:
        await self._of().hand_over(agent)
        if await self._hand_over(agent):
            with suppress(Conflict):  # one that has not reported for duty reads it when it does
                await self._harnesses.ask(agent, Reread(req=0))
        self._harnesses.config_changed(agent)
        self._of().touch(agent)

    async def probe(self, agent: AgentName) -> None:
        while True:
            try:
                await self._harnesses.ask(agent, Probe(req=0))
            except Conflict:  # a harness in a process of its own has not reported for duty yet
                if self._of().life_of(agent) is None:
                    raise
                await self._clock.sleep(REPORT_AGAIN_SECONDS)
            else:
                return

    async def forget_model(self, agent: AgentName, note: str) -> None:
        await self._harnesses.ask(agent, ForgetModel(req=0, note=note[:4000]))

    @property
    def lives_by_commit(self) -> bool:
        return self._runtime == "nixos-container"

    def check_packages(self, packages: Sequence[str]) -> None:
        if packages and not self.lives_by_commit:  # there the build resolves them
            raise NotAvailable(
                f"the runtime {self._runtime} cannot provide packages ({', '.join(packages)})",
                hint="install them on the host, or use a runtime that can",
            )

    async def build(self, agent: AgentName, commit: str) -> bool:
        return await self._of().build_for_deploy(agent, commit)

    async def spawn(self, agent: AgentName) -> None:
        await self._of().spawn(agent)
