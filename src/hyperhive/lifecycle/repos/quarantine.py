"""Getting one proposed commit's objects from where an agent can write to where only the core can.

    proposed repo ── upload-pack, as the agent (`reader`) ── counted pipe ── fetch ──► quarantine (bare, for this once)
                           resolve once · is it on a branch · what does its tree hold · does it descend
                                                               quarantine ── fetch of that commit ──► applied

The git that fetches runs in a repository of the core's own, checks every object (fsck), and can be told nothing but
objects. Whatever fails, `applied` has not been touched. Nothing here decides what an import is for.
"""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import ByteReceiveStream, UNIXSocketStream

from hyperhive.errors import BadRequest, HiveError, LimitReached, NotFound, StaleBase, TimedOut, WorldError
from hyperhive.lifecycle.repos.git import Git, GitFailed, TooMuch, put_down
from hyperhive.lifecycle.repos.making import INIT, clear
from hyperhive.lifecycle.repos.reader import RepoReader
from hyperhive.lifecycle.repos.trees import RepoLimits, check_tree, listing_limit
from hyperhive.names import AgentName
from hyperhive.ports import ChildProcess
from hyperhive.terminal import visible

_REF: Final = re.compile(r"[0-9a-fA-F]{7,40}", re.ASCII)
_HEAD: Final = re.compile(r"([0-9a-f]{40})\trefs/heads/\S+", re.ASCII)
_IMPORTED: Final = "refs/imported/"
_NO_TAGS: Final = (
    "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance",
    "--atomic",
)  # fmt: skip


def check_ref(commit_ref: str) -> str:
    """The reference in lower case.

    Raises:
        BadRequest: it is not 7 to 40 hex digits. Names of branches and tags can be moved, so none is taken.
    """
    if not _REF.fullmatch(commit_ref):
        raise BadRequest(
            f"{visible(commit_ref[:80])!r} is no commit id of 7 to 40 hex digits",
            hint="git rev-parse HEAD gives one; a branch or tag can move and is not taken",
        )
    return commit_ref.lower()


