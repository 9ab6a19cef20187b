"""`Mirror`: keeps a copy of every applied repo on a forge. Best effort: nothing waits for it, and its lag is shown.

After each change of a repo, at start, and again after a failure, main and all tags are pushed. The forge is never read
back; what a purge deletes here is left there.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final

import anyio
import msgspec

from hyperhive.clock import Clock
from hyperhive.config import ForgeSetting
from hyperhive.errors import HiveError, NotFound
from hyperhive.forge import Forge
from hyperhive.lifecycle.repos import Repos
from hyperhive.names import AgentName

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 30.0
"""Before the second try; it doubles with each further one, up to an hour."""
RETRY_MAX_SECONDS: Final = 3600.0


class Behind(msgspec.Struct, frozen=True, kw_only=True):
    """An agent whose mirror lacks something. `since`: unix seconds; `error`: of the last try, None before it."""

    agent: AgentName
    since: float
    error: str | None = None


class _Debt(msgspec.Struct):
    since: float
    version: int = 0
    tries: int = 0
    due: float = 0.0
    error: str | None = None


class Mirror:
    """See the file's header. `run` does the work; `touch` says that an agent's repo changed.

    Args:
        setting: the forge as it is in force, None where there is none.
        agents: whose repos there may be, tombstones among them.
    """

    def __init__(
        self,
        repos: Repos,
        *,
        setting: Callable[[], ForgeSetting | None],
        agents: Callable[[], Iterable[AgentName]],
        clock: Clock,
    ) -> None:
        self._repos = repos
        self._setting = setting
        self._agents = agents
        self._clock = clock
        self._debts: dict[AgentName, _Debt] = {}
        self._forge: ForgeSetting | None = None
        self._touched = anyio.Event()

    def touch(self, agent: AgentName) -> None:
        """This agent's repo changed. Costs next to nothing; any number of times."""
        debt = self._debts.setdefault(agent, _Debt(since=self._clock.time()))
        debt.version += 1
        debt.due = self._clock.monotonic() if debt.error is None else debt.due
        self._touched.set()

    def reconsider(self) -> None:
        """The setting may be another one: that forge gets everything, at once."""
        self._touched.set()

    def behind(self) -> list[Behind]:
        """Whose mirror lacks something, by name; nobody where there is no forge."""
        if self._setting() is None:
            return []
        return [
            Behind(agent=name, since=debt.since, error=debt.error)
            for name, debt in sorted(self._debts.items())
        ]

    def cautions(self) -> list[str]:
        """What `status` says of mirrors that have failed."""
        return [
            f"the forge is behind with {one.agent}: {one.error}"
            for one in self.behind()
            if one.error is not None
        ]

    async def run(self) -> None:
        """Pushes, for ever. Begins with everything: what a dead hive had not pushed yet is not known."""
        while True:
            self._touched = anyio.Event()
            setting = self._setting()
            if setting != self._forge:
                self._forge = setting
                self._owe_everything()
            now = self._clock.monotonic()
            due = [name for name, debt in self._debts.items() if debt.due <= now]
            if setting is not None:
                forge = Forge(setting)
                for name in due:
                    if self._setting() == setting:
                        await self._push(forge, name)
            await self._rest(None if setting is None else self._next())

    def _owe_everything(self) -> None:
        """What is on a forge that was never pushed to is not known, and an earlier one's failures are not its own."""
        for agent in self._agents():
            self.touch(agent)
        for debt in self._debts.values():
            debt.due, debt.tries, debt.error = self._clock.monotonic(), 0, None

    async def _push(self, forge: Forge, agent: AgentName) -> None:
        debt = self._debts[agent]
        version = debt.version
        try:
            if not await self._repos.exists(agent):
                raise NotFound(f"{agent} has no config repo")
            await forge.ensure(agent)
            await self._repos.push(agent, forge.address(agent), await forge.authorization())
        except NotFound:
            del self._debts[agent]  # purged meanwhile, or never made
        except HiveError as error:
            debt.tries += 1
            debt.error = error.message
            debt.due = self._clock.monotonic() + min(
                RETRY_SECONDS * 2 ** min(debt.tries - 1, 10), RETRY_MAX_SECONDS
            )
            log.warning("mirror_failed agent=%s tries=%s error=%s", agent, debt.tries, error)
        else:
            if debt.version == version:
                del self._debts[agent]
            else:  # it changed while it was pushed
                self._debts[agent] = _Debt(since=self._clock.time(), version=debt.version)
            log.info("mirror_pushed agent=%s", agent)

    def _next(self) -> float | None:
        dues = [debt.due for debt in self._debts.values()]
        return max(0.0, min(dues) - self._clock.monotonic()) if dues else None

    async def _rest(self, seconds: float | None) -> None:
        """Until something changes, or so long."""
        async with anyio.create_task_group() as group:
            if seconds is not None:
                group.start_soon(self._nap, seconds, group.cancel_scope)
            await self._touched.wait()
            group.cancel_scope.cancel()

    async def _nap(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(seconds)
        scope.cancel()
