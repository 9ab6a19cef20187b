"""A command on a terminal of its own: a real pty, and a screen (pyte) that shows what a person would see."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Self

import pyte

from console import PROGRAM, Console

PATIENCE_SECONDS = 30.0


class PtyScreen:
    """A context manager. `raw` is every byte that the command wrote; `screen` what they made of the terminal."""

    def __init__(self, console: Console, *words: str, columns: int = 80, rows: int = 24, **env: str) -> None:
        self._argv = ["/usr/bin/setsid", "--ctty", str(PROGRAM), *words]
        self._env = {"TERM": "xterm-256color", **console.environ(), **env}
        self._cwd = console.home
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""

    def __enter__(self) -> Self:
        self._ours, theirs = pty.openpty()
        self._size(self.screen.columns, self.screen.lines)
        self.modes_before = termios.tcgetattr(self._ours)
        self.process = subprocess.Popen(
            self._argv, env=self._env, cwd=self._cwd, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._ours)

    # --- what is seen -----------------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        """The screen as lines of text."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    def until(self, true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        """Reads until this holds."""
        deadline = time.monotonic() + seconds
        while not true():
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain; the screen:\n{self.text}"
            if not self._read(min(left, 0.5)) and self.process.poll() is not None:
                assert true(), f"it ended with {self.process.returncode}; the screen:\n{self.text}"

    def sees(self, *texts: str) -> None:
        """Reads until all of these are on the screen."""
        self.until(lambda: all(text in self.text for text in texts))

    def loses(self, text: str) -> None:
        """Reads until this is not on the screen any more."""
        self.until(lambda: text not in self.text)

    def line_with(self, text: str) -> str:
        """The first line with this in it."""
        return next(line for line in self.lines if text in line)

    # --- what is done -----------------------------------------------------------------------------------------------

    def type(self, keys: str) -> None:
        """Hits keys: characters, or the codes of keys."""
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """The window's size changes."""
        self.screen.resize(rows, columns)
        self._size(columns, rows)

    def signal(self, number: signal.Signals) -> None:
        """Sends the command a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, once it has ended by itself."""
        self.until(lambda: self.process.poll() is not None, seconds)
        while self._read(0.1):
            pass
        return int(self.process.returncode)

    def modes(self) -> list[object]:
        """The terminal's modes now."""
        return termios.tcgetattr(self._ours)

    def drain(self, seconds: float = 0.2) -> int:
        """Reads for so long; how many bytes came."""
        before, deadline = len(self.raw), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)
        return len(self.raw) - before

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            return False
        self.raw += chunk
        self._stream.feed(chunk)
        return bool(chunk)
