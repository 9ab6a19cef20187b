"""`Deployer`: carries out what was approved, finishes what a crash cut short, and puts right what drifted.

It owns when a deploy runs and what becomes of one that fails; its steps are in `steps`. It decides nothing: it acts on
approvals that the operator gave.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from hyperhive import agent_toml
from hyperhive.agent_toml import AgentFile
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.config import AgentConfig
from hyperhive.errors import (
    BadConfig,
    BugError,
    Closed,
    Conflict,
    HiveError,
    NotFound,
    WorldError,
)
from hyperhive.lifecycle.approvals import ApprovalQueue
from hyperhive.lifecycle.approvals.book import Failpoint, Tell, no_failpoint, tell_nobody
from hyperhive.lifecycle.approvals.ports import Repos
from hyperhive.lifecycle.approvals.rows import Row
from hyperhive.lifecycle.deploy.configs import Configs
from hyperhive.lifecycle.deploy.lock import MetaLock
from hyperhive.lifecycle.deploy.ports import Stage
from hyperhive.lifecycle.deploy.providing import Providing
from hyperhive.lifecycle.deploy.steps import ABORT, DEPLOY, SPAWN, Run, Steps, news_of
from hyperhive.names import OPERATOR, AgentName, parse_resident
from hyperhive.protocol.events import Rebuilt

log = logging.getLogger(__name__)


class Deployer(Providing):
    """Deploys of one hive. Await `start`, and `resume` once the agents run; `aclose` before the agents stop.

    Guarantees: each approved commit is deployed or failed, once, whatever is killed when; a failed one leaves the agent
    on what it ran before; nothing is told before it has happened.
    """

    def __init__(
        self,
        *,
        queue: ApprovalQueue,
        repos: Repos,
        configs: Configs,
        stage: Stage,
        lock: MetaLock,
        operator: Callable[[str], AgentConfig] = lambda _: AgentConfig(),
        clock: Clock = SYSTEM_CLOCK,
        tell: Tell = tell_nobody,
        health_seconds: float = 120.0,
        up_seconds: float = 1.0,
        failpoint: Failpoint = no_failpoint,
        revision: str = "",
    ) -> None:
        """See the ports for what they promise.

        Args:
            operator: the operator's own settings of an agent.
            health_seconds: how long a new config may take to be well.
            up_seconds: how long it must have been up for that.
            failpoint: called before and after each step; for tests.
            revision: the hive's, which is written down with what it deploys.
        """
        steps = Steps(
            queue=queue,
            repos=repos,
            configs=configs,
            stage=stage,
            lock=lock,
            operator=operator,
            clock=clock,
            health_seconds=health_seconds,
            up_seconds=up_seconds,
            failpoint=failpoint,
            revision=revision,
        )
        super().__init__(
            steps=steps, repos=repos, configs=configs, stage=stage, lock=lock, clock=clock, revision=revision
        )
        self._queue = queue
        self._operator = operator
        self._tell = tell

    async def start(self) -> None:
        """Ready for what is approved from now on."""
        await self._background.start()
        self._queue.deploy_with(self)

    async def resume(self) -> None:
        """Finishes what an earlier life of the hive left: deploys, news, tags. Returns when all of it has begun."""
        approved, untold = await self._queue.unfinished()
        for row in untold:
            await self.make_known(row)
        for row in approved:
            self.approved(row.id)
        self._background.spawn(self._reconcile_all, "reconcile repos")

    async def make_known(self, row: Row) -> None:
        """Tells of a final approval; what was deployed is in main first, where whoever hears of it looks."""
        if row.kind == "apply_commit" and row.stage == "deployed":
            await self._steps.make_good(AgentName(row.agent))
        await self._queue.settle(row, *news_of(row))

    async def aclose(self) -> None:
        """Begins nothing more. A deploy under way goes on as its agent's action."""
        await self._background.aclose()

    # --- deploys ----------------------------------------------------------------------------------------------------

    def approved(self, id: int) -> None:  # noqa: A002
        """See `approvals.ports.Deployer`."""
        if not self._background.is_open:  # the hive goes down: the next start carries it out
            log.info("deploy_put_off id=%s", id)
            return
        self._background.spawn(partial(self.deploy, id), f"deploy {id}")

    async def deploy(self, id: int) -> None:  # noqa: A002
        """Carries out one approval, and returns when it is final. Of one that is final already, nothing."""
        row = await self._queue.row(id)
        if row.kind == "spawn":
            await self._carry_out(row, SPAWN)
            return
        try:
            await self._stage.act(AgentName(row.agent), lambda: self._carry_out(row, DEPLOY))
        except NotFound as error:
            with suppress(Conflict):  # the destroy has failed it already
                await self._queue.fail(id, f"destroyed: {error.message}")
        except (Closed, Conflict):  # the hive stops: the next start goes on
            log.info("deploy_put_off id=%s agent=%s", id, row.agent)

    async def _carry_out(self, row: Row, steps: tuple[str, ...]) -> None:
        """All the steps, or those back. Raises nothing of theirs."""
        run = Run(await self._queue.row(row.id))
        if run.row.stage not in {"approved", "building"}:
            return
        try:
            try:
                await self._steps.walk(run, steps)
            except Closed:
                raise
            except HiveError as error:
                await self._give_up(run, error)
            except Exception as error:  # supervisor: a bug in a step must not leave the approval hanging
                log.exception("deploy_broke id=%s agent=%s", row.id, row.agent)
                await self._give_up(run, BugError(f"a bug in the hive: {type(error).__name__}"))
        except HiveError as error:  # the hive stops, or its disk is full
            log.warning("deploy_put_off id=%s agent=%s error=%s", row.id, row.agent, error)

    async def _give_up(self, run: Run, error: HiveError) -> None:
        now = await self._queue.row(run.row.id)
        if now.stage == "deployed":  # what followed went wrong, and is made good at the next start
            log.warning("deploy_not_published id=%s error=%s", run.row.id, error)
            return
        log.warning("deploy_failed id=%s agent=%s error=%s", run.row.id, run.row.agent, error)
        run.error = error
        try:
            await self._steps.walk(run, ABORT)
        except Closed:
            raise
        except (
            HiveError
        ):  # its row cannot be written now, and is by the next start: the agent need not wait for that
            await self._steps.switch_back(run)
            raise

    async def roll_back(self, agent: str, to: int, *, by: str = OPERATOR, channel: str = "library") -> int:
        """Deploys what was deployed under number `to` again, as a new approval; returns its id at once.

        Raises:
            NotFound: nothing was deployed under this number. Conflict: it is deployed now, or another is on its way.
        """
        name = parse_resident(agent)
        if not self._stage.alive(name):
            raise NotFound(f"there is no agent named {name}", hint="`hyperhive list` shows who there is")
        history = await self._configs.history(name)
        wanted = next((one for one in history if one.number == to), None)
        if wanted is None:
            numbers = ", ".join(str(one.number) for one in history[-20:]) or "none"
            raise NotFound(f"nothing was deployed for {name} under {to}", hint=f"there are {numbers}")
        if history[-1].number == to:
            raise Conflict(
                f"{to} is what {name} runs", hint=f"`hyperhive rebuild {name}` puts right what drifted"
            )
        return await self._queue.roll_back(name, to, wanted.sha, by=by, channel=channel)

    # --- putting right ----------------------------------------------------------------------------------------------

    async def rebuild(self, agent: str, *, now: bool = False) -> str | None:
        """Puts right whatever drifted: the agent's repos, tags and lock file, and its loop, on what is deployed.

        Returns when it is well; where that cannot be known, why.

        Raises:
            NotFound: there is no such agent. HiveError: it is not well, and why; it runs on as it is.
        """
        name = parse_resident(agent)
        return await self.as_rebuild(name, lambda: self._rebuild(name, now=now))

    async def as_rebuild(
        self, name: AgentName, rebuild: Callable[[], Awaitable[str | None]], *, quiet: bool = False
    ) -> str | None:
        """Runs `rebuild` as the agent's action `rebuilding`, and tells how it ended; where `quiet` only of a failure.

        Returns what `rebuild` did.

        Raises:
            NotFound: there is no such agent. Conflict: the hive is stopping. HiveError: what `rebuild` raised.
        """
        failure: list[HiveError] = []
        said: str | None = None

        async def work() -> None:
            nonlocal said
            try:
                said = await rebuild()
            except HiveError as error:
                failure.append(error)
            if isinstance(next(iter(failure), None), Closed) or (quiet and not failure):
                return
            event = Rebuilt(agent=name, ok=not failure, note=str(failure[0]) if failure else said)
            await self._tell(event, f"rebuild:{name}:{int(self._clock.time() * 1000)}")

        await self._stage.act(name, work)
        if failure:
            raise failure[0]
        return said

    async def _rebuild(self, agent: AgentName, *, now: bool) -> str | None:
        await self.put_right(agent)
        await self._configs.refresh(agent)
        await self.start_anew(agent, now=now)
        return await self.check_health(agent)

    async def put_right(self, agent: AgentName) -> None:
        """The agent's repos, its first row, tags, main and lock file are as the rows say. Idempotent.

        Raises:
            WorldError: they cannot be.
        """
        await self._repos.ensure(agent)
        await self.provision(agent)
        try:
            await self._steps.follow_rows(agent)
        except HiveError as error:
            raise WorldError(
                f"the applied repo of {agent} does not hold what is deployed: {error.message}",
                hint=f"put STATE/applied/{agent} back from a backup or from the forge",
            ) from error

    async def read(self, agent: AgentName, sha: str) -> AgentFile:
        """The agent.toml of a commit. Raises: BadConfig: with every fault."""
        return await self._steps.read(agent, sha)

    async def check_health(self, agent: AgentName) -> str | None:
        """One that is stopped passes; that is returned.

        Raises:
            HiveError: it does not stay up, or its tools are not connected.
        """
        remarks: list[str] = []
        await self._steps.check_health(agent, remarks)
        return "; ".join(remarks) or None

    async def start_anew(self, agent: AgentName, *, now: bool) -> None:
        """Ends its loop after its turn, and whatever else of it runs, and starts it where it is to run.

        Raises:
            HiveError: it cannot be started; or something of it did not end, though it was started.
        """
        failure: HiveError | None = None
        try:
            await self._stage.halt(agent, now=now)
        except Closed:
            raise
        except HiveError as error:
            failure = error
        if self._stage.should_run(agent):
            await self._stage.start(agent)
        if failure is not None:
            raise failure

    async def _reconcile_all(self) -> None:
        """Whatever the last life had not published."""
        for agent in self._configs.agents():
            await self._steps.make_good(agent)

    # --- beside a diff ----------------------------------------------------------------------------------------------

    async def remarks(self, agent: AgentName, base: str, sha: str) -> Sequence[str]:
        """What a change means: what is wrong with its agent.toml, what of it is cut, and what is taken over live."""
        del base
        try:
            file = await self._steps.read(agent, sha)
        except BadConfig as error:
            return [f"it would fail: {fault}" for fault in error.faults]
        operator = self._operator(agent)
        joined = agent_toml.effective(operator, file, agent)
        before = self._configs.effective(agent, operator)
        said = [f"cut: {cut}" for cut in joined.cuts]
        try:
            self._stage.check_packages(joined.config.packages)
        except HiveError as error:
            said.append(f"it would fail: {error}")
        if joined.config.network == "host" != before.network:
            said.append(
                "it would share the host's network: what listens on the host's loopback can be reached from its box"
            )
        changed = agent_toml.changes(before, joined.config)
        if not self._stage.lives_by_commit:
            return said + agent_toml.in_words(changed)
        said += agent_toml.in_words(dict.fromkeys(changed, "restart")) if changed else []
        return [*said, "its container is built from all of this commit, and it is started anew in that"]
