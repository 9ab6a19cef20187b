"""The loop of a screen: waits for keys, frames, replies and the clock; draws at most every few hundredths of a second.

Screens lie on each other: the top one gets the keys and is drawn, those below stay up to date.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from hyperhive.cli.tui.keys import Keys
from hyperhive.cli.tui.term import Line, Term

_FRAME_SECONDS: Final = 0.05
"""The least time between two pictures: a burst of frames is one picture."""
_TICK_SECONDS: Final = 1.0
_ESCAPE_SECONDS: Final = 0.05
"""How long an escape waits for the rest of a key's sequence."""
Picture = tuple[list[Line], tuple[int, int] | None]


class Screen(Protocol):
    """What the loop shows. `dirty`: it looks otherwise than when it was drawn last; `done`: it goes away."""

    dirty: bool
    done: bool

    def picture(self, columns: int, rows: int) -> Picture:
        """The lines, and the cursor's place."""
        ...

    def title(self) -> str:
        """The window's."""
        ...

    def key(self, key: str) -> "Screen | None":
        """A key was hit; returns a screen to lay on this one."""
        ...

    def files(self) -> Mapping[int, Callable[[], None]]:
        """What to wait for, and what to call then."""
        ...

    def tick(self, now: float) -> None:
        """At least every second."""
        ...

    def close(self) -> None:
        """It is not shown any more."""
        ...


def run(term: Term, first: Screen) -> None:
    """Shows `first` and what it lays over itself, until it is done. Ctrl-C raises KeyboardInterrupt."""
    keys, screens = Keys(), [first]
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    was = signal.signal(signal.SIGWINCH, lambda *_: None)
    try:
        _Loop(term, keys, screens, wake_read).run()
    finally:
        signal.signal(signal.SIGWINCH, was)
        signal.set_wakeup_fd(before)
        os.close(wake_read)
        os.close(wake_write)
        for screen in screens:
            screen.close()


class _Loop:
    def __init__(self, term: Term, keys: Keys, screens: list[Screen], wake: int) -> None:
        self._term = term
        self._keys = keys
        self._screens = screens
        self._wake = wake
        self._drawn_at = 0.0

    def run(self) -> None:
        ticked = 0.0
        while self._screens:
            now = time.monotonic()
            if now - ticked >= _TICK_SECONDS or any(not screen.files() for screen in self._screens):
                ticked = now
                for screen in self._screens:
                    screen.tick(now)
            self._draw(now)
            self._wait(ticked + _TICK_SECONDS)
            while self._screens and self._screens[-1].done:
                self._screens.pop().close()
                if self._screens:
                    self._screens[-1].dirty = True

    def _draw(self, now: float) -> None:
        top = self._screens[-1]
        if not top.dirty or now - self._drawn_at < _FRAME_SECONDS:
            return
        top.dirty = False
        self._drawn_at = now
        lines, cursor = top.picture(self._term.columns, self._term.rows)
        self._term.draw(lines, cursor, top.title())

    def _wait(self, until: float) -> None:
        """Until something can be read or it is time; then does what it says."""
        calls: dict[int, Callable[[], None]] = {self._term.read_fd: self._read_keys, self._wake: self._woken}
        for screen in self._screens:
            calls |= screen.files()
        poll = select.poll()
        for file in calls:
            poll.register(file, select.POLLIN)
        now = time.monotonic()
        if any(not screen.files() for screen in self._screens):
            until = min(until, now + 0.2)  # a line is lost: it is looked for
        if self._screens[-1].dirty:
            until = min(until, max(now, self._drawn_at + _FRAME_SECONDS))
        if self._keys.waiting:
            until = min(until, now + _ESCAPE_SECONDS)
        ready = poll.poll(max(0.0, until - now) * 1000)
        for file, _ in ready:
            calls[file]()
        if not ready and self._keys.waiting:
            self._hit(self._keys.settle())

    def _read_keys(self) -> None:
        try:
            data = os.read(self._term.read_fd, 65536)
        except OSError:
            data = b""
        if not data:  # the terminal is gone, and nobody to tell
            raise SystemExit(128 + signal.SIGHUP)
        self._hit(self._keys.feed(data))

    def _hit(self, keys: list[str]) -> None:
        for key in keys:
            top = self._screens[-1]
            over = top.key(key)
            top.dirty = True
            if over is not None:
                over.dirty = True
                self._screens.append(over)
            if top.done:
                return  # what else was typed was not meant for what lies below

    def _woken(self) -> None:
        os.read(self._wake, 4096)
        self._term.resize()
        self._screens[-1].dirty = True