class Quarantine:
    """Imports proposed commits. `place`: a directory of the core's own on the same file system as the applied repos."""

    def __init__(self, git: Git, reader: RepoReader, place: Path, limits: RepoLimits) -> None:
        self._git = git
        self._reader = reader
        self._place = place
        self._limits = limits

    async def bring(self, agent: AgentName, commit_ref: str, applied: Path, base: str) -> str:
        """Brings the commit that `commit_ref` names now into `applied`; returns its full id. Idempotent.

        Raises:
            BadRequest: it is no commit id, names several commits, or the commit holds what is not allowed.
            NotFound: no branch of the proposed repo holds such a commit.
            LimitReached: the repo or the commit is too large, or reading it took too long.
            StaleBase: the commit does not descend from `base`.
            WorldError: the proposed repo cannot be read: it is damaged, or there is none.
        """
        wanted = check_ref(commit_ref)
        try:
            with anyio.fail_after(self._limits.seconds):
                async with self._room(agent) as room:
                    await self._fetch(agent, room)
                    sha = await self._resolve(room, wanted)
                    await self._judge(room, sha)
                    await self._descend(room, base, sha)
                    await self._git.run(
                        applied, "fetch", *_NO_TAGS, "--end-of-options", str(room), sha, protocol="file"
                    )
        except TimeoutError as error:
            raise LimitReached(
                f"the proposed repo could not be read within {self._limits.seconds:.0f} s",
                hint="it is too large or too slow to read; start a smaller one",
            ) from error
        return sha

    @asynccontextmanager
    async def _room(self, agent: AgentName) -> AsyncIterator[Path]:
        """A fresh repository, gone afterwards."""
        room = self._place / f"{agent}.import"
        await anyio.to_thread.run_sync(clear, room)
        try:
            await self._git.run(None, *INIT, "--bare", "--", str(room))
            yield room
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(clear, room)

    async def _fetch(self, agent: AgentName, room: Path) -> None:
        """All commits of all branches, each branch under a name of ours."""
        listed = await self._from_agent(agent, room, "ls-remote", "--quiet", "--heads", "--refs")
        heads = [
            found[1]
            for line in listed.decode(errors="replace").splitlines()
            if (found := _HEAD.fullmatch(line))
        ]
        if not heads:
            raise NotFound("the proposed repo has no commit on any branch")
        if len(heads) > self._limits.heads:
            raise LimitReached(f"the proposed repo has more than {self._limits.heads} branches")
        wanted = [f"{sha}:{_IMPORTED}{number}" for number, sha in enumerate(dict.fromkeys(heads))]
        await self._from_agent(agent, room, "fetch", *_NO_TAGS, more=wanted)

    async def _from_agent(
        self, agent: AgentName, room: Path, *command: str, more: list[str] | None = None
    ) -> bytes:
        """Runs a git command that speaks to the agent's upload-pack over one socket, each byte counted."""
        ours, theirs = socket.socketpair()
        async with await UNIXSocketStream.from_socket(ours) as line:
            try:
                child = await self._reader.upload_pack(agent)
            except BaseException:
                theirs.close()
                raise
            async with aclosing(child):
                pump = Pump(child, line, self._limits.pack)
                try:
                    async with anyio.create_task_group() as group:
                        group.start_soon(pump.run)
                        failure, out = await self._try(room, command, theirs.detach(), more or [])
                        group.cancel_scope.cancel()
                finally:
                    await put_down(child)
        if pump.exceeded:
            raise LimitReached(f"the proposed repo has more than {self._limits.pack} bytes of objects")
        if failure is not None:
            raise _unreadable(failure, bytes(pump.said))
        return out

    async def _try(
        self, room: Path, command: tuple[str, ...], fd: int, more: list[str]
    ) -> tuple[HiveError | None, bytes]:
        """The failure as a value: a task group would wrap it up."""
        url = f"fd::{fd}"
        try:
            out = await self._git.run(
                room, *command, "--end-of-options", url, *more,
                protocol="fd", fds=[fd], seconds=self._limits.seconds, limit=self._limits.heads * 512,
            )  # fmt: skip
        except TooMuch:
            return LimitReached(f"the proposed repo has more than {self._limits.heads} branches"), b""
        except (GitFailed, TimedOut) as error:
            return error, b""
        return None, out

    async def _resolve(self, room: Path, wanted: str) -> str:
        """The full id, looked up among what was imported and nowhere else."""
        try:
            found = await self._git.run(
                room,
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                f"{wanted}^{{commit}}",
                limit=4096,
            )
        except GitFailed as failed:
            if "ambiguous" in failed.said:
                raise BadRequest(f"{wanted} names more than one commit", hint="give more digits") from failed
            raise NotFound(
                f"no branch of the proposed repo holds a commit {wanted}", hint="commit it to a branch first"
            ) from failed
        sha = found.decode("ascii").strip()
        holder = await self._git.run(room, "for-each-ref", "--count=1", f"--contains={sha}", _IMPORTED)
        if not holder:
            raise NotFound(f"no branch of the proposed repo holds {sha}", hint="commit it to a branch first")
        return sha

    async def _judge(self, room: Path, sha: str) -> None:
        try:
            listing, whole = await self._git.run(
                room, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", sha, limit=listing_limit(self._limits)
            ), True  # fmt: skip
        except TooMuch as cut:
            listing, whole = cut.start, False
        check_tree(listing, self._limits, whole=whole)

    async def _descend(self, room: Path, base: str, sha: str) -> None:
        try:
            await self._git.run(room, "merge-base", "--is-ancestor", base, sha)
        except GitFailed as failed:
            if failed.exit_code not in {1, 128}:  # 128: the base is not in its history at all
                raise
            raise StaleBase(
                f"{sha[:12]} does not descend from {base[:12]}, which is deployed",
                hint="rebase onto the applied repo's main and propose the new commit",
            ) from failed


class Pump:
    """Carries bytes between the agent's upload-pack and our fetch, until either ends or too many came."""

    def __init__(self, child: ChildProcess, line: UNIXSocketStream, limit: int) -> None:
        self._child = child
        self._line = line
        self._left = limit
        self.exceeded = False
        self.said = bytearray()
        """The last of what upload-pack wrote to stderr: hostile text."""

    async def run(self) -> None:
        """Returns when upload-pack has ended; cancelled when our side has."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._up)
            group.start_soon(self._listen, self._child.stderr)
            await self._down()

    async def _down(self) -> None:
        try:
            async for chunk in self._child.stdout:
                self._left -= len(chunk)
                if self._left < 0:
                    self.exceeded = True
                    await self._child.kill()
                    break
                await self._line.send(chunk)
            await self._line.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            return  # our side has ended: its own exit code counts

    async def _up(self) -> None:
        try:
            async for chunk in self._line:
                await self._child.stdin.send(chunk)
            await self._child.stdin.aclose()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # upload-pack has ended: its output counts

    async def _listen(self, stream: ByteReceiveStream) -> None:
        async for chunk in stream:
            self.said += chunk
            del self.said[:-2048]


def _unreadable(failure: HiveError, said: bytes) -> WorldError:
    """Damaged, forged, or no repo: what git found, and what the agent's own git said of it."""
    theirs = visible(said.decode(errors="replace").strip())
    found = failure.said if isinstance(failure, GitFailed) else failure.message
    return WorldError(
        f"the proposed repo cannot be read: {visible(found[:1000])}"
        + (f" ({theirs[-500:]})" if theirs else ""),
        hint="git fsck in the proposed repo shows what is wrong with it",
    )
