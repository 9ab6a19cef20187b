"""What every command has: the flags that all share, the way to the hive, and one writer for the terminal.

Everything that an agent may have written passes `terminal` here on its way out. Commands decide what to say; nothing
here knows any of them.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Final

import msgspec
from cyclopts import Parameter

from hyperhive.cli.link import Answer, Link, run_dirs
from hyperhive.errors import HiveUnreachable
from hyperhive.protocol.replies import HiveStatus
from hyperhive.protocol.requests import Request, Status
from hyperhive.terminal import visible, visible_json, visible_lines


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Flags of every command."""

    as_json: Annotated[bool, Parameter(name="--json", negative="", show_default=False)] = False
    """Print one JSON document, as on the wire (streams: one a line)."""
    state_dir: Annotated[Path | None, Parameter(name="--state-dir")] = None
    """The hive's state directory (else HYPERHIVE_STATE_DIR)."""
    run_dir: Annotated[Path | None, Parameter(name="--run-dir")] = None
    """The directory of the hive's sockets (else HYPERHIVE_RUN_DIR)."""


DEFAULTS: Final = Common()

_COLOURS: Final = {
    "dim": "2",
    "bold": "1",
    "red": "31",
    "green": "32",
    "amber": "33",
    "blue": "34",
    "cyan": "36",
}


class Screen:
    """One writer: standard output for what was asked for, standard error for what is said about it."""

    def __init__(self, out: IO[str], err: IO[str], environ: Mapping[str, str]) -> None:
        self._out = out
        self._err = err
        plain = "NO_COLOR" in environ or environ.get("TERM") == "dumb"
        self.colour = out.isatty() and not plain
        self.err_colour = err.isatty() and not plain
        self.tty = out.isatty()
        self.columns, self.rows = _size(out, environ)

    def line(self, text: str = "") -> None:
        """One line of our own words; what others wrote must have gone through `visible` or `Table`."""
        self._out.write(text + "\n")

    def raw(self, codes: str) -> None:
        """Our own control codes, as they are."""
        self._out.write(codes)

    def lines(self, lines: Iterable[str]) -> None:
        """Several of them."""
        for line in lines:
            self.line(line)

    def body(self, text: str, indent: str = "  ") -> None:
        """Somebody's text, every line of it made visible and indented."""
        for line in visible_lines(text):
            self.line(f"{indent}{line}".rstrip())

    def json(self, document: bytes | str) -> None:
        """One JSON document on one line."""
        text = document.decode() if isinstance(document, bytes) else document
        self._out.write(visible_json(text) + "\n")

    def note(self, text: str) -> None:
        """A remark on standard error."""
        self._err.write(visible(text) + "\n")
        self._err.flush()

    def error(self, text: str, hint: str | None = None) -> None:
        """What went wrong, and how to mend it, on standard error."""
        first, *rest = visible_lines(text)
        red, reset = ("\x1b[31m", "\x1b[0m") if self.err_colour else ("", "")
        self._err.write(f"{red}error:{reset} {first}\n")
        self._err.writelines(f"       {line}\n" for line in rest)
        if hint:
            self._err.write(f"hint:  {visible(hint)}\n")
        self._err.flush()

    def paint(self, text: str, colour: str) -> str:
        """`text` in a colour, where the terminal has some. Pad before painting."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colour else text

    def flush(self) -> None:
        """Everything written is on its way."""
        self._out.flush()


class Session:
    """One command's run: its flags, its environment, its screen and its line to the hive."""

    def __init__(self, common: Common, environ: Mapping[str, str] | None = None) -> None:
        self.common = common
        self.environ = os.environ if environ is None else environ
        self.screen = Screen(sys.stdout, sys.stderr, self.environ)
        self._link: Link | None = None

    @property
    def link(self) -> Link:
        """The line to the hive, opened when it is first needed.

        Raises:
            HiveUnreachable: there is none on any of the sockets tried.
        """
        if self._link is None:
            self._link = self.dial()
        return self._link

    def dial(self) -> Link:
        """One more line to the same hive (a stream takes a whole one).

        Raises:
            HiveUnreachable: there is none, or those that answer keep their state elsewhere than was named.
        """
        places = run_dirs(self.common.run_dir, self.environ, self.state_dir())
        if not self._names_state():
            return Link(places)
        others: list[str] = []
        while True:
            try:
                link = Link(places)
            except HiveUnreachable as error:
                if not others:
                    raise
                raise HiveUnreachable(
                    f"no hive with its state in {self.state_dir()} is running: {'; '.join(others)}",
                    hint="name the place of its sockets with --run-dir, or start it with `hyperhive up`",
                ) from error
            kept = link.ask(Status()).read(HiveStatus).hive.state_dir
            if os.path.realpath(kept) == os.path.realpath(self.state_dir()):
                return link
            link.close()
            others.append(f"the one at {link.run_dir} keeps its state in {kept}")
            places = places[places.index(link.run_dir) + 1 :]

    def _names_state(self) -> bool:
        """Whether the user said which state, and nothing that says more exactly where the hive is."""
        if self.common.state_dir is not None:
            return True
        sockets_named = self.common.run_dir is not None or "HYPERHIVE_RUN_DIR" in self.environ
        return "HYPERHIVE_STATE_DIR" in self.environ and not sockets_named

    def state_dir(self) -> Path:
        """The state directory that flag, variable or default names."""
        if self.common.state_dir is not None:
            return self.common.state_dir.absolute()
        if named := self.environ.get("HYPERHIVE_STATE_DIR"):
            return Path(named).absolute()
        base = self.environ.get("XDG_STATE_HOME")
        home = Path(self.environ.get("HOME") or Path.home())
        return (Path(base) if base else home / ".local" / "state") / "hyperhive"

    def ask(self, request: Request, *, timeout: float | None = 30.0) -> Answer:
        """One request to the hive; its error replies are raised."""
        return self.link.ask(request, timeout=timeout)

    def show(self, answer: Answer, render: Callable[[], None]) -> int:
        """The answer as JSON where that was asked for, else as `render` prints it. Returns exit code 0."""
        if self.common.as_json:
            self.screen.json(answer.raw)
        else:
            render()
        return 0

    def say(self, facts: Mapping[str, object], text: str) -> int:
        """A result that no reply of the hive has: an object for programs, a sentence for people."""
        if self.common.as_json:
            self.screen.json(msgspec.json.encode({"ok": True, **facts}))
        else:
            self.screen.line(text)
        return 0


def _size(out: IO[str], environ: Mapping[str, str]) -> tuple[int, int]:
    try:
        columns, rows = os.get_terminal_size(out.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    if environ.get("COLUMNS", "").isdecimal():
        columns = int(environ["COLUMNS"])
    return columns or 80, rows or 24
