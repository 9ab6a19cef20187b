"""Lines of the hive's own log: the last ones, those of a time, those about one agent. Reads the files, writes nothing.

The log is JSON, a line an event (`logs` writes it), in a file and a few older ones.
"""

from collections import deque
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.protocol.requests import Logs

OLDER: Final = 4


class _Line(msgspec.Struct):
    timestamp: str = ""
    agent: str = ""


_DECODER: Final = msgspec.json.Decoder(_Line)


def own_log(path: Path, asked: Logs, about: str | None) -> list[str]:
    """The last lines that were asked for, oldest first; `about`: only those of this agent. Blocks.

    Without bounds only the newest file is read.
    """
    bounded = asked.since is not None or asked.until is not None or about is not None
    files = [path.with_name(f"{path.name}.{number}") for number in range(OLDER, 0, -1)] if bounded else []
    lines: deque[str] = deque(maxlen=asked.lines)
    for one in (*files, path):
        try:
            with one.open(encoding="utf-8", errors="replace") as file:
                lines.extend(
                    line.rstrip("\n") for line in file if not bounded or _is_asked_for(line, asked, about)
                )
        except FileNotFoundError:
            continue
    return list(lines)


def _is_asked_for(line: str, asked: Logs, about: str | None) -> bool:
    try:
        said = _DECODER.decode(line)
        at = datetime.fromisoformat(said.timestamp).timestamp()
    except (msgspec.MsgspecError, ValueError, UnicodeError, RecursionError):
        return False
    if about is not None and said.agent != about:
        return False
    return (asked.since is None or at >= asked.since) and (asked.until is None or at < asked.until + 1)
