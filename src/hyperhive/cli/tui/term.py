"""The operator's terminal while a screen is on it: its modes, its size, and the one place that writes to it.

A screen gives whole pictures; only lines that changed are written, in one write, so nothing flickers and a slow line
carries little. However the command ends, the terminal is given back as it was found. Text loses its power to steer the
terminal here, at the last step: colours are ours alone.
"""

import contextlib
import os
import signal
import termios
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import Final, Self

from hyperhive.terminal import cut, visible, width

Span = tuple[str, str]
"""A style's name (or none, "") and a text, already `visible`."""
Line = list[Span]

_STYLES: Final = {
    "dim": "2", "bold": "1", "red": "31", "green": "32", "amber": "33", "blue": "34", "cyan": "36", "chosen": "7",
    "magenta": "35",
}  # fmt: skip

# Another screen buffer, no cursor, no wrapping at the edge, pastes marked; the window's title is put aside.
_ENTER: Final = "\x1b[22;2t\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h"
_LEAVE: Final = "\x1b[0m\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[?1049l\x1b[23;2t"
_BEGIN_PICTURE: Final = "\x1b[?2026h"
_END_PICTURE: Final = "\x1b[?2026l"


def can_draw(environ: Mapping[str, str]) -> bool:
    """Whether standard input and output are a terminal that can place a cursor."""
    return os.isatty(0) and os.isatty(1) and environ.get("TERM", "dumb") not in {"", "dumb"}


def has_colour(environ: Mapping[str, str]) -> bool:
    """Whether colours are wanted there."""
    return not environ.get("NO_COLOR")


class Term:
    """A context manager: inside, the terminal shows pictures and gives every key at once."""

    def __init__(self, environ: Mapping[str, str], *, read: int = 0, write: int = 1) -> None:
        self.read_fd = read
        self._write_fd = write
        self._colour = has_colour(environ)
        self._found: list[int | list[bytes | int]] | None = None
        self._picture: list[str] = []
        self._cursor: tuple[int, int] | None = None
        self._title = ""
        self._handlers: dict[int, object] = {}
        self.columns, self.rows = 80, 24
        self.resize()

    def __enter__(self) -> Self:
        self._found = termios.tcgetattr(self.read_fd)
        self._take()
        for number, handler in (
            (signal.SIGTSTP, self._suspend), (signal.SIGTERM, _end), (signal.SIGHUP, _end),
        ):  # fmt: skip
            self._handlers[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._give_back()

    def resize(self) -> None:
        """Looks how large the terminal is now; the next picture is drawn anew."""
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(self._write_fd)
            self.columns, self.rows = columns or 80, rows or 24
        self._picture = []

    def draw(self, lines: Sequence[Line], cursor: tuple[int, int] | None, title: str) -> None:
        """Shows a picture; lines below it are empty.

        Args:
            lines: at most as many as the terminal has; each is cut at its width.
            cursor: row and column (from 0) of the cursor where one types; None hides it.
            title: the window's.
        """
        codes = [self._line(line) for line in lines[: self.rows]]
        codes += [""] * (self.rows - len(codes))
        out = [] if self._picture else ["\x1b[0m\x1b[2J"]
        for number, code in enumerate(codes):
            if not self._picture or self._picture[number] != code:
                out.append(f"\x1b[{number + 1};1H{code}\x1b[K")
        if title != self._title:
            self._title = title
            out.append(f"\x1b]2;{visible(title)}\x07")
        if out or cursor != self._cursor:
            place = f"\x1b[{cursor[0] + 1};{cursor[1] + 1}H\x1b[?25h" if cursor else "\x1b[?25l"
            self._send(_BEGIN_PICTURE + "\x1b[?25l" + "".join(out) + place + _END_PICTURE)
        self._picture, self._cursor = codes, cursor

    def _line(self, line: Line) -> str:
        parts, room = [], self.columns
        for style, text in line:
            safe = text if text.isprintable() else visible(text)
            shown = cut(safe, room)
            room -= width(shown)
            code = _STYLES.get(style) if self._colour else None
            parts.append(f"\x1b[{code}m{shown}\x1b[0m" if code and shown else shown)
            if room <= 0:
                break
        return "".join(parts)

    def _take(self) -> None:
        assert self._found is not None  # noqa: S101 (set on entry)
        modes = [list(each) if isinstance(each, list) else each for each in self._found]
        modes[0] &= ~(termios.ICRNL | termios.IXON)  # type: ignore[operator]
        modes[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)  # type: ignore[operator]
        termios.tcsetattr(self.read_fd, termios.TCSADRAIN, modes)
        self._picture, self._title = [], ""
        self._send(_ENTER)

    def _give_back(self) -> None:
        with contextlib.suppress(OSError):  # the terminal itself may be gone
            self._send(_LEAVE)
        with contextlib.suppress(termios.error):
            if self._found is not None:
                termios.tcsetattr(self.read_fd, termios.TCSAFLUSH, self._found)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal as it was; `fg` goes on here."""
        del number, frame
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self.resize()

    def _send(self, codes: str) -> None:
        data = codes.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._write_fd, data) :]


def _end(number: int, frame: FrameType | None) -> None:
    """Told to end: by an exception, so that the terminal is given back on the way."""
    del frame
    raise SystemExit(128 + number)
