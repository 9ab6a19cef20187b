"""What the handlers need of the hive's parts."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from hyperhive.errors import HiveError
from hyperhive.names import OPERATOR, AgentName
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.types import Mount


class Agents(Protocol):
    """What the handlers need of the lifecycle. Actions return when they are done, and raise `HiveError` if not."""

    def names(self) -> Sequence[str]: ...

    async def spawn(
        self, name: str, mounts: Sequence[Mount] | None = None, *, by: AgentName = OPERATOR
    ) -> None: ...

    async def start(self, name: str, *, wait: bool = False, by: AgentName = OPERATOR) -> None: ...

    async def stop(
        self, name: str, *, now: bool = False, wait: bool = False, by: AgentName = OPERATOR
    ) -> None: ...

    async def restart(self, name: str, *, now: bool = False, by: AgentName = OPERATOR) -> None: ...

    async def destroy(
        self, name: str, *, purge: bool = False, now: bool = False, by: AgentName = OPERATOR
    ) -> None: ...

    async def restore(self, name: str) -> None: ...

    async def update(self, name: str, *, now: bool = False, by: AgentName = OPERATOR) -> str | None: ...

    async def update_all(self) -> Mapping[AgentName, HiveError | None]: ...

    async def meta_update(self, names: Sequence[str]) -> str: ...


class Harnesses(Protocol):
    """The agents' harnesses, wherever they run."""

    async def ask(self, name: AgentName, command: line.AnyHarnessCommand) -> p.Reply:
        """Raises NotFound: no agent of this name. Conflict: it does not run, and the command needs that."""
        ...

    def caution(self, name: AgentName) -> str | None:
        """What must be said to whoever stops this agent now."""
        ...


class Models(Protocol):
    """The model gateway."""

    async def wait_for_standing(self, agent: AgentName, seconds: float) -> p.ModelStanding: ...


class Standings(Protocol):
    """What is known of accounts at their limits, where a CLI's word is all there is."""

    def limited_until(self, agent: AgentName) -> int | None: ...

    def claimed(self, agent: AgentName, until: float) -> None: ...


class Desk(Protocol):
    """What the hive itself answers."""

    async def status(self, name: AgentName | None) -> p.HiveStatus: ...

    def identity(self, caller: Caller) -> p.Identity: ...

    async def logs(self, name: AgentName | None, request: r.Logs) -> p.LogLines: ...

    async def account(self, request: r.Account) -> p.Accounts: ...

    async def reload(self) -> p.Ok: ...

    def hello(self, caller: Caller, request: r.Hello) -> p.Ok: ...

    def in_turn(self, name: AgentName) -> bool:
        """Whether a turn of this agent runs, as far as its harness has said."""
