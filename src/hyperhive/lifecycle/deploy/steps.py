"""The steps of a deploy, each of which can be cut short anywhere and done again.

    prepare → build → drain → switch → health → finalize → publish → tell
        └───────┴───────┴───────┴────────┴──► fail → switch_back → publish → tell

The row that says `deployed` or `failed` is the moment that counts: until then the old config is what a start brings
back, from then on the rest only follows. Which steps there are stands in `DEPLOY` and `ABORT`; the runner calls a
failpoint before and after each one. When a deploy is begun, and by whom, is the deployer's affair.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
import msgspec

from hyperhive import agent_toml
from hyperhive.agent_toml import AgentFile, How
from hyperhive.clock import Clock
from hyperhive.config import AgentConfig
from hyperhive.errors import BadConfig, Closed, Conflict, HiveError, TimedOut, WorldError
from hyperhive.lifecycle.approvals import ApprovalQueue
from hyperhive.lifecycle.approvals.book import Failpoint, News
from hyperhive.lifecycle.approvals.ports import Repos
from hyperhive.lifecycle.approvals.rows import Row
from hyperhive.lifecycle.deploy.configs import Configs
from hyperhive.lifecycle.deploy.lock import MetaLock
from hyperhive.lifecycle.deploy.ports import Stage
from hyperhive.names import AgentName
from hyperhive.protocol.events import Rebuilt

log = logging.getLogger(__name__)

DEPLOY: Final = ("prepare", "build", "drain", "switch", "health", "finalize", "publish", "tell")
ABORT: Final = ("fail", "switch_back", "publish", "tell")
SPAWN: Final = ("begin_spawn", "spawn", "finish_spawn", "tell")

ATTEMPTS_MAX: Final = 5
"""A deploy during which the hive went down so often is given up."""
NOTE_MAX: Final = 4000
UNKNOWN_HEALTH: Final = "it is stopped: its health is not known"


@dataclass
class Run:
    """One deploy under way."""

    row: Row
    before: AgentFile = field(default_factory=AgentFile)
    file: AgentFile = field(default_factory=AgentFile)
    changed: dict[str, How] = field(default_factory=dict)
    halted: bool = False
    switched: bool = False
    error: HiveError | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def agent(self) -> AgentName:
        """Whose config it is."""
        return AgentName(self.row.agent)


class Steps:
    """Carries out single steps. See `Deployer` for the arguments."""

    def __init__(
        self,
        *,
        queue: ApprovalQueue,
        repos: Repos,
        configs: Configs,
        stage: Stage,
        lock: MetaLock,
        operator: Callable[[str], AgentConfig],
        clock: Clock,
        health_seconds: float,
        up_seconds: float,
        failpoint: Failpoint,
        revision: str,
    ) -> None:
        self.queue = queue
        self.repos = repos
        self.configs = configs
        self.stage = stage
        self.lock = lock
        self.operator = operator
        self._clock = clock
        self._health_seconds = health_seconds
        self._up_seconds = up_seconds
        self._failpoint = failpoint
        self._revision = revision

    async def walk(self, run: Run, names: tuple[str, ...]) -> None:
        """These steps, in order, with a failpoint before and after each.

        Raises:
            Closed: the hive is stopping: what is not done is done at the next start.
            HiveError: what a step raised; the later ones are not done.
        """
        for name in names:
            if self.stage.closing.is_set():
                raise Closed("the hive is stopping")
            await self._failpoint(f"before {name}")
            step: Callable[[Run], Awaitable[None]] = getattr(self, name)
            await step(run)
            await self._failpoint(f"after {name}")

    # --- forward ----------------------------------------------------------------------------------------------------

    async def prepare(self, run: Run) -> None:
        """The approval is at work; it is for what is deployed now; its bump stands aside."""
        await self.make_good(run.agent)
        run.row = await self.queue.stage(run.row.id, "building")
        if run.row.attempts > ATTEMPTS_MAX:
            raise WorldError(f"the hive went down {ATTEMPTS_MAX} times while this was deployed: given up")
        run.before = self.configs.file(run.agent)
        now = await self.repos.main(run.agent)
        deployed = self.configs.deployed(run.agent)
        if now == run.row.base and deployed is not None and not await self._builds_on(run, deployed.sha):
            now = deployed.sha  # main could not be moved to what the rows say: they know better
        if now != run.row.base:
            raise Conflict(
                f"stale_base: what is deployed is {now[:12]} now, and {run.row.base[:12]} was when it was approved",
                code="stale_base",
            )
        for word in ("approved", "building"):
            await self.repos.tag(run.agent, f"{word}/{run.row.id}", run.row.sha)
        await self.lock.prepare(run.agent, run.row.sha)

    async def _builds_on(self, run: Run, sha: str) -> bool:
        base = run.row.base
        return base == sha or await self.repos.descends(run.agent, sha, base)

    async def build(self, run: Run) -> None:
        """Its agent.toml is valid, and the runtime has what it asks for."""
        run.file = await self.read(run.agent, run.row.sha)
        operator = self.operator(run.agent)
        joined = agent_toml.effective(operator, run.file, run.agent)
        self.stage.check_packages(joined.config.packages)
        run.remarks += [f"cut: {cut}" for cut in joined.cuts]
        before = agent_toml.effective(operator, run.before, run.agent).config
        run.changed = agent_toml.changes(before, joined.config)
        if await self.stage.build(run.agent, run.row.sha):
            run.changed["container"] = "restart"

    async def drain(self, run: Run) -> None:
        """Where a restart is needed: the running turn has ended, and nothing of the agent runs."""
        if "restart" in run.changed.values() and self.stage.life(run.agent) is not None:
            run.halted = True
            await self.stage.halt(run.agent, now=False)

    async def switch(self, run: Run) -> None:
        """The new config is in force, in memory; the agent runs on it."""
        run.switched = True
        self.configs.use(run.agent, run.file, run.row.sha)
        await self._bring_up(run.agent)

    async def health(self, run: Run) -> None:
        """It stays up, and its tools are connected."""
        await self.check_health(run.agent, run.remarks)

    async def finalize(self, run: Run) -> None:
        """The row says so: from here on it is deployed, whatever happens."""
        if "model" in run.changed:
            model = run.file.model or "the default"
            await self.stage.forget_model(run.agent, f"approval {run.row.id} changes the model: {model}")
        note = "; ".join(run.remarks)[:NOTE_MAX] or None
        config = msgspec.json.encode(run.file).decode()
        run.row = await self.queue.stage(run.row.id, "deployed", note, config=config, revision=self._revision)
        await self.configs.refresh(run.agent)

    async def publish(self, run: Run) -> None:
        """Tags, main and lock file say what the rows say. What fails here is made good later."""
        await self.reconcile(run.agent)

    async def tell(self, run: Run) -> None:
        """Whoever asked knows."""
        await self.queue.settle(run.row, *news_of(run.row))

    # --- back -------------------------------------------------------------------------------------------------------

    async def fail(self, run: Run) -> None:
        """The row says that it has failed, and why: it is never tried again."""
        note = _reason(run.error)
        try:
            run.row = await self.queue.stage(run.row.id, "failed", note)
        except Conflict:  # it was resolved meanwhile, by a destroy
            run.row = await self.queue.row(run.row.id)

    async def switch_back(self, run: Run) -> None:
        """The agent runs on what was deployed before."""
        await self._drop_bump(run.agent)
        if not (run.halted or run.switched) or not self.stage.alive(run.agent):
            return
        self.configs.use(run.agent, run.before)
        if "restart" in run.changed.values():
            await self._try(run.agent, self.stage.halt(run.agent, now=True))
        await self._try(run.agent, self._bring_up(run.agent))

    async def _try(self, agent: AgentName, part: Awaitable[None]) -> None:
        """A part of going back; an agent that does not come is shown as failed, and tried again as after a crash."""
        try:
            await part
        except HiveError as error:
            log.warning("agent_not_back agent=%s error=%s", agent, error)

    async def _drop_bump(self, agent: AgentName) -> None:
        try:
            await self.lock.abort(agent)
        except WorldError as error:
            log.warning("bump_not_dropped agent=%s error=%s", agent, error)

    async def _bring_up(self, agent: AgentName) -> None:
        if not self.stage.should_run(agent):
            return
        if self.stage.life(agent) is None:
            await self.stage.start(agent)
        else:
            await self.stage.take_over(agent)

    # --- a spawn ----------------------------------------------------------------------------------------------------

    async def begin_spawn(self, run: Run) -> None:
        """It is at work. Begun before and alive now: it is this one's."""
        if run.row.stage == "approved" and self.stage.alive(run.agent):
            raise Conflict(f"there is an agent named {run.agent} already")
        run.row = await self.queue.stage(run.row.id, "building")

    async def spawn(self, run: Run) -> None:
        """There is such an agent. One that cannot be started is there all the same, and is tried again."""
        if self.stage.alive(run.agent):
            return
        try:
            await self.stage.spawn(run.agent)
        except HiveError as error:
            if not self.stage.alive(run.agent):
                raise
            run.remarks.append(f"it could not be started: {error}")

    async def finish_spawn(self, run: Run) -> None:
        """The row says so."""
        run.row = await self.queue.stage(run.row.id, "deployed", "; ".join(run.remarks)[:NOTE_MAX] or None)

    # --- parts ------------------------------------------------------------------------------------------------------

    async def read(self, agent: AgentName, sha: str) -> AgentFile:
        """The agent.toml of a commit.

        Raises:
            BadConfig: with every fault.
        """
        data = await self.repos.read(agent, sha, agent_toml.FILE, agent_toml.FILE_MAX)
        return agent_toml.parse(data)

    async def check_health(self, agent: AgentName, remarks: list[str]) -> None:
        """Raises: HiveError: it does not stay up, or its tools are not connected in time."""
        life = self.stage.life(agent)
        if life is None and self.stage.closing.is_set():
            raise Closed("the hive is stopping")
        if life is None and self.stage.should_run(agent):
            raise WorldError("its loop ended right after it was started")
        if life is None:
            remarks.append(UNKNOWN_HEALTH)
            return

        async def well() -> None:
            since = self._clock.monotonic()
            await self.stage.probe(agent)
            await self._clock.sleep(since + self._up_seconds - self._clock.monotonic())
            if self.stage.life(agent) != life:
                raise WorldError("its loop ended, or was started again, right after the switch")

        try:
            await self._within(well)
        except Closed:
            raise
        except HiveError:
            if self.stage.should_run(agent):
                raise
            remarks.append(UNKNOWN_HEALTH)  # somebody has stopped it meanwhile

    async def _within(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work`, for `health_seconds` at most, and while the hive does not stop."""
        failures: list[HiveError] = [
            TimedOut(f"it was not well within {self._health_seconds:g} s: no sign from its CLI and its tools")
        ]
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                try:
                    await work()
                    failures.clear()
                except HiveError as error:
                    failures[:] = [error]
                tasks.cancel_scope.cancel()

            async def limit() -> None:
                await self._clock.sleep(self._health_seconds)
                tasks.cancel_scope.cancel()

            async def stop() -> None:
                await self.stage.closing.wait()
                failures[:] = [Closed("the hive is stopping")]
                tasks.cancel_scope.cancel()

            for one in (run, limit, stop):
                tasks.start_soon(one)
        if failures:
            raise failures[0]

    async def make_good(self, agent: AgentName) -> None:
        """`reconcile`, where something was not published: the lock file is written last, so it tells."""
        deployment = self.configs.deployed(agent)
        if deployment is not None and (await self.lock.read()).get(agent) != deployment.sha:
            await self.reconcile(agent)

    async def reconcile(self, agent: AgentName) -> None:
        """Tags, main and lock file of an agent as the rows say. Idempotent; what fails is logged, and tried again."""
        try:
            await self.follow_rows(agent)
        except HiveError as error:
            log.warning("repo_not_reconciled agent=%s error=%s", agent, error)

    async def follow_rows(self, agent: AgentName) -> None:
        """As `reconcile`, for who wants to know. Raises: HiveError: something cannot be put right."""
        history = await self.configs.history(agent)
        if not history:
            return
        tags = await self.repos.tags(agent)
        for one in history:
            if f"deployed/{one.number}" not in tags:
                await self.repos.tag(agent, f"deployed/{one.number}", one.sha)
        main = await self.repos.main(agent)
        if main != history[-1].sha:
            await self.repos.advance_main(agent, main, history[-1].sha)
        await self.lock.finalize(agent, history[-1].sha)


def news_of(row: Row) -> list[News]:
    """What is told beside the approval's end."""
    if row.kind == "spawn" or row.stage not in {"deployed", "failed"} or not row.attempts:
        return []
    event = Rebuilt(agent=row.agent, ok=row.stage == "deployed", note=row.note)
    return [(event, f"approval:{row.id}:rebuilt")]


def _reason(error: HiveError | None) -> str:
    text = (
        "it did not work" if error is None else error.message if isinstance(error, BadConfig) else str(error)
    )
    return text[:NOTE_MAX]
