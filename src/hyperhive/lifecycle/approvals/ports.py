"""What the approvals need of other parts: the config repos, whoever deploys, and the memory of repeated requests.

`hyperhive.lifecycle.repos.Repos` and `hyperhive.testing.repos.MemoryRepos` are such repos. Nothing here happens.
"""

import sqlite3
from collections.abc import Mapping
from typing import Protocol

from hyperhive.names import AgentName


class Proposed(Protocol):
    """A proposal that was imported, as full hashes."""

    @property
    def sha(self) -> str: ...

    @property
    def base_sha(self) -> str: ...


class Diff(Protocol):
    """What a commit would change. `hidden`: warnings of characters that a reader does not see."""

    @property
    def text(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def too_big(self) -> bool: ...

    @property
    def hidden(self) -> "list[str] | tuple[str, ...]": ...


class Repos(Protocol):
    """The proposed and the applied repo of every agent.

    Contract: everything that changes something is idempotent; hashes are full and lower case. `tag` only makes: one
    that is there with the same commit is well, another is a `Conflict`. `advance_main` compares and swaps.
    """

    async def ensure(self, agent: AgentName) -> None: ...

    async def propose(self, agent: AgentName, commit_ref: str, id: int) -> Proposed:  # noqa: A002
        """Raises: NotFound, BadRequest, LimitReached; Conflict `stale_base`: it does not build on `main`."""
        ...

    async def main(self, agent: AgentName) -> str: ...

    async def descends(self, agent: AgentName, base: str, sha: str) -> bool: ...

    async def diff(self, agent: AgentName, base: str, sha: str) -> Diff: ...

    async def tag(self, agent: AgentName, name: str, sha: str, message: str | None = None) -> None: ...

    async def tags(self, agent: AgentName) -> Mapping[str, str]: ...

    async def advance_main(self, agent: AgentName, old: str, new: str) -> None: ...

    async def read(self, agent: AgentName, sha: str, path: str, max_bytes: int) -> bytes | None: ...

    async def purge(self, agent: AgentName) -> None: ...

    async def rollback_commit(self, agent: AgentName, to_sha: str, onto: str, message: str) -> str: ...


class Once(Protocol):
    """One request with an effect, which a turn that runs again repeats. Called in the effect's own transaction."""

    def earlier(self, conn: sqlite3.Connection) -> int | None:
        """The id that it led to before."""
        ...

    def remember(self, conn: sqlite3.Connection, id: int) -> None:  # noqa: A002
        """It led to this id."""
        ...


class Deployer(Protocol):
    """Carries out what was approved."""

    def approved(self, id: int) -> None:  # noqa: A002
        """The decision is durable: begin. Returns at once; a crash before the end is repaired at the next start."""
        ...
