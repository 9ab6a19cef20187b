"""The small state files of one harness: the model set at run time, and the number of the last turn.

Both are one line, written atomically by a hop to a thread. A file that is missing, empty or unreadable counts as unset:
losing one costs a setting, never a message. The session file is the turn runner's.
"""

import logging
import secrets
from contextlib import suppress
from pathlib import Path

import anyio.to_thread

log = logging.getLogger(__name__)

MODEL_FILE = "hyperhive-model"
TURN_FILE = "hyperhive-turn"
_LINE_MAX = 512


class LineFile:
    """A file of one line. `path` is outside every box, or in the harness's own container."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def read(self) -> str | None:
        """The line without white space round it; None where there is none."""
        return await anyio.to_thread.run_sync(self._read)

    async def write(self, line: str) -> str | None:
        """Put `line` there atomically. Returns None, or why it failed, in one sentence (it is logged, too)."""
        try:
            await anyio.to_thread.run_sync(self._write, line)
        except OSError as error:
            log.warning("state_file_not_written path=%s error=%s", self.path, error.strerror)
            return f"{self.path.name} could not be written: {error.strerror}"
        return None

    def _read(self) -> str | None:
        try:
            with self.path.open("rb") as file:
                text = file.read(_LINE_MAX).decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            log.warning("state_file_not_read path=%s error=%s", self.path, type(error).__name__)
            return None
        lines = text.splitlines()
        return (lines[0].strip() or None) if lines else None

    def _write(self, line: str) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            temporary.touch(mode=0o600)
            temporary.write_text(f"{line}\n" if line else "")
            temporary.replace(self.path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


class TurnNumbers:
    """Numbers an agent's turns from 1, growing over restarts.

    `keep` runs beside the turn rather than before it, so that no turn waits for a disk: a crash in its first
    milliseconds may use a number twice. Where the file cannot be written, numbers go on growing in this process.
    """

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path)
        self._last: int | None = None

    async def next(self) -> int:
        """The number of the turn that starts now; `keep` it."""
        if self._last is None:
            line = await self._file.read()
            self._last = int(line) if line is not None and line.isdecimal() and len(line) < 16 else 0
        self._last += 1
        return self._last

    async def keep(self) -> None:
        """Write the last number down."""
        if self._last is not None:
            await self._file.write(str(self._last))
