"""`Providing`: an agent's config repos and its first row: made where they are missing, and all gone after a purge.

What is deployed afterwards, and how, is the deployer's affair.
"""

import logging
from collections import defaultdict
from contextlib import suppress

import anyio
import msgspec

from hyperhive.agent_toml import AgentFile
from hyperhive.background import Background
from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import BadConfig, HiveError, MissingPart
from hyperhive.lifecycle.approvals.ports import Repos
from hyperhive.lifecycle.deploy.configs import Configs, Deployment
from hyperhive.lifecycle.deploy.lock import MetaLock
from hyperhive.lifecycle.deploy.ports import Stage
from hyperhive.lifecycle.deploy.steps import Steps
from hyperhive.names import AgentName

log = logging.getLogger(__name__)


class Providing:
    """See `Deployer` for the arguments."""

    def __init__(
        self,
        *,
        steps: Steps,
        repos: Repos,
        configs: Configs,
        stage: Stage,
        lock: MetaLock,
        clock: Clock,
        revision: str,
    ) -> None:
        self._steps = steps
        self._repos = repos
        self._configs = configs
        self._stage = stage
        self._lock = lock
        self._clock = clock
        self._revision = revision
        self._background = Background("deploys")
        self._one_by_one = anyio.CapacityLimiter(1)
        self._providing: dict[str, anyio.Lock] = defaultdict(anyio.Lock)

    def provide(self, agent: AgentName) -> None:
        """As `provision`, in the background: a new agent needs nothing of its repos before there is a proposal."""
        if self._configs.deployed(agent) is None and self._background.is_open:
            self._background.spawn(lambda: self._provide(agent), f"repos of {agent}")

    async def _provide(self, agent: AgentName) -> None:
        try:
            async with self._one_by_one:  # hundreds of agents of an older hive must not keep a host busy
                await self.provision(agent)
        except HiveError as error:  # a proposal, a rebuild or the next start tries again
            log.warning("repos_not_made agent=%s error=%s", agent, error)

    async def provision(self, agent: AgentName) -> None:
        """The agent has its repos and its first row. Idempotent, and cheap where that is so already.

        Where the rows were lost (a host that was set up anew) they begin with what the repo says is deployed. Without
        git an agent runs all the same, on the operator's settings alone.

        Raises:
            WorldError: the repos cannot be made.
        """
        async with self._providing[agent]:
            if self._configs.deployed(agent) is not None or not self._stage.alive(agent):
                return
            try:
                await self._repos.ensure(agent)
            except MissingPart as error:
                log.warning("agent_without_repos agent=%s error=%s", agent, error)
                return
            await self._configs.begin(await self._told_by_repo(agent))
            await self._steps.reconcile(agent)

    async def _told_by_repo(self, agent: AgentName) -> list[Deployment]:
        """Every deployment that a tag tells of; the one that main is at comes last."""
        main = await self._repos.main(agent)
        numbered = {
            int(word): sha
            for name, sha in (await self._repos.tags(agent)).items()
            if (word := name.removeprefix("deployed/")).isdecimal()
        }
        last = max((number for number, sha in numbered.items() if sha == main), default=0)
        order = [*sorted(numbered.keys() - {last}), last]
        numbered[last] = main
        return [
            Deployment(
                agent,
                number,
                numbered[number],
                await self._stored(agent, numbered[number]),
                unix_seconds(self._clock),
                self._revision,
            )
            for number in order
        ]

    async def _stored(self, agent: AgentName, sha: str) -> str:
        try:
            file = await self._steps.read(agent, sha)
        except BadConfig as error:
            log.warning("deployed_config_invalid agent=%s error=%s", agent, error)
            file = AgentFile()
        return msgspec.json.encode(file).decode()

    async def forget(self, agent: AgentName) -> None:
        """The agent is purged: its rows, its place in the lock file and its repos. Idempotent."""
        async with self._providing[agent]:
            await self._configs.forget(agent)
            await self._lock.remove(agent)
            with suppress(MissingPart):  # without git there are none
                await self._repos.purge(agent)
