"""How each agent stands with the model now: admitted, or refused and why. The one place that decides it.

Before each request, and for the harness after a turn that failed: both ask here. Budgets are the meter's to know,
logins and limits the account's.
"""

from collections.abc import Awaitable, Callable
from math import ceil
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from hyperhive.accounts import AccountState, BoundAccount
from hyperhive.clock import Clock, unix_seconds
from hyperhive.gateway.health import LONGEST_SECONDS
from hyperhive.gateway.meter import Meter
from hyperhive.names import AgentName
from hyperhive.protocol.replies import ModelStanding
from hyperhive.protocol.types import ModelRefusal

HOLD_SECONDS: Final = 60.0
"""A request is held back so long for an account that is at its limit; a longer limit refuses it, and ends the turn.

What lasts no longer is a matter of the API's pace: it parks no agent, and nobody is told.
"""

RELEASE_SECONDS: Final = 0.2
"""Requests of one account that were held back go on this far apart."""

Look = Callable[[AgentName], ModelStanding]


class Standings:
    """The standings of one hive's agents.

    Args:
        account: the account that an agent runs under now.
        served: whether the gateway answers this agent's CLI.
    """

    def __init__(
        self,
        *,
        account: Callable[[AgentName], BoundAccount],
        served: Callable[[AgentName], bool],
        meter: Meter,
        clock: Clock,
    ) -> None:
        self._account = account
        self._served = served
        self._meter = meter
        self._clock = clock
        self._last: dict[AgentName, tuple[ModelRefusal, int]] = {}
        self._paced: dict[str, float] = {}
        """Until when (unix time) the API wants no more of an account, where that is soon."""
        self._next: dict[str, float] = {}
        """When (monotonic) the next request of an account goes on that was held back."""

    def now(self, agent: AgentName) -> ModelStanding:
        """Whether this agent may use the model now, as far as its account goes. Returns at once.

        That is told where the gateway serves, and is else the CLI's own to find out.
        """
        served, (last, at) = self._served(agent), self._last.get(agent, (None, None))
        state = self._account(agent).state
        until = state.blocked_until(self._clock.time()) if served else None
        if until is None:
            return ModelStanding(served=served, last=last, last_at=at)
        if until == float("inf"):
            text = f"the account {state.name} needs a login"
            return ModelStanding(served=served, refused="login", message=text, last=last, last_at=at)
        text = f"the account {state.name} is at its limit"
        soon = int(until + 1)
        return ModelStanding(
            served=served, refused="limited", message=text, until=soon, last=last, last_at=at
        )

    async def wait(self, agent: AgentName, seconds: float) -> ModelStanding:
        """The same, but while the agent may not use the model it takes so long, or until it may."""
        end = self._clock.monotonic() + seconds
        while (found := self.now(agent)).refused is not None:
            left = end - self._clock.monotonic()
            if left <= 0:
                break
            await self._until_changed(agent, self.now, found, left)
        return found

    async def admitted(self, agent: AgentName) -> ModelStanding | None:
        """Returns None when a request of this agent may be sent on; else how it is refused, and remembers that.

        A limit that is over soon is waited for; those who waited go on one after the other.
        """
        end = self._clock.monotonic() + HOLD_SECONDS
        held = False
        while (found := self._for_request(agent)).refused is not None or held:
            if found.refused is None:
                held = False
                await self._clock.sleep(self._delay(agent))
                continue
            left = end - self._clock.monotonic()
            rest = (found.until or 0) - self._clock.time()
            if found.refused != "limited" or rest > left:
                self.failed(agent, found.refused)
                return found
            held = True
            await self._until_changed(agent, self._for_request, found, left)
        return None

    def _delay(self, agent: AgentName) -> float:
        """How long a request that was held back waits for those before it, in seconds."""
        name, now = self._account(agent).state.name, self._clock.monotonic()
        due = max(now, self._next.get(name, now))
        self._next[name] = due + RELEASE_SECONDS
        return due - now

    def limit(self, state: AccountState, until: float) -> None:
        """The API serves this account no more until that unix time."""
        if until - self._clock.time() > HOLD_SECONDS:
            state.limit(until)
        else:
            self._paced[state.name] = max(until, self._paced.get(state.name, until))

    def limited_until(self, agent: AgentName) -> int | None:
        """Until when (unix seconds) the account of this agent is at its usage limit; None where it is not."""
        until = self._account(agent).state.limited_until
        return None if until is None or until <= self._clock.time() else ceil(until)

    def claimed(self, agent: AgentName, until: float) -> None:
        """A CLI says that its account is at its limit until then: nobody else can know, where it is not served here."""
        now = self._clock.time()
        if now < until and not self._served(agent):
            self._account(agent).state.limit(min(until, now + LONGEST_SECONDS))

    def _for_request(self, agent: AgentName) -> ModelStanding:
        refusal = self._meter.admit(agent)
        if refusal is not None:
            return ModelStanding(refused="budget", message=refusal.message, until=refusal.until)
        standing, name = self.now(agent), self._account(agent).state.name
        if standing.refused is None and (until := self._paced.get(name)) is not None:
            if until > self._clock.time():
                text = f"the API serves the account {name} no faster"
                return ModelStanding(refused="limited", message=text, until=int(until + 1))
            del self._paced[name]
        return standing

    def without_key(self, agent: AgentName) -> ModelStanding:
        """The agent's account is none that the gateway has a key of."""
        self.failed(agent, "login")
        return ModelStanding(refused="login", message="the hive has no key for this agent's account")

    def failed(self, agent: AgentName, why: ModelRefusal) -> None:
        """The agent's last request was refused, here or by the API."""
        self._last[agent] = (why, unix_seconds(self._clock))

    def passed(self, agent: AgentName) -> None:
        """The agent's last request was answered."""
        self._last.pop(agent, None)

    async def _until_changed(
        self, agent: AgentName, look: Look, found: ModelStanding, seconds: float
    ) -> None:
        """Returns when `look` may find another standing, or that much time has passed."""
        state = self._account(agent).state
        if found.until is not None:
            seconds = min(seconds, max(found.until - self._clock.time(), 0.0))
        async with anyio.create_task_group() as group:

            async def first(wait: Callable[[], Awaitable[None]]) -> None:
                await wait()
                group.cancel_scope.cancel()

            group.start_soon(first, state.changed)
            group.start_soon(first, lambda: self._clock.sleep(seconds))
            await checkpoint()  # now they listen: what changed before that is seen here
            if look(agent).refused != found.refused:
                group.cancel_scope.cancel()
