"""The command `logs`: of one agent what it said and did, of the hive its own log file, with -f on from there.

A followed agent is waited for while the hive restarts, a followed file goes on through its rotation; neither loses or
doubles a line.
"""

import os
import re
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal

import msgspec
from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.spans import moment
from hyperhive.cli.watch import Follow
from hyperhive.errors import BadRequest, HiveUnreachable, NotFound
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveStatus, LogLines
from hyperhive.terminal import visible

Level = Literal["debug", "info", "warning", "error"]

_LEVELS: Final = {"debug": 0, "info": 1, "warning": 2, "warn": 2, "error": 3, "critical": 4}
_POLL_SECONDS = 0.3
"""How often a followed file is looked at; the standard library has no file notification."""
_ASKED_MAX: Final = 2000


def logs(
    name: str | None = None,
    /,
    *,
    follow: Follow = False,
    lines: Annotated[int, Parameter(name=["--lines", "--tail", "-n"])] = 200,
    since: str | None = None,
    until: str | None = None,
    grep: str | None = None,
    level: Level | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Print the log of one agent, or of the hive itself.

    Args:
        name: the agent; without one, the hive's own log file, also when the hive is down.
        follow: go on until Ctrl-C, also through restarts of the hive.
        lines: how many of the last lines.
        since: only what was said so long ago or later (90s, 10m, 2h, 1d, or unix seconds); of an agent then also what
            the hive's own log says of it.
        until: only what was said so long ago or earlier.
        grep: only lines with this text in them; !TEXT only those without it, /REGEX/ those that match.
        level: only what is at least so grave.
        common: flags of every command.
    """
    session = Session(common)
    if lines < 1:
        raise BadRequest("--lines takes a number above 0")
    picked = _picker(grep)
    span = moment(since, "--since"), moment(until, "--until")
    if name is not None and (follow or level is not None):
        from hyperhive.cli.tui.plain import plain_log

        return plain_log(
            session, name, follow=follow, lines=lines, span=span, picked=picked, level=_rank(level)
        )
    if name is None and (follow or not _reachable(session)):
        return _hive_log(
            session, _HiveLog(_log_file(session), lines, span, _rank(level), picked), follow=follow
        )
    narrowed = grep is not None or level is not None
    asked = r.Logs(
        name=name, lines=_ASKED_MAX if narrowed else min(lines, _ASKED_MAX), since=span[0], until=span[1]
    )
    answer = session.ask(asked)
    if common.as_json and not narrowed:
        return session.show(answer, lambda: None)
    found = [
        line for line in answer.read(LogLines).lines if _grave(line, _rank(level)) and picked(readable(line))
    ]
    for line in found[-lines:]:
        _print(session, line)
    return 0


# --- which lines ----------------------------------------------------------------------------------------------------


def _picker(grep: str | None) -> Callable[[str], bool]:
    """Whether a line is wanted. Raises BadRequest where the regular expression is none."""
    if not grep:
        return lambda _: True
    if len(grep) > 2 and grep.startswith("/") and grep.endswith("/"):
        try:
            pattern = re.compile(grep[1:-1])
        except re.error as error:
            raise BadRequest(f"--grep {grep[:80]}: {error}") from error
        return lambda line: pattern.search(line) is not None
    if grep.startswith("!") and len(grep) > 1:
        without = grep[1:].lower()
        return lambda line: without not in line.lower()
    text = grep.lower()
    return lambda line: text in line.lower()


def _rank(level: Level | None) -> int:
    return 0 if level is None else _LEVELS[level]


def _fields(line: str) -> dict[str, Any] | None:
    try:
        fields = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def _grave(line: str, level: int) -> bool:
    """Whether a line is grave enough; one that says no level counts as `info`."""
    if level == 0:
        return True
    fields = _fields(line) or {}
    return _LEVELS.get(str(fields.get("level", "info")), 1) >= level


def _within(line: str, span: tuple[int | None, int | None]) -> bool:
    """Whether it was said then; a line without a time (a traceback's) goes with no span."""
    since, until = span
    if since is None and until is None:
        return True
    try:
        at = datetime.fromisoformat(str((_fields(line) or {}).get("timestamp"))).timestamp()
    except ValueError:
        return False
    return (since is None or at >= since) and (until is None or at < until + 1)


# --- the hive's own log ---------------------------------------------------------------------------------------------


def _reachable(session: Session) -> bool:
    try:
        return session.link is not None
    except HiveUnreachable:
        return False


def _log_file(session: Session) -> Path:
    """The log of the running hive, else of the one whose state was named."""
    running = _reachable(session)
    state = Path(session.ask(r.Status()).read(HiveStatus).hive.state_dir) if running else session.state_dir()
    return state / "log" / "hive.log"


class _HiveLog:
    """The file, and which of its lines are wanted."""

    def __init__(
        self,
        path: Path,
        lines: int,
        span: tuple[int | None, int | None],
        level: int,
        picked: Callable[[str], bool],
    ) -> None:
        self.path = path
        self._lines = lines
        self._span = span
        self._level = level
        self._picked = picked

    def wants(self, line: str) -> bool:
        return _within(line, self._span) and _grave(line, self._level) and self._picked(readable(line))

    def tail(self, file: IO[str]) -> deque[str]:
        return deque((text for line in file if self.wants(text := line.rstrip("\n"))), maxlen=self._lines)


def _hive_log(session: Session, log: _HiveLog, *, follow: bool) -> int:
    try:
        file = log.path.open(encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise NotFound(
            f"there is no log {log.path}: {error.strerror}", hint="name the hive's state with --state-dir"
        ) from error
    with file:
        for line in log.tail(file):
            _print(session, line)
        session.screen.flush()
        for line in _appended(file, log.path) if follow else ():
            if log.wants(line):
                _print(session, line)
                session.screen.flush()
    return 0


def _appended(file: IO[str], path: Path) -> Generator[str, None, None]:
    """Lines as they are written; goes on with the new file when the log is rotated. Nothing tells of either."""
    rest = ""
    with ExitStack() as newer:
        while True:
            rest += file.read()
            *whole, rest = rest.split("\n")
            yield from whole
            if whole:
                continue
            if _rotated(file, path):
                # What came between the look and the rotation is in the old file still.
                yield from filter(None, (rest + file.read()).split("\n"))
                newer.close()
                file = newer.enter_context(path.open(encoding="utf-8", errors="backslashreplace"))
                rest = ""
                continue
            time.sleep(_POLL_SECONDS)


def _rotated(file: IO[str], path: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _print(session: Session, line: str) -> None:
    if session.common.as_json:
        session.screen.json(line if line.startswith("{") else msgspec.json.encode({"line": line}))
    else:
        session.screen.line(visible(readable(line)))


def readable(line: str) -> str:
    """A JSON log line as `time level event key=value`; any other line as it is."""
    fields = _fields(line)
    if fields is None:
        return line
    head = [str(fields.pop(key, "")) for key in ("timestamp", "level", "event")]
    text = f"{head[0]}  {head[1]:<8} {head[2]}"
    for key, value in fields.items():
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        text += f" {key}={shown}"
    return text
