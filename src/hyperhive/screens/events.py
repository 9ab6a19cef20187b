"""What agents said and called, as texts: read from the event logs of their harnesses, for the index.

A log is read only where its file has changed since the last look. Where a harness runs in a container its log lies in
the same place, in a directory that its agent cannot enter; but it is that harness's, so nothing but a plain file is
opened there.
"""

import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from hyperhive.screens.index import EVENT, Doc

TEXT_MAX: Final = 8192
"""Characters of one event's text: what a tool gave can be a whole file."""
DEPTH_MAX: Final = 8
MARK: Final = "events:"
_AFTER: Final = (
    "SELECT id, ts, CAST(payload_json AS BLOB) FROM events WHERE id > ?"
    " AND kind IN ('stream', 'note', 'turn_end') ORDER BY id LIMIT ?"
)
_ONE: Final = "SELECT CAST(payload_json AS BLOB) FROM events WHERE id = ?"
_NEWEST: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"
"""Also where all of a log is older than is kept: an empty one is no other one."""


class _Fields(msgspec.Struct):
    type: str = ""
    text: str = ""
    note: str | None = None
    turn: int | None = None
    message: dict[str, Any] | None = None
    result: Any = None


_DECODER: Final = msgspec.json.Decoder(_Fields)


class AgentEvents:
    """Implements `indexer.EventSource` on the files of a hive. For a thread.

    Args:
        names: the agents.
        log_of: where an agent's event log is.
    """

    def __init__(self, names: Callable[[], Sequence[str]], log_of: Callable[[str], Path]) -> None:
        self._names = names
        self._log_of = log_of
        self._looked: dict[str, tuple[int, ...]] = {}
        self._replaced: set[str] = set()

    def __call__(self, marks: dict[str, int], rows: int) -> tuple[list[Doc], dict[str, int]]:
        """See `EventSource`."""
        docs: list[Doc] = []
        read: dict[str, int] = {}
        for name in self._names():
            if len(docs) >= rows:
                break
            stamp = _stamp(self._log_of(name))
            if stamp is None or self._looked.get(name) == stamp:
                continue
            after = marks.get(MARK + name, 0)
            try:
                found, through = _read(self._log_of(name), name, after, rows)
            except sqlite3.Error:  # locked or damaged: its harness says so, and the next look may be luckier
                continue
            if through < after:  # another log than the one that was read
                self._replaced.add(name)
                continue
            docs += found
            if through != after:
                read[MARK + name] = through
            if len(found) < rows:
                self._looked[name] = stamp
        return docs, read

    def lost(self, marks: dict[str, int]) -> bool:
        """See `EventSource`."""
        read = [mark.removeprefix(MARK) for mark in marks if mark.startswith(MARK)]
        found = any(name in self._replaced or not self._log_of(name).exists() for name in read)
        if found:  # whoever asks begins anew
            self._replaced.clear()
            self._looked.clear()
        return found

    def text(self, agent: str, eid: int) -> str | None:
        """An event's text again; None where it is gone."""
        if _stamp(self._log_of(agent)) is None:
            return None
        try:
            with closing(_connect(self._log_of(agent))) as conn:
                row = conn.execute(_ONE, (eid,)).fetchone()
        except sqlite3.Error:
            return None
        found = None if row is None or row[0] is None else _decoded(row[0])
        return None if found is None else " ".join(_texts(found))[:TEXT_MAX]


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Changes with every write to a log; None where there is none, or what is there is no plain file."""
    stamp: list[int] = []
    for one in (path, path.with_name(path.name + "-wal")):
        try:
            info = one.lstat()
        except OSError:
            stamp.append(0)
        else:
            if not stat.S_ISREG(info.st_mode):
                return None
            stamp += (info.st_mtime_ns, info.st_size)
    return tuple(stamp) if stamp[0] else None


def _connect(path: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1)
    conn.execute("PRAGMA query_only=1").fetchall()
    return conn


def _read(path: Path, agent: str, after: int, rows: int) -> tuple[list[Doc], int]:
    """Texts after this row, and how far that is: less far than `after` where the log does not go that far."""
    with closing(_connect(path)) as conn:
        (newest,) = conn.execute(_NEWEST).fetchone()
        if newest < after:
            return [], newest
        docs: list[Doc] = []
        through = after
        for eid, ts, payload in conn.execute(_AFTER, (after, rows)):
            through = eid
            fields = None if payload is None else _decoded(payload)
            text = "" if fields is None else " ".join(_texts(fields))[:TEXT_MAX]
            if fields is not None and text.strip():
                at = ts if isinstance(ts, int) else 0
                docs.append(
                    Doc(kind=EVENT, ref=eid, at=at, sender=agent, recipient="", text=text, turn=fields.turn)
                )
        return docs, through


def _decoded(payload: bytes) -> _Fields | None:
    try:
        return _DECODER.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def _texts(fields: _Fields) -> Iterator[str]:
    """What an event says: an agent's words, the tools that it calls with what, and what these gave."""
    if fields.text:
        yield fields.text
    if fields.note:
        yield fields.note
    if fields.type in {"assistant", "user"} and fields.message is not None:
        content = fields.message.get("content")
        blocks = content if isinstance(content, list) else [content]
        for block in blocks:
            if isinstance(block, dict):
                yield from _strings({key: block[key] for key in block.keys() & _SAID})
    elif fields.type == "result" and isinstance(fields.result, str):
        yield fields.result


_SAID: Final = frozenset({"text", "thinking", "name", "input", "content"})


def _strings(value: object, depth: int = 0) -> Iterator[str]:
    """Every string in a value, in order; no deeper than anybody would read."""
    if isinstance(value, str):
        yield value
    elif depth < DEPTH_MAX:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for one in inner:
            yield from _strings(one, depth + 1)
