"""The gateway's port to whoever counts what agents use and knows their budgets. It counts nothing itself."""

from typing import Protocol

import msgspec

from hyperhive.names import AgentName
from hyperhive.spending.usage import Usage


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an agent may not use the model now. `until`: unix seconds when that is over by itself."""

    message: str
    until: int | None = None


class Meter(Protocol):
    """Counts usage and knows budgets.

    Contract: `admit` answers from memory, at once, and is asked before every single request; `used` is told after each
    one that may have cost something, in the order in which they ended, and does not raise.
    """

    def admit(self, agent: AgentName) -> Refusal | None: ...

    async def used(self, agent: AgentName, usage: Usage) -> None: ...


class NoBudgets:
    """A meter that counts nothing and refuses nothing."""

    def admit(self, agent: AgentName) -> Refusal | None:
        """Everybody, always."""
        del agent
        return None

    async def used(self, agent: AgentName, usage: Usage) -> None:
        """Forgotten."""
