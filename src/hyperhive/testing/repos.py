"""`MemoryRepos`: config repos without git, for tests of approvals and deploys. Same contract as the real ones.

A test plays the manager with `commit`, and whoever moves things behind the core's back with `tags_of` and `mains`. It
keeps nothing on disk: an object outlives the "crashes" of those who use it.
"""

import difflib
import hashlib
from collections.abc import Mapping

import anyio.lowlevel
import msgspec

from hyperhive.errors import Conflict, NotFound, StaleBase
from hyperhive.names import AgentName


class MemoryCommit(msgspec.Struct, frozen=True):
    """A commit: its parent, its files, its message."""

    parent: str | None
    files: dict[str, str]
    message: str

    def sha(self) -> str:
        """Of all that is in it."""
        return hashlib.sha1(
            msgspec.json.encode(self, order="deterministic"), usedforsecurity=False
        ).hexdigest()


class MemoryProposed(msgspec.Struct, frozen=True):
    """See `Repos.propose`."""

    sha: str
    base_sha: str


class MemoryDiff(msgspec.Struct, frozen=True):
    """See `Repos.diff`."""

    text: str
    sha256: str
    too_big: bool = False
    hidden: tuple[str, ...] = ()


class MemoryRepos:
    """The proposed and applied repos of all agents. `big`: from so many characters on a diff is too big."""

    def __init__(self, *, big: int = 1_000_000) -> None:
        self.commits: dict[str, MemoryCommit] = {}
        self.mains: dict[str, str] = {}
        self.tags_of: dict[str, dict[str, str]] = {}
        self.messages: dict[tuple[str, str], str | None] = {}
        self.big = big

    # --- the manager's side ---

    def commit(self, files: Mapping[str, str], *, on: str | None = None, message: str = "change") -> str:
        """A commit of the proposed repo; its hash."""
        return self._add(MemoryCommit(on, dict(files), message))

    def _add(self, commit: MemoryCommit) -> str:
        sha = commit.sha()
        self.commits[sha] = commit
        return sha

    # --- the core's side: see `lifecycle.approvals.ports.Repos` ---

    async def ensure(self, agent: AgentName) -> None:
        """See `Repos`."""
        await anyio.lowlevel.checkpoint()
        if agent not in self.mains:
            seed = self._add(MemoryCommit(None, {"agent.toml": ""}, f"seed of {agent}"))
            self.mains[agent] = seed
            self.tags_of[agent] = {"deployed/0": seed}

    async def propose(self, agent: AgentName, commit_ref: str, id: int) -> MemoryProposed:  # noqa: A002
        """See `Repos`."""
        base = await self.main(agent)
        found = [sha for sha in self.commits if sha.startswith(commit_ref)]
        if len(found) != 1:
            raise NotFound(f"there is no commit {commit_ref} in the proposed repo of {agent}")
        if not self._descends(base, found[0]):
            raise StaleBase(f"{found[0]} does not descend from {base}")
        await self.tag(agent, f"proposal/{id}", found[0])
        return MemoryProposed(found[0], base)

    async def main(self, agent: AgentName) -> str:
        """See `Repos`."""
        await anyio.lowlevel.checkpoint()
        if agent not in self.mains:
            raise NotFound(f"there is no applied repo of {agent}")
        return self.mains[agent]

    async def descends(self, agent: AgentName, base: str, sha: str) -> bool:
        """See `Repos`."""
        await self.main(agent)
        for one in (base, sha):
            self._must_hold(agent, one)
        return self._descends(base, sha)

    def _must_hold(self, agent: AgentName, sha: str) -> None:
        if sha not in self.commits:
            raise NotFound(f"the applied repo of {agent} holds no commit {sha}")

    def _descends(self, base: str, sha: str) -> bool:
        here: str | None = sha
        while here is not None:
            if here == base:
                return True
            here = self.commits[here].parent
        return False

    async def diff(self, agent: AgentName, base: str, sha: str) -> MemoryDiff:
        """See `Repos`."""
        await self.main(agent)
        old, new = self.commits[base].files, self.commits[sha].files
        lines: list[str] = []
        for path in sorted({*old, *new}):
            before, after = old.get(path, "").splitlines(), new.get(path, "").splitlines()
            lines += difflib.unified_diff(before, after, f"a/{path}", f"b/{path}", lineterm="")
        text = "\n".join(lines)
        return MemoryDiff(text, hashlib.sha256(text.encode()).hexdigest(), too_big=len(text) >= self.big)

    async def tag(self, agent: AgentName, name: str, sha: str, message: str | None = None) -> None:
        """See `Repos`."""
        await self.main(agent)
        self._must_hold(agent, sha)
        tags = self.tags_of.setdefault(agent, {})
        if tags.setdefault(name, sha) != sha:
            raise Conflict(f"the tag {name} of {agent} is at another commit")
        self.messages.setdefault((agent, name), message)

    async def tags(self, agent: AgentName) -> dict[str, str]:
        """See `Repos`."""
        await anyio.lowlevel.checkpoint()
        return dict(self.tags_of.get(agent, {}))

    async def advance_main(self, agent: AgentName, old: str, new: str) -> None:
        """See `Repos`."""
        now = await self.main(agent)
        if now == new:
            return
        if not self._descends(old, new):
            raise StaleBase(f"{new} does not descend from {old}")
        if now != old:
            raise Conflict(f"main of {agent} is at {now}, not at {old}")
        self.mains[agent] = new

    async def read(self, agent: AgentName, sha: str, path: str, max_bytes: int) -> bytes | None:
        """See `Repos`."""
        await self.main(agent)
        text = self.commits[sha].files.get(path)
        return None if text is None else text.encode()[:max_bytes]

    async def rollback_commit(self, agent: AgentName, to_sha: str, onto: str, message: str) -> str:
        """See `Repos`."""
        await self.main(agent)
        return self._add(MemoryCommit(onto, self.commits[to_sha].files, message))

    async def purge(self, agent: AgentName) -> None:
        """See `Repos`."""
        await anyio.lowlevel.checkpoint()
        self.mains.pop(agent, None)
        self.tags_of.pop(agent, None)
