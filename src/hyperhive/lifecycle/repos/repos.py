"""`Repos`: an agent's proposed and applied repo, as the approval queue and the deployer use them.

Every method may be cut short by a crash at any point and called again. One operation at a time on one agent's repos.
Names go in once (`propose` resolves a reference); everything else takes and gives full commit ids. What a tag means,
and when main may move, is decided elsewhere.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from hyperhive.errors import BadRequest, BugError, Conflict, LimitReached, NotFound, StaleBase, WorldError
from hyperhive.lifecycle.removal import remove_tree
from hyperhive.lifecycle.repos.diffs import Diff, make_diff
from hyperhive.lifecycle.repos.git import Git, GitFailed, configured, find_git
from hyperhive.lifecycle.repos.making import BRANCH, IDENTITY, Maker, clear_stale
from hyperhive.lifecycle.repos.migrating import migrate
from hyperhive.lifecycle.repos.quarantine import Quarantine, check_ref
from hyperhive.lifecycle.repos.reader import BoxedReader, ContainedReader, PlainReader, RepoReader
from hyperhive.lifecycle.repos.trees import RepoLimits, TreeFile, check_tree, listing_limit, path_fault
from hyperhive.lifecycle.runtimes import wrapper
from hyperhive.lifecycle.runtimes.base import Marks, Runtime
from hyperhive.lifecycle.runtimes.bwrap import BwrapRuntime
from hyperhive.lifecycle.runtimes.nspawn import NspawnRuntime
from hyperhive.names import AgentName
from hyperhive.paths import BOX_APPLIED, Paths
from hyperhive.terminal import visible

SEED: Final[Mapping[str, bytes]] = {
    "agent.toml": b"# What this agent is. A commit here is a proposal: it holds once the operator has approved it.\n"
}

_SHA: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
_TAG: Final = re.compile(r"[a-z]+/[0-9]{1,19}", re.ASCII)
PUSH_SECONDS: Final = 120.0
_MESSAGE_MAX: Final = 64 * 1024
_TAGS_MAX: Final = 64 << 20


class Proposed(msgspec.Struct, frozen=True):
    """A proposal: the commit, and the applied main that it descends from."""

    sha: str
    base_sha: str


class Repos:
    """The repos of all agents of one hive. Nothing runs before the first call, which also clears what a crash left."""

    def __init__(
        self,
        paths: Paths,
        *,
        path: str,
        reader: Callable[[Marks], RepoReader],
        applied_seen: str = BOX_APPLIED,
        limits: RepoLimits | None = None,
        seed: Mapping[str, bytes] = SEED,
    ) -> None:
        """Runs nothing.

        Args:
            path: PATH, on which git is looked for.
            reader: makes what reads proposed repos, given the marks of this object's processes.
            applied_seen: where the manager sees the applied repos.
            seed: the files of a new agent's first commit, by plain names.
        """
        self._paths = paths
        self._path = path
        self._limits = limits or RepoLimits()
        self._seed = seed
        self._applied_seen = applied_seen
        self._marks = Marks(paths.staging)
        self._reader = reader(self._marks)
        self._beginning = anyio.Lock()
        self._git: Git | None = None
        self._locks: dict[str, anyio.Lock] = {}
        self.changed: Callable[[AgentName], None] = lambda _: None
        """Called on the loop's thread after each change of an applied repo's main or tags."""

    @classmethod
    def of(cls, paths: Paths, runtime: Runtime, path: str, *, seed: Mapping[str, bytes] = SEED) -> "Repos":
        """As fits the runtime: proposed repos are read in a box where there are boxes. `path`: PATH."""
        if isinstance(runtime, BwrapRuntime):
            boxes = runtime
            return cls(
                paths, path=path, reader=lambda marks: BoxedReader(paths, marks, path, boxes), seed=seed
            )
        if isinstance(runtime, NspawnRuntime):
            containers = runtime
            return cls(
                paths, path=path, reader=lambda marks: ContainedReader(paths, marks, containers), seed=seed
            )
        return cls(
            paths,
            path=path,
            reader=lambda marks: PlainReader(paths, marks, path),
            applied_seen=BOX_APPLIED if runtime.isolated else str(paths.applied),
            seed=seed,
        )

    async def ensure(self, agent: AgentName) -> None:
        """Makes both repos where they are missing. Idempotent.

        Applied begins with a first commit, branch main and tag `deployed/0`; proposed with the applied main.

        Raises:
            MissingPart: git is not installed or too old.
            WorldError: something else has the place of one.
        """
        async with self._turn(agent) as git:
            maker = Maker(git, self._paths, applied_seen=self._applied_seen, seed=self._seed)
            await maker.applied(agent)
            await maker.proposed(agent)
        self.changed(agent)

    async def propose(self, agent: AgentName, commit_ref: str, id: int) -> Proposed:  # noqa: A002 - as on the wire
        """Pins what `commit_ref` names now, brings it over and tags it `proposal/ID`. Idempotent for the same commit.

        Raises:
            BadRequest: it is no commit id of 7 to 40 hex digits, or the commit holds what is not allowed.
            NotFound: no branch of the proposed repo holds it; or the agent has no repos.
            LimitReached: too large.
            StaleBase: it does not descend from the applied main.
            Conflict: this id is another commit's.
            WorldError: the proposed repo is damaged.
        """
        wanted = check_ref(commit_ref)
        async with self._turn(agent) as git:
            base = await self._main(git, agent)
            known = await self._ref(git, agent, f"refs/tags/proposal/{id}")
            if known is None:
                quarantine = Quarantine(git, self._reader, self._paths.staging, self._limits)
                known = await quarantine.bring(agent, wanted, self._paths.applied_repo(agent), base)
                await self._create(git, agent, f"proposal/{id}", known)
            elif not known.startswith(wanted):
                raise Conflict(f"proposal {id} is {known[:12]} already")
            elif not await self._descends(git, agent, base, known):
                raise StaleBase(f"{known[:12]} does not descend from {base[:12]}, which is deployed")
        self.changed(agent)
        return Proposed(known, base)

    async def main(self, agent: AgentName) -> str:
        """The commit that is deployed.

        Raises:
            NotFound: the agent has no repos.
        """
        async with self._turn(agent) as git:
            return await self._main(git, agent)

    async def descends(self, agent: AgentName, base: str, sha: str) -> bool:
        """Whether `sha` is `base` or comes after it.

        Raises:
            NotFound: one of them is not there, or the agent has no repos.
        """
        async with self._turn(agent) as git:
            try:
                return await self._descends(git, agent, _full(base), _full(sha))
            except GitFailed:
                for one in (base, sha):
                    await self._must_hold(git, agent, one)
                raise

    async def diff(self, agent: AgentName, base: str, sha: str) -> Diff:
        """All that changes from `base` to `sha`. The same two give the same text and hash, always."""
        async with self._turn(agent) as git:
            return await make_diff(
                git, self._paths.applied_repo(agent), _full(base), _full(sha), self._limits
            )

    async def tag(
        self, agent: AgentName, name: str, sha: str, message: str | None = None, *, at: int = 0
    ) -> None:
        """Makes a tag, an annotated one where there is a message. One that says the same is left as it is.

        Args:
            message: cut at 64 KiB.
            at: unix seconds, written into an annotated tag; not compared.

        Raises:
            Conflict: there is another tag of this name.
            NotFound: there is no such commit, or the agent has no repos.
        """
        if not _TAG.fullmatch(name):
            raise BugError(f"{name!r} is no name of a tag")
        async with self._turn(agent) as git:
            try:
                await self._create(git, agent, name, _full(sha), message, at)
            except GitFailed:
                await self._must_hold(git, agent, sha)
                raise
        self.changed(agent)

    async def tags(self, agent: AgentName) -> dict[str, str]:
        """All tags, each with the commit that it stands for in the end."""
        async with self._turn(agent) as git:
            wanted = "--format=%(refname:lstrip=2) %(objectname) %(*objectname)"
            repo = self._paths.applied_repo(agent)
            listed = await git.read(repo, "for-each-ref", wanted, "refs/tags/", limit=_TAGS_MAX)
        rows = [line.split() for line in listed.decode().splitlines()]
        return {row[0]: row[-1] for row in rows}

    async def annotation(self, agent: AgentName, name: str) -> str | None:
        """The message of an annotated tag; None where there is no such tag, or it is a light one."""
        if not _TAG.fullmatch(name):
            raise BugError(f"{name!r} is no name of a tag")
        async with self._turn(agent) as git:
            return await self._message(git, agent, name)

    async def advance_main(self, agent: AgentName, old: str, new: str) -> None:
        """Moves main from `old` to `new`, which descends from it. Nothing happens where it is there already.

        Raises:
            Conflict: main is neither.
            StaleBase: `new` does not descend from `old`.
        """
        old, new = _full(old), _full(new)
        async with self._turn(agent) as git:
            now = await self._main(git, agent)
            if now == new:
                return
            if now != old:
                raise Conflict(f"main of {agent} is {now[:12]}, not {old[:12]}")
            if not await self._descends(git, agent, old, new):
                raise StaleBase(f"{new[:12]} does not descend from {old[:12]}")
            await git.run(self._paths.applied_repo(agent), "update-ref", "--no-deref", BRANCH, new, old)
        self.changed(agent)

    async def read(self, agent: AgentName, sha: str, path: str, max_bytes: int) -> bytes | None:
        """A file of a commit; None where it has none at this path.

        Raises:
            LimitReached: it is larger than `max_bytes`.
        """
        if path_fault(path, self._limits) is not None:  # no commit that was let in has such a path
            return None
        async with self._turn(agent) as git:
            repo = self._paths.applied_repo(agent)
            listed = await git.read(repo, "ls-tree", "-z", "-l", "--full-tree", _full(sha), "--", path)
            for record in listed.split(b"\0")[:-1]:
                facts, _, name = record.partition(b"\t")
                _, kind, blob, size = facts.decode("ascii").split()
                if name == path.encode() and kind == "blob":
                    if int(size) > max_bytes:
                        raise LimitReached(f"{path} has {size} bytes, and at most {max_bytes} are read")
                    return await git.read(repo, "cat-file", "blob", blob, limit=max_bytes)
        return None

    async def files(self, agent: AgentName, sha: str) -> list[TreeFile]:
        """The files of a commit, by path.

        Raises:
            BadRequest, LimitReached: it holds what no commit that was let in does.
        """
        async with self._turn(agent) as git:
            listed = await git.read(
                self._paths.applied_repo(agent),
                "ls-tree",
                "-r",
                "-t",
                "-l",
                "-z",
                "--full-tree",
                _full(sha),
                limit=listing_limit(self._limits),
            )
        return check_tree(listed, self._limits)

    async def rollback_commit(self, agent: AgentName, to_sha: str, onto: str, message: str) -> str:
        """A commit with the tree of `to_sha` on top of `onto`; the same four give the same commit."""
        async with self._turn(agent) as git:
            repo = self._paths.applied_repo(agent)
            tree = await git.read(
                repo, "rev-parse", "--verify", "--end-of-options", f"{_full(to_sha)}^{{tree}}"
            )
            when = (await git.read(repo, "log", "-1", "--format=%ct", _full(onto), "--")).decode().strip()
            made = await git.run(
                repo, "commit-tree", "-p", onto, tree.decode().strip(), stdin=_text(message), env=_identity(when)
            )  # fmt: skip
        return made.decode("ascii").strip()

    async def exists(self, agent: AgentName) -> bool:
        """Whether the agent has an applied repo."""
        return await anyio.to_thread.run_sync((self._paths.applied_repo(agent) / "HEAD").is_file)

    async def push(self, agent: AgentName, url: str, authorization: str) -> None:
        """Pushes main and all tags to `url` (http or https); nothing there is overwritten or removed.

        However long that takes, nobody who works on the repo waits for it.

        Args:
            authorization: the header's value. It is in no argument, no configuration file and no message.

        Raises:
            WorldError: the other side refused, or was not there. TimedOut: it took longer than two minutes.
            NotFound: there is no repo.
        """
        env = configured(
            {
                "credential.helper": "",
                "http.extraHeader": f"Authorization: {authorization}",
                "http.followRedirects": "false",  # the header is for nobody else
            }
        )
        protocol = url.partition(":")[0]
        if protocol not in {"http", "https"}:
            raise BadRequest("a forge is pushed to by http or https")
        if not await self.exists(agent):
            raise NotFound(f"{agent} has no config repo")
        git, repo = await self._begin(), self._paths.applied_repo(agent)
        refs = (f"{BRANCH}:{BRANCH}", "refs/tags/*:refs/tags/*")
        argv = ("push", "--porcelain", "--no-verify", "--no-follow-tags", "--", url, *refs)
        await git.run(repo, *argv, protocol=protocol, env=env, seconds=PUSH_SECONDS)

    async def migrate(self) -> list[str]:
        """Brings an older layout of the state directory to this one; a sentence for each thing done. Idempotent.

        Before any agent runs, and before `ensure`.
        """
        return await migrate(await self._begin(), self._paths)

    async def purge(self, agent: AgentName) -> None:
        """Deletes both repos. Idempotent."""
        async with self._turn(agent):
            failures: list[str] = []
            for place in (self._paths.proposed / agent, self._paths.applied_repo(agent)):
                await anyio.to_thread.run_sync(remove_tree, place, failures)
        if failures:
            raise WorldError(f"the repos of {agent} cannot be deleted: {failures[0]}")

    # --- inside -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, agent: AgentName) -> AsyncIterator[Git]:
        """One operation on this agent's repos."""
        git = await self._begin()
        async with self._locks.setdefault(agent, anyio.Lock()):
            yield git

    async def _begin(self) -> Git:
        async with self._beginning:
            if self._git is None:
                program = await anyio.to_thread.run_sync(find_git, self._path)
                git = Git(program, self._marks, file_bytes=2 * self._limits.pack)
                await git.check()
                await anyio.to_thread.run_sync(self._clean)
                self._git = git
        return self._git

    def _clean(self) -> None:
        """No git of an earlier life may run on, and what it left is removed. Blocks."""
        if left := wrapper.kill_marked(self._marks.any, wrapper.ONE_HIVE):
            raise WorldError(f"processes {left} of an earlier run do not end although they were killed")
        clear_stale(self._paths)

    async def _main(self, git: Git, agent: AgentName) -> str:
        found = await self._ref(git, agent, BRANCH)
        if found is None:
            raise WorldError(f"the applied repo of {agent} has no main")
        return found

    async def _ref(self, git: Git, agent: AgentName, ref: str) -> str | None:
        """The commit that a full ref name stands for."""
        repo = self._paths.applied_repo(agent)
        if not await self.exists(agent):
            raise NotFound(f"{agent} has no config repo")
        try:
            found = await git.read(
                repo, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
            )
        except GitFailed as failed:
            if failed.exit_code == 1:
                return None
            raise
        return found.decode("ascii").strip()

    async def _must_hold(self, git: Git, agent: AgentName, sha: str) -> None:
        if await self._ref(git, agent, sha) is None:
            raise NotFound(f"the config repo of {agent} holds no commit {sha[:12]}")

    async def _descends(self, git: Git, agent: AgentName, base: str, sha: str) -> bool:
        return await git.test(self._paths.applied_repo(agent), "merge-base", "--is-ancestor", base, sha)

    async def _create(
        self, git: Git, agent: AgentName, name: str, sha: str, message: str | None = None, at: int = 0
    ) -> None:
        repo = self._paths.applied_repo(agent)
        target = sha
        if message is not None:
            header = f"object {sha}\ntype commit\ntag {name}\ntagger {IDENTITY} {at} +0000\n\n"
            made = await git.run(repo, "mktag", stdin=header.encode() + _text(message))
            target = made.decode("ascii").strip()
        try:
            await git.run(repo, "update-ref", "--no-deref", f"refs/tags/{name}", target, "0" * len(target))
        except GitFailed:
            there = await self._ref(git, agent, f"refs/tags/{name}")
            if there is None:
                raise
            if there != sha or await self._message(git, agent, name) != (
                None if message is None else _text(message).decode()
            ):
                raise Conflict(f"tag {name} of {agent} stands for {there[:12]} already") from None

    async def _message(self, git: Git, agent: AgentName, name: str) -> str | None:
        repo = self._paths.applied_repo(agent)
        kind = await git.read(repo, "for-each-ref", "--format=%(objecttype)", f"refs/tags/{name}")
        if kind.strip() != b"tag":
            return None
        whole = await git.read(repo, "cat-file", "tag", f"refs/tags/{name}")
        return whole.partition(b"\n\n")[2].decode(errors="replace")


def _full(sha: str) -> str:
    """Raises BadRequest for anything but a full id: abbreviations and names are for `propose` alone."""
    if not _SHA.fullmatch(sha):
        raise BadRequest(f"{visible(sha[:80])!r} is no full commit id")
    return sha


def _text(message: str) -> bytes:
    """A message as git stores it: without NULs and with an end of line, never more than 64 KiB."""
    cut = message.replace("\0", "").encode(errors="replace")[:_MESSAGE_MAX].decode(errors="ignore")
    return f"{cut.rstrip()}\n".encode()


def _identity(when: str) -> dict[str, str]:
    name, _, email = IDENTITY.partition(" <")
    return {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", name), ("EMAIL", email.rstrip(">")), ("DATE", f"@{when} +0000"))
    }
