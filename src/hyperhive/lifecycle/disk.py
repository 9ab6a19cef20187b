"""`DiskGuard`: how much room is left, and who takes it. It warns, and keeps new agents and deploys off a full disk.

It deletes one thing alone: copies of the database that an upgrade made and that newer ones have followed. What agents
wrote, pushed or not, is never removed here, however much it is.
"""

import logging
import os
import shutil
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec

from hyperhive.clock import Clock
from hyperhive.errors import WorldError
from hyperhive.names import AgentName
from hyperhive.paths import Paths

log = logging.getLogger(__name__)

LOW_SHARE: Final = 0.05
LOW_BYTES: Final = 5 << 30
"""The disk is low when less than this share is left, or than so much where the disk is large."""

FIRST_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 3600.0
"""Agents come up before anything is counted; then it is counted so often."""

ENTRIES_MAX: Final = 500_000
DEPTH_MAX: Final = 100
"""Of one directory tree: what lies beyond is not counted, and that is said."""

COPY_SECONDS: Final = 30 * 86_400.0
"""So long a copy of the database is kept; the newest always is."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Usage(msgspec.Struct, frozen=True):
    """What a tree takes on disk; `whole`: all of it could be counted."""

    size: int
    whole: bool


class DiskGuard:
    """The disk of one hive.

    Args:
        agents: whose directories there are.
        limit_of: the bytes that an agent may take.
        space: the disk's size and what is left of it, in bytes; for tests.
    """

    def __init__(
        self,
        paths: Paths,
        clock: Clock,
        *,
        agents: Callable[[], Sequence[AgentName]],
        limit_of: Callable[[AgentName], int],
        space: Callable[[Path], tuple[int, int]] | None = None,
    ) -> None:
        self._paths = paths
        self._clock = clock
        self._agents = agents
        self._limit_of = limit_of
        self._space = space or _space
        self._low: str | None = None
        self._used: dict[AgentName, Usage] = {}

    async def run(self) -> None:
        """Looks at the disk at once and at what agents take a little later, then hourly, for ever."""
        await self._despite_errors(self._look_at_disk)
        await self._clock.sleep(FIRST_SECONDS)
        while True:
            await self._despite_errors(self.look)
            await self._clock.sleep(LOOK_SECONDS)

    async def _despite_errors(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except OSError as error:
            log.warning("disk_not_measured error=%s", error)

    async def look(self) -> None:
        """Measures everything anew, and removes old copies of the database."""
        await self._look_at_disk()
        names = list(self._agents())
        self._used = {name: await anyio.to_thread.run_sync(self._measure, name) for name in names}
        for copy in await anyio.to_thread.run_sync(prune_copies, self._paths.database, self._clock.time()):
            log.info("database_copy_removed path=%s", copy)

    async def check(self) -> None:
        """Raises: WorldError: too little is left to begin something new."""
        await self._look_at_disk()
        if self._low is not None:
            raise WorldError(
                self._low,
                hint="`hyperhive status` says who takes too much; nothing of an agent is removed by itself",
            )

    @property
    def low(self) -> str | None:
        """What is wrong with the disk, in words, as it was at the last look; None: there is room."""
        return self._low

    def cautions(self) -> list[str]:
        """What `status` says of the disk, as it was at the last look."""
        said = (
            [] if self._low is None else [f"{self._low}: no agent is made, nothing is proposed or approved"]
        )
        for name, used in self._used.items():
            if used.size > (limit := self._limit_of(name)):
                much = f"{'' if used.whole else 'at least '}{_in_words(used.size)}"
                said.append(f"{name} takes {much} of the disk, and its limit is {_in_words(limit)}")
        return said

    async def _look_at_disk(self) -> None:
        size, free = await anyio.to_thread.run_sync(self._space, self._paths.state_dir)
        low = free < min(size * LOW_SHARE, LOW_BYTES)
        self._low = f"the disk is low: {_in_words(free)} of {_in_words(size)} are left" if low else None

    def _measure(self, name: AgentName) -> Usage:
        paths = self._paths
        parts = [
            measure(one) for one in (paths.agent_dir(name), paths.proposed / name, paths.applied_repo(name))
        ]
        return Usage(sum(part.size for part in parts), all(part.whole for part in parts))


def measure(root: Path, most: int = ENTRIES_MAX) -> Usage:
    """What a tree takes. Blocks; follows no link, never leaves the file system of `root`, waits for nothing in it."""
    size = entries = 0
    whole = True
    linked: set[int] = set()
    with ExitStack() as last, suppress(FileNotFoundError, NotADirectoryError):
        levels = [_opened(str(root), None, most + 1)]
        device = os.fstat(levels[0][0]).st_dev
        last.callback(_close_all, levels)
        while levels:
            here, found = levels[-1]
            entry = next(found, None)
            if entry is None:
                os.close(levels.pop()[0])
                continue
            entries += 1
            if entries > most:
                return Usage(size, whole=False)
            try:
                info = entry.stat(follow_symlinks=False)
                if info.st_nlink == 1 or stat.S_ISDIR(info.st_mode) or info.st_ino not in linked:
                    size += info.st_blocks * 512
                if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                    linked.add(info.st_ino)
                if stat.S_ISDIR(info.st_mode) and info.st_dev == device:
                    if len(levels) >= DEPTH_MAX:
                        whole = False
                    else:
                        levels.append(_opened(entry.name, here, most + 1))
            except FileNotFoundError:  # it went meanwhile
                continue
            except OSError:  # its owner took the rights away, or swapped it
                whole = False
    return Usage(size, whole)


def _opened(name: str, here: int | None, most: int) -> tuple[int, Iterator["os.DirEntry[str]"]]:
    fd = os.open(name, _DIRECTORY, dir_fd=here)
    try:
        with os.scandir(fd) as found:
            return fd, iter(list(islice(found, most)))
    except OSError:
        os.close(fd)
        raise


def _close_all(levels: list[tuple[int, Iterator["os.DirEntry[str]"]]]) -> None:
    for fd, _ in levels:
        os.close(fd)


def prune_copies(database: Path, now: float) -> list[Path]:
    """Removes copies made before migrations that are older than `COPY_SECONDS`, but never the newest. Blocks.

    Returns:
        What was removed.
    """
    copies = []
    for path in database.parent.glob(f"{database.name}.before-migration-*"):
        made = path.name.rpartition("-")[2]
        if made.isdecimal() and path.is_file() and not path.is_symlink():
            copies.append((int(made), path))
    old = [path for made, path in sorted(copies)[:-1] if now - made > COPY_SECONDS]
    for path in old:
        path.unlink(missing_ok=True)
    return old


def _space(place: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(place)
    return usage.total, usage.free


def _in_words(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.0f} MiB"
