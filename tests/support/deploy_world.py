"""A host for tests of deploys: what stays when the hive's process dies, its lives, and the moment when one ends.

Repos and agents are in memory and the database lies on a disk without latency where there is one, so that hundreds of
lives cost seconds. A `Crash` stands for a `kill -9`: from there on nothing of that life takes effect.
"""

import copy
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from hyperhive.config import AgentConfig
from hyperhive.errors import Conflict, NotAvailable, NotFound, WorldError
from hyperhive.lifecycle.approvals import MIGRATIONS, ApprovalQueue
from hyperhive.lifecycle.approvals.ports import Repos
from hyperhive.lifecycle.deploy import Configs, Deployer, Updates
from hyperhive.lifecycle.deploy.lock import MetaLock
from hyperhive.names import AgentName
from hyperhive.protocol.events import AnyHelperEvent
from hyperhive.store import Store
from hyperhive.testing.repos import MemoryRepos
from quick import QuickClock

ALICE = AgentName("alice")


class Crash(BaseException):
    """The process is dead."""


class Fuse:
    """Kills the process at its n-th failpoint; counts them otherwise."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.passed: list[str] = []

    async def __call__(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self.at:
            raise Crash(name)


class MemoryStage:
    """Agents that run in memory: which config each runs with, and what the test says of its health."""

    def __init__(self, world: "DeployWorld", configs: Configs) -> None:
        self.closing = anyio.Event()
        self._world = world
        self._configs = configs
        self._lives = itertools.count(1)
        self.running: dict[str, tuple[int, AgentConfig]] = {}

    def alive(self, agent: AgentName) -> bool:
        return agent in self._world.agents

    def should_run(self, agent: AgentName) -> bool:
        return agent not in self._world.held

    def life(self, agent: AgentName) -> int | None:
        return self.running[agent][0] if agent in self.running else None

    async def act(self, agent: AgentName, work: Callable[[], Awaitable[None]]) -> None:
        if not self.alive(agent):
            raise NotFound(f"there is no agent named {agent}")
        await work()

    async def halt(self, agent: AgentName, *, now: bool) -> None:
        self._world.log.append(("halt now" if now else "halt", agent, ""))
        self.running.pop(agent, None)

    async def start(self, agent: AgentName) -> None:
        config = self._configs.effective(agent, AgentConfig())
        self._world.log.append(("start", agent, config.prompt))
        if config.prompt == "does not start":
            raise WorldError("it does not start")
        self.running[agent] = (next(self._lives), config)
        if config.prompt == "ends at once":
            del self.running[agent]

    async def take_over(self, agent: AgentName) -> None:
        life, _ = self.running[agent]
        self.running[agent] = (life, self._configs.effective(agent, AgentConfig()))

    async def probe(self, agent: AgentName) -> None:
        _, config = self.running[agent]
        if config.prompt == "sick":
            raise WorldError("its tools are not connected")
        if config.prompt == "hangs":
            await anyio.sleep_forever()
        if config.prompt == "dies":
            await self.start(agent)

    async def forget_model(self, agent: AgentName, note: str) -> None:
        self._world.log.append(("forget model", agent, note))

    @property
    def lives_by_commit(self) -> bool:
        return self._world.lives_by_commit

    def check_packages(self, packages: Sequence[str]) -> None:
        if packages:
            raise NotAvailable("this runtime has no packages")

    async def build(self, agent: AgentName, commit: str) -> bool:
        del agent, commit
        return False

    async def spawn(self, agent: AgentName) -> None:
        if agent in self._world.agents:
            raise Conflict(f"there is an agent named {agent} already")
        self._world.agents.add(agent)
        self._world.spawned.append(agent)


@dataclass
class Life:
    """One life of the hive."""

    queue: ApprovalQueue
    deployer: Deployer
    configs: Configs
    stage: MemoryStage
    store: Store
    waiting: list[int]
    updates: Updates

    async def work(self) -> None:
        """Carries out what is approved, in this task."""
        while self.waiting:
            await self.deployer.deploy(self.waiting.pop(0))

    async def approve(self, number: int) -> None:
        """As the operator who has just looked."""
        seen = (await self.queue.show(number)).approval
        sha, diff = (seen.commit_ref, seen.diff_sha256) if seen.kind == "apply_commit" else (None, None)
        await self.queue.approve(number, sha, diff)


@dataclass
class DeployWorld:
    """What stays."""

    root: Path
    repos: Repos = field(default_factory=MemoryRepos)
    clock: QuickClock = field(default_factory=QuickClock)
    agents: set[str] = field(default_factory=lambda: {"alice"})
    held: set[str] = field(default_factory=set)
    told: dict[str, AnyHelperEvent] = field(default_factory=dict)
    log: list[tuple[str, str, str]] = field(default_factory=list)
    spawned: list[str] = field(default_factory=list)
    operator: AgentConfig = field(default_factory=AgentConfig)
    lives_by_commit: bool = False
    waits: set[str] = field(default_factory=set)
    """Something of these waits for their next start."""
    revision: str = "1"
    """The hive's."""

    async def tell(self, event: AnyHelperEvent, key: str) -> None:
        self.told.setdefault(key, event)

    async def main(self) -> str:
        """What alice's main is."""
        return await self.repos.main(ALICE)

    async def commit(self, text: str) -> str:
        """A commit of the manager's, with this agent.toml, on what is deployed."""
        return self.memory.commit({"agent.toml": text}, on=self.memory.mains["alice"])

    async def copied(self, root: Path) -> "DeployWorld":
        """The same host once more, under another directory."""
        return await anyio.to_thread.run_sync(self.copy, root)

    def copy(self, root: Path) -> "DeployWorld":
        """As `copied`; blocks."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.root, root)
        return DeployWorld(root, repos=copy.deepcopy(self.repos))

    @property
    def memory(self) -> MemoryRepos:
        assert isinstance(self.repos, MemoryRepos)
        return self.repos

    async def live(self, fuse: Fuse | None, work: Callable[[Life], Awaitable[None]]) -> None:
        """One life, which may end in a crash."""
        with suppress(Crash):
            async with self.life(fuse) as life:
                await work(life)

    @asynccontextmanager
    async def life(self, fuse: Fuse | None = None) -> AsyncIterator[Life]:
        """Comes up, brings the agents back, and finishes what the last life left."""
        fuse = fuse or Fuse()
        store = await Store.open(self.root / "hive.sqlite", migrations=[MIGRATIONS], clock=self.clock)
        crashed = False
        try:
            queue = ApprovalQueue(
                store=store,
                repos=self.repos,
                clock=self.clock,
                alive=self.agents.__contains__,
                tell=self.tell,
                failpoint=fuse,
            )
            configs = Configs(store)
            stage = MemoryStage(self, configs)
            deployer = Deployer(
                queue=queue,
                repos=self.repos,
                configs=configs,
                stage=stage,
                lock=MetaLock(self.root),
                operator=lambda _: self.operator,
                clock=self.clock,
                tell=self.tell,
                up_seconds=0,
                failpoint=fuse,
                revision=self.revision,
            )
            await queue.start()
            await configs.load()
            await deployer.start()
            waiting: list[int] = []
            queue.deploy_with(_Waiting(waiting))
            updates = Updates(
                deployer=deployer,
                configs=configs,
                stage=stage,
                operator=lambda _: self.operator,
                revision=self.revision,
                tell=self.tell,
                waits=self.waits.__contains__,
            )
            life = Life(queue, deployer, configs, stage, store, waiting, updates)
            try:
                for name in sorted(self.agents):
                    await deployer.provision(AgentName(name))
                    if name not in self.held:
                        await stage.start(AgentName(name))
                approved, untold = await queue.unfinished()
                for row in untold:
                    await deployer.make_known(row)
                for agent in configs.agents():
                    await deployer._steps.reconcile(agent)
                waiting += [row.id for row in approved]
                await life.work()
                yield life
            except Crash:
                crashed = True
                raise
            finally:
                await deployer.aclose()
        finally:
            await (store.abandon() if crashed else store.aclose())


class _Waiting:
    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def approved(self, id: int) -> None:  # noqa: A002
        self._ids.append(id)
