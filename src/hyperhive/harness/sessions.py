"""Which session an agent's CLI continues: the hive owns the id, and asks the disk each time whether it exists.

`hyperhive-session` holds the id on its first line and, for CLIs that report only running totals, the session's cost so
far on its second. `--resume` of a session that was never stored fails for ever, and `--session-id` of one that exists
fails as well: so the choice is made by the transcript, before every start.
"""

import logging
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import anyio.to_thread

log = logging.getLogger(__name__)

SESSION_FILE = "hyperhive-session"
PROJECTS_MAX = 1000
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SessionFile:
    """One agent's session id. `path` is the harness's own and in no box; `new_uuid` gives fresh ids.

    A file that cannot be read starts a new session; one that cannot be written is logged, and the id still holds.
    """

    def __init__(self, path: Path, new_uuid: Callable[[], str]) -> None:
        self.path = path
        self._new_uuid = new_uuid
        self._id: str | None = None
        self.total_cost: float | None = None

    async def current(self) -> str:
        """The session's id; a new one is made and kept where there is none."""
        if self._id is None:
            await anyio.to_thread.run_sync(self._read)
        if self._id is None:
            return await self.renew()
        return self._id

    async def renew(self) -> str:
        """Start a new session: the id from now on."""
        self._id = self._new_uuid()
        self.total_cost = 0.0
        await anyio.to_thread.run_sync(self._write, self._id, 0.0)
        return self._id

    async def keep_total(self, total: float) -> None:
        """Note the session's running cost."""
        self.total_cost = total
        if self._id is not None:
            await anyio.to_thread.run_sync(self._write, self._id, total)

    def _read(self) -> None:
        try:
            lines = self.path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeError):
            return
        if not lines or _UUID.fullmatch(lines[0].strip()) is None:
            return
        self._id = lines[0].strip()
        with suppress(IndexError, ValueError):
            self.total_cost = float(lines[1])

    def _write(self, session_id: str, total: float) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            temporary.touch(mode=0o600)
            temporary.write_text(f"{session_id}\n{total}\n" if total else f"{session_id}\n")
            temporary.replace(self.path)
        except OSError as error:
            log.warning("session_file_not_written path=%s error=%s", self.path, error.strerror)


def transcript_exists(config_dir: Path, session_id: str) -> bool:
    """Whether the CLI has stored this session below `config_dir` (blocking).

    The directory is the agent's to write: links are not followed, only names are looked at, and what it plants there
    decides at most which of two flags its own CLI gets.
    """
    name = f"{session_id}.jsonl"
    try:
        fd = os.open(config_dir / "projects", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with os.scandir(fd) as projects:
            found = [one.name for one in islice(projects, PROJECTS_MAX) if one.is_dir(follow_symlinks=False)]
        return any(_is_stored(fd, f"{project}/{name}") for project in found)
    except OSError:
        return False
    finally:
        os.close(fd)


def _is_stored(directory: int, path: str) -> bool:
    with suppress(OSError):
        return os.stat(path, dir_fd=directory, follow_symlinks=False).st_size > 0
    return False
