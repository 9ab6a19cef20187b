"""`Updates`: agents that were built by another revision of the hive are built anew by this one.

To build is to read the approved agent.toml as this revision understands it, to start the agent on that, and to see it
well; what is approved does not change. One that is not well goes on with what it had. How an agent is started again is
the deployer's affair.
"""

import logging
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from hyperhive import agent_toml
from hyperhive.agent_toml import AgentFile
from hyperhive.config import AgentConfig
from hyperhive.errors import Closed, HiveError, NotFound
from hyperhive.lifecycle.approvals.book import Tell
from hyperhive.lifecycle.deploy.configs import Configs, Deployment
from hyperhive.lifecycle.deploy.deployer import Deployer
from hyperhive.lifecycle.deploy.ports import Stage
from hyperhive.names import AgentName, parse_resident
from hyperhive.protocol.events import NeedsUpdate

log = logging.getLogger(__name__)

AT_ONCE = 4
"""How many agents are updated side by side: each starts a CLI to see that it is well."""


class Updates:
    """The updates of one hive.

    Args:
        revision: the hive's own. Where it is empty nobody ever needs an update.
        operator: the operator's own settings of an agent.
        tell: hears of agents that need an update and do not get it by themselves.
        outdated: whether an agent was built with other inputs than are pinned now.
        waits: whether something of an agent that runs waits for its next start. `update_all` sees to it; a start of the
            hive does not, where that would start every container anew.
    """

    def __init__(
        self,
        *,
        deployer: Deployer,
        configs: Configs,
        stage: Stage,
        operator: Callable[[str], AgentConfig],
        revision: str,
        tell: Tell,
        outdated: Callable[[str], bool] = lambda _: False,
        waits: Callable[[AgentName], bool] = lambda _: False,
    ) -> None:
        self._deployer = deployer
        self._configs = configs
        self._stage = stage
        self._operator = operator
        self._revision = revision
        self._tell = tell
        self._outdated = outdated
        self._waits = waits

    def needs(self, agent: str) -> bool:
        """What this agent runs was built by another revision, or with other inputs. Cheap."""
        deployed = self._configs.deployed(agent)
        other = bool(self._revision) and deployed is not None and deployed.revision != self._revision
        return other or self._outdated(agent)

    def waiting(self) -> list[AgentName]:
        """Who needs an update."""
        return [name for name in self._configs.agents() if self._stage.alive(name) and self.needs(name)]

    async def update(self, agent: str, *, now: bool = False) -> str | None:
        """Builds an agent anew, also one that does not need it, and starts it anew.

        Returns when it is well; where that cannot be known, why.

        Raises:
            NotFound: there is no such agent. BadConfig: this revision cannot read its agent.toml.
            HiveError: it is not well, and why. In each case it goes on with what it had.
        """
        name = parse_resident(agent)
        if not self._stage.alive(name):
            raise NotFound(f"there is no agent named {name}", hint="`hyperhive list` shows who there is")
        return await self._deployer.as_rebuild(name, lambda: self._update(name, now=now, anew=True))

    async def update_all(self) -> dict[AgentName, HiveError | None]:
        """`update` for all that need it, each at the end of its turn; what went wrong with whom."""
        ended: dict[AgentName, HiveError | None] = {}
        slots = anyio.CapacityLimiter(AT_ONCE)

        async def one(name: AgentName) -> None:
            async with slots:
                try:
                    await self.update(name)
                    ended[name] = None
                except HiveError as error:
                    ended[name] = error

        async with anyio.create_task_group() as tasks:
            for name in self._configs.agents():
                if self._stage.alive(name) and (self.needs(name) or self._waits(name)):
                    tasks.start_soon(one, name)
        return dict(sorted(ended.items()))

    async def catch_up(self, *, by_itself: bool) -> None:
        """At a start, when the agents run: updates whom it has to, one after the other, or says who needs it.

        Their loops have just been started by this revision, so that one is started anew only where its settings are
        others now. What fails is told, and left for the next start.
        """
        for name in self.waiting():
            try:
                if by_itself:
                    work = self._quietly(name)
                    await self._deployer.as_rebuild(name, work, quiet=True)
                else:
                    await self._tell(NeedsUpdate(agent=name), f"needs_update:{name}:{self._revision}")
            except Closed:
                return
            except HiveError as error:
                log.warning("agent_not_updated agent=%s error=%s", name, error)

    def _quietly(self, name: AgentName) -> Callable[[], Awaitable[str | None]]:
        return lambda: self._update(name, now=False, anew=False)

    async def _update(self, agent: AgentName, *, now: bool, anew: bool) -> str | None:
        await self._deployer.put_right(agent)
        deployed = self._configs.deployed(agent)
        if deployed is None:
            raise NotFound(f"{agent} has no config repo", hint="`hyperhive doctor` says what is missing")
        before, file = self._configs.file(agent), await self._deployer.read(agent, deployed.sha)
        operator = self._operator(agent)
        config = agent_toml.effective(operator, file, agent).config
        self._stage.check_packages(config.packages)
        changed = agent_toml.changes(agent_toml.effective(operator, before, agent).config, config)
        restart = anew or self._outdated(agent) or "restart" in changed.values()
        try:
            await self._switch(agent, file, restart=restart, now=now)
            said = await self._deployer.check_health(agent)
        except Closed:  # the hive stops: the next start does it again
            self._configs.use(agent, before)
            raise
        except HiveError:
            await self._switch_back(agent, before, restart=restart)
            raise
        content = msgspec.json.encode(file).decode()
        await self._configs.built(_anew(deployed, content, self._revision))
        return said

    async def _switch(self, agent: AgentName, file: AgentFile, *, restart: bool, now: bool) -> None:
        self._configs.use(agent, file)
        if restart:
            await self._deployer.start_anew(agent, now=now)
        elif self._stage.life(agent) is not None:
            await self._stage.take_over(agent)

    async def _switch_back(self, agent: AgentName, before: AgentFile, *, restart: bool) -> None:
        try:
            await self._switch(agent, before, restart=restart, now=True)
        except HiveError as error:  # it is shown as failed, and tried again by the rules of crashes
            log.warning("agent_not_back agent=%s error=%s", agent, error)


def _anew(deployed: Deployment, config: str, revision: str) -> Deployment:
    return msgspec.structs.replace(deployed, config=config, revision=revision)
