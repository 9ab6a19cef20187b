"""`MetaInputs`: what agents are built from, told and bumped by name.

A bump is two-phase, as a deploy is: prepared aside, everybody's system built from it, and only then pinned. It starts
nobody anew: who was built from something else needs an update, and gets it as after an upgrade of the hive. An agent's
own input is the commit that the operator approved, and is never bumped here.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import anyio

from hyperhive.errors import BadRequest, Conflict, HiveError, NotAvailable
from hyperhive.lifecycle.approvals.book import Failpoint, no_failpoint
from hyperhive.lifecycle.deploy.configs import Configs
from hyperhive.names import AgentName
from hyperhive.protocol.screens import MetaInput

log = logging.getLogger(__name__)

AGENT: Final = "agent-"
"""What the input of an agent is called, with its name behind."""


class Shared(Protocol):
    """What all agents are built with, where they are built by Nix. All methods are idempotent.

    A bump that was prepared changes nothing before `finalize`, which is one step: it has happened or it has not.
    """

    def outdated(self, agent: AgentName) -> bool:
        """This agent was built with something else than what is pinned now. Cheap."""
        ...

    async def known(self) -> list[MetaInput]: ...

    async def prepare(self, names: Sequence[str]) -> list[str]:
        """Returns what would change, in words. Raises: NotFound: no such input. WorldError: it cannot be locked."""
        ...

    async def build(self) -> None:
        """Raises: WorldError: an agent's system cannot be built with it."""
        ...

    async def finalize(self) -> list[AgentName]:
        """Returns who was built with something else. Raises: WorldError: it cannot be written."""
        ...

    async def abort(self) -> None: ...


async def _nothing_follows(agents: Sequence[AgentName]) -> None:
    del agents


class MetaInputs:
    """The inputs of one hive.

    Args:
        configs: what each agent runs.
        revision: the hive's own.
        shared: None where agents are not built by Nix.
        changed: called after a bump, with who needs an update by it.
        failpoint: called before and after each step; for tests.
    """

    def __init__(
        self,
        *,
        configs: Configs,
        revision: str,
        shared: Shared | None,
        changed: Callable[[Sequence[AgentName]], Awaitable[None]] = _nothing_follows,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._configs = configs
        self._revision = revision
        self._shared = shared
        self._changed = changed
        self._failpoint = failpoint
        self._turn = anyio.Lock()

    async def start(self) -> None:
        """Drops what a crash left prepared. Raises nothing: the next bump begins anew anyway."""
        if self._shared is not None:
            try:
                await self._shared.abort()
            except HiveError as error:
                log.warning("bump_not_dropped error=%s", error)

    def outdated(self, agent: str) -> bool:
        """This agent was built with other shared inputs than are pinned now. Cheap."""
        return self._shared is not None and self._shared.outdated(AgentName(agent))

    async def listed(self) -> list[MetaInput]:
        """What is pinned now: what all share first, then each agent's commit."""
        own = MetaInput(name="hyperhive", rev=self._revision or None)
        shared = [own] if self._shared is None else await self._shared.known()
        deployed = [
            one for name in self._configs.agents() if (one := self._configs.deployed(name)) is not None
        ]
        return shared + [
            MetaInput(name=f"{AGENT}{one.agent}", rev=one.sha, updated_at=one.at) for one in deployed
        ]

    async def bump(self, names: Sequence[str]) -> str:
        """Pins what is newest of these inputs, once everybody's system was built with it; says what is new.

        Raises:
            NotAvailable: nothing here is built by Nix. BadRequest: no name, or an agent's. NotFound: no such input.
            Conflict: another bump is under way.
            WorldError: it cannot be locked, or somebody's system cannot be built with it. Nothing has changed then.
        """
        shared = self._shared
        if shared is None:
            raise NotAvailable(
                "there are no inputs to bump: this hive's agents are not built by Nix",
                hint="`hyperhive update --all` builds them anew by the hive's own revision",
            )
        _check(names, [one.name for one in await shared.known()])
        if self._turn.locked():
            raise Conflict("inputs are being bumped right now", hint="ask again when that is done")
        async with self._turn:
            new, agents = await self._carry_out(shared, names)
        if not new:
            return "nothing is newer than what is pinned"
        need = "needs" if len(agents) == 1 else "need"
        waiting = f"; {', '.join(agents)} {need} an update: hyperhive update --all" if agents else ""
        return f"{', '.join(new)}{waiting}"

    async def _carry_out(self, shared: Shared, names: Sequence[str]) -> tuple[list[str], list[AgentName]]:
        try:
            await self._failpoint("before prepare")
            new = await shared.prepare(names)
            await self._failpoint("after prepare")
            if not new:
                await shared.abort()
                return [], []
            await self._failpoint("before build")
            await shared.build()
            await self._failpoint("after build")
            await self._failpoint("before finalize")
            with anyio.CancelScope(shield=True):  # from here on it has happened, and is told
                agents = await shared.finalize()
                await self._failpoint("after finalize")
                await self._tell(agents)
        except (HiveError, anyio.get_cancelled_exc_class()):
            with anyio.CancelScope(shield=True):
                await shared.abort()
            raise
        log.info("inputs_bumped what=%s", new)
        return new, agents

    async def _tell(self, agents: Sequence[AgentName]) -> None:
        """What is pinned is pinned, also where nobody can be told."""
        try:
            await self._changed(agents)
        except HiveError as error:
            log.warning("bump_not_told error=%s", error)


def _check(names: Sequence[str], known: Sequence[str]) -> None:
    if not names:
        raise BadRequest("no input is named", hint=f"there are {', '.join(known)}")
    for name in names:
        if name.startswith(AGENT):
            raise BadRequest(
                f"{name} is pinned to the commit that was approved",
                hint="it changes by an approval or a rollback alone",
            )
