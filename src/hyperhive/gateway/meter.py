"""The gateway's port to whoever counts what agents use and knows their budgets. It counts nothing itself."""

from typing import Protocol

import msgspec

from hyperhive.names import AgentName
from hyperhive.spending.usage import Usage


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an agent may not use the model now. `until`: unix seconds when that is over by itself."""

    message: str
    until: int | None = None


class Held(Protocol):
    """What is set aside for one request. Released once that is charged, or over; any number of times."""

    def release(self) -> None: ...


class Meter(Protocol):
    """Counts usage and knows budgets.

    Contract: `admit` answers from memory, at once, and is asked before every single request; so is `hold` then, with an
    estimate of what it may use, where anything limits that. Where it gives None, others under way may use up what is
    left: both are asked again once `freed` returns. `used` is told after each request that may have cost something, in
    the order in which they ended, and does not raise.
    """

    def admit(self, agent: AgentName) -> Refusal | None: ...

    def limits(self, agent: AgentName) -> bool: ...

    def hold(self, agent: AgentName, usage: Usage) -> Held | None: ...

    async def freed(self) -> None: ...

    async def used(self, agent: AgentName, usage: Usage) -> None: ...


class NoBudgets:
    """A meter that counts nothing and refuses nothing."""

    def admit(self, agent: AgentName) -> Refusal | None:
        """Everybody, always."""
        del agent
        return None

    def limits(self, agent: AgentName) -> bool:
        """Never."""
        del agent
        return False

    def hold(self, agent: AgentName, usage: Usage) -> Held | None:
        """Always."""
        del agent, usage
        return _Nothing()

    async def freed(self) -> None:
        """At once."""

    async def used(self, agent: AgentName, usage: Usage) -> None:
        """Forgotten."""


class _Nothing:
    def release(self) -> None:
        """Nothing is set aside."""
