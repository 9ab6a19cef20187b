"""`AgentFiles`: files in agents' directories, by the paths that the agents see; what the broker's ports need of them.

Translates a path of an agent into a root of the host and a way below it, and goes that way through `safe_open` alone:
what was opened is what is read. The roots are the agent's state and what the operator mounted, each judged again every
time. Who may read is not asked here; no host path leaves this file, but under the runtime `process`, where agents
themselves see them.
"""

import logging
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from hyperhive.errors import BadRequest, HiveError, NotFound
from hyperhive.lifecycle.mounts import ResolvedMount
from hyperhive.names import OPERATOR, AgentName
from hyperhive.paths import BOX_WORKSPACE, Paths
from hyperhive.protocol.types import FileRef
from hyperhive.safe_open import open_beneath, parts_beneath, read_all, write_beneath

log = logging.getLogger(__name__)

FIND_SECONDS: Final = 2.0
"""How long a send waits for its files to be looked up; a disk that hangs longer costs it its references."""
_LOOKERS: Final = 4
_SNIFFED_BYTES: Final = 4096
_IMAGES: Final = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})

Judge = Callable[[], Sequence[ResolvedMount]]
"""An agent's mounts, judged now. Blocks. Raises HiveError where one must not be shown."""


class FileContent(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a file. `ref.size` is the whole file's."""

    ref: FileRef
    data: bytes


class AgentFiles:
    """See the file's header.

    Args:
        paths: the hive's layout.
        isolated: whether agents see their state as `/state` and mounts under `/workspace`, rather than host paths.
        mounts: how to judge an agent's mounts; called on the loop, what it gives in a thread.
    """

    def __init__(
        self, paths: Paths, *, isolated: bool, mounts: Callable[[AgentName], Judge] | None = None
    ) -> None:
        self._paths = paths
        self._isolated = isolated
        self._mounts = mounts
        self._lookers = anyio.CapacityLimiter(_LOOKERS)

    # --- looking ----------------------------------------------------------------------------------------------------

    async def find(self, sender: str, recipient: str, paths: Sequence[str], most: int) -> list[FileRef]:
        """Those of `paths` that are regular files in the sender's directories; the operator's: in the recipient's."""
        agent = recipient if sender == OPERATOR else sender
        if agent == OPERATOR:
            return []
        judge = self._judge(AgentName(agent))
        with anyio.move_on_after(FIND_SECONDS):
            return await anyio.to_thread.run_sync(
                lambda: self._find(AgentName(agent), judge, paths, most),
                limiter=self._lookers,
                abandon_on_cancel=True,
            )
        log.warning("files_not_looked_up agent=%s paths=%s", agent, len(paths))
        return []

    def _find(self, agent: AgentName, judge: Judge, paths: Sequence[str], most: int) -> list[FileRef]:
        found: dict[str, FileRef] = {}
        roots = _Roots(
            self._seen_state(agent), self._paths.agent_state(agent), judge, isolated=self._isolated
        )
        for path in paths:
            try:
                with roots.opened(path) as (fd, seen):
                    found[seen] = _ref(fd, seen)
            except (HiveError, OSError):
                continue
            if len(found) >= most:
                break
        return list(found.values())

    async def read(self, agent: AgentName, path: str, limit: int) -> FileContent:
        """The first `limit` bytes of a file of this agent, by the path that it sees.

        Raises:
            BadRequest: the path leads elsewhere, over a link, or to no regular file. NotFound: there is none.
            WorldError: it cannot be read. BadConfig: the mount that it is in must not be shown.
        """
        judge = self._judge(agent)
        return await anyio.to_thread.run_sync(
            lambda: self._read(agent, judge, path, limit), limiter=self._lookers
        )

    def _read(self, agent: AgentName, judge: Judge, path: str, limit: int) -> FileContent:
        if not self._paths.agent_state(agent).is_dir():
            raise NotFound(f"there is no agent named {agent}", hint="`hyperhive list` shows who there is")
        roots = _Roots(
            self._seen_state(agent), self._paths.agent_state(agent), judge, isolated=self._isolated
        )
        with roots.opened(path) as (fd, seen):
            return FileContent(ref=_ref(fd, seen), data=read_all(fd, path, limit))

    def _judge(self, agent: AgentName) -> Judge:
        if self._mounts is None:
            return list
        try:
            return self._mounts(agent)
        except NotFound:  # a tombstone: its state is there, and nothing is mounted
            return list

    # --- writing ----------------------------------------------------------------------------------------------------

    def check(self, owner: str, path: str) -> None:
        """Raises BadRequest where `path` can be no file in this agent's state. Looks at nothing on disk."""
        self._below_state(owner, path)

    async def write(self, owner: str, path: str, text: str, tag: str) -> str:
        """Makes `path` in the agent's state a file of this text, and gives the path as the agent sees it.

        `path` is relative to the state, or absolute as the agent sees it. See `safe_open.write_beneath`.

        Raises:
            BadRequest: it leads elsewhere. WorldError: it cannot be written.
        """
        below = self._below_state(owner, path)
        root = self._paths.agent_state(AgentName(owner))
        await anyio.to_thread.run_sync(lambda: write_beneath(root, below, text.encode(), tag=tag))
        return posixpath.join(self._seen_state(owner), below)

    def _below_state(self, owner: str, path: str) -> str:
        """The way below the agent's state."""
        state = self._seen_state(owner)
        below = path
        if path.startswith("/"):
            if not path.startswith(f"{state}/"):
                raise BadRequest(f"{path[:200]!r} is not in the agent's state", hint=f"a path below {state}")
            below = path[len(state) + 1 :].lstrip("/")
        return _plain(below)

    def _seen_state(self, owner: str) -> str:
        return self._paths.box(AgentName(owner), isolated=self._isolated).state


class _Roots:
    """Where an agent's paths lead. Blocks; one for each look, so that mounts are judged once for it, if at all."""

    def __init__(self, seen_state: str, state: Path, judge: Judge, *, isolated: bool) -> None:
        self._state = (seen_state, state)
        self._judge = judge
        self._isolated = isolated
        self._judged: list[tuple[str, Path]] | None = None

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the file, and its path as the agent sees it."""
        root, below, seen = self._locate(path)
        fd = open_beneath(root, below)
        try:
            yield fd, seen
        finally:
            os.close(fd)

    def _locate(self, path: str) -> tuple[Path, str, str]:
        seen_state = self._state[0]
        if path.startswith("~/"):  # HOME is the state
            path = path[2:].lstrip("/")
        if not path.startswith("/"):
            path = f"{seen_state}/{path}"
        for seen, host in (self._state, *self._mounts_for(path)):
            if path.rstrip("/") == seen:
                raise BadRequest(f"{path[:200]!r} names a directory", hint="name a file in it")
            if path.startswith(f"{seen}/"):
                below = _plain(path[len(seen) + 1 :].lstrip("/"))
                return host, below, f"{seen}/{below}"
        raise BadRequest(
            f"{path[:200]!r} is in none of the agent's directories", hint=f"{seen_state}, or what is mounted"
        )

    def _mounts_for(self, path: str) -> list[tuple[str, Path]]:
        if path.startswith(f"{self._state[0]}/"):
            return []
        if self._isolated and not path.startswith(f"{BOX_WORKSPACE}/"):
            return []
        if self._judged is None:
            self._judged = [
                (mount.target if self._isolated else str(mount.source), mount.source)
                for mount in self._judge()
            ]
        return self._judged


def _plain(below: str) -> str:
    """The same way without detours.

    Raises:
        BadRequest: it is no way downwards to a file, or has control characters.
    """
    if any(ord(char) < 32 or ord(char) == 127 for char in below):
        raise BadRequest("a path with control characters is not taken")
    if below.endswith("/"):
        raise BadRequest(f"{below[:200]!r} names a directory", hint="name a file in it")
    return "/".join(parts_beneath(below))


def _ref(fd: int, seen: str) -> FileRef:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):  # `open_beneath` has looked already
        raise BadRequest(f"{seen!r} is no regular file")
    return FileRef(path=seen, size=info.st_size, kind=_kind(fd, seen))


def _kind(fd: int, seen: str) -> str:
    """`image` by its name, `text` or `binary` by its beginning."""
    if posixpath.splitext(seen)[1].lower() in _IMAGES:
        return "image"
    head = os.pread(fd, _SNIFFED_BYTES, 0)
    return "binary" if b"\0" in head or not _is_text(head) else "text"


def _is_text(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and len(head) == _SNIFFED_BYTES  # the last character may be cut
    return True
