"""An agent's event log: the newest events of a `Bus`, kept on disk in the table `events`.

Appending never waits: ids are counted in memory (the log has one owner), rows are written in batches by one thread
that all logs of the process share, and an idle log holds no connection. What a payload means is the caller's
business. It is no promise of durability: the last 50 ms may be lost with the process, and a failing disk costs
history, never the stream.

A log is bounded: rows older than seven days are swept, the oldest go where there are more than 64 MiB, and who appends
faster than 512 KiB a second for long (16 MiB at a time are taken as they come) is told that a row was not kept.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final, TypeVar

import anyio.to_thread
import msgspec

from hyperhive.paths import make_private_file

T = TypeVar("T")

log = logging.getLogger(__name__)

SERVED: Final = 2000
KEPT_DAYS: Final = 7
KEPT_BYTES: Final = 64 * 2**20
"""Of one log, on disk, its index included. 2000 rows of a usual size are a small part of it."""
BURST_BYTES: Final = 16 * 2**20
RATE_BYTES: Final = 512 * 2**10
"""A second, over time."""
ROW_COST: Final = 256
"""What a row counts beside its payload."""
BATCH_SECONDS: Final = 0.05
BATCH_ROWS: Final = 512
IDLE_SECONDS: Final = 5.0
OPEN_AT_ONCE: Final = 32

_COLUMNS: Final = "id INTEGER PRIMARY KEY AUTOINCREMENT, ts INTEGER, kind TEXT, payload_json TEXT"
_SCHEMA: Final = (
    f"CREATE TABLE IF NOT EXISTS events ({_COLUMNS})",
    "CREATE INDEX IF NOT EXISTS events_ts ON events(ts)",
)
_ROWS_A_STATEMENT: Final = 32
_ROW: Final = "(?, ?, ?, CAST(? AS TEXT))"
_INSERT: Final = "INSERT INTO events (id, ts, kind, payload_json) VALUES "
_INSERT_ONE: Final = _INSERT + _ROW
_INSERT_MANY: Final = _INSERT + ", ".join([_ROW] * _ROWS_A_STATEMENT)
"""AUTOINCREMENT keeps its counter in a table of its own, once a statement: so many rows go in with one."""

_WAL_PAGES: Final = 4000

_FROM: Final = "SELECT id, ts, kind, CAST(payload_json AS BLOB) FROM events "
_WHERE: Final = (
    "id < coalesce(:before, 9223372036854775807) AND (:kind IS NULL OR kind = :kind)"
    " AND (:text IS NULL OR payload_json LIKE :text ESCAPE '\\') ORDER BY id DESC LIMIT :limit"
)

_HISTORY: Final = f"{_FROM}WHERE {_WHERE}"
_BETWEEN: Final = (
    f"{_FROM}INDEXED BY events_ts WHERE ts >= coalesce(:since, 0)"
    f" AND ts <= coalesce(:until, 9223372036854775807) AND {_WHERE}"
)

Row = tuple[int, int, str, bytes]


class LoggedEvent(msgspec.Struct, frozen=True):
    """One row: its id, unix seconds, kind, and the payload as it was given (a JSON object)."""

    eid: int
    ts: int
    kind: str
    payload: bytes


class EventLog:
    """One agent's log; made by `EventLogs.open`. Used on the loop's thread."""

    def __init__(self, logs: "EventLogs", path: Path, last_eid: int | None) -> None:
        self.path = path
        self.skipped = 0
        """Rows that `history` could not read and left out (the original wrote notes as `null`)."""
        self._logs = logs
        self._last_eid = last_eid
        self._rows: list[Row] = []
        self.crowded = False
        """Rows are being left out, or were a moment ago: it has not yet been quiet for as long as it takes."""
        self._room = BURST_BYTES
        self._room_at = 0

    @property
    def writable(self) -> bool:
        """False: nothing is kept, `append` gives no ids, `history` is empty."""
        return self._last_eid is not None

    def append(self, ts: int, kind: str, payload: bytes, *, optional: bool = False) -> int | None:
        """Keeps one event; returns its row id at once. It is on disk a moment later.

        Args:
            ts: unix seconds; they also tell how fast events come.
            optional: may be left out (then there is no id) where events come faster than they are kept.
        """
        if self._last_eid is None:
            return None
        if not self._has_room(ts, len(payload)) and optional:
            return None
        self._last_eid += 1
        self._rows.append((self._last_eid, ts, kind, payload))
        self._logs.dirty(self, urgent=len(self._rows) >= BATCH_ROWS)
        return self._last_eid

    def _has_room(self, ts: int, size: int) -> bool:
        """Whether this much more may come now; if so it is counted."""
        passed = max(0, ts - self._room_at)
        self._room_at = ts  # also where the clock went back
        self._room = min(BURST_BYTES, self._room + passed * RATE_BYTES)
        if self._room == BURST_BYTES:
            self.crowded = False
        if self._room <= 0:
            self.crowded = True
            return False
        self._room -= size + ROW_COST
        return True

    def take_rows(self) -> list[Row]:
        """Called by the shared writer: what is to be written."""
        rows, self._rows = self._rows, []
        return rows

    async def flush(self) -> None:
        """Returns when everything appended so far was written (or lost, with a warning)."""
        if self.writable:
            self._logs.flush()
            await self._logs.call(self.path, _nothing)

    async def history(
        self,
        *,
        before: int | None = None,
        limit: int = SERVED,
        kind: str | None = None,
        q: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[LoggedEvent]:
        """The newest events, oldest first: at most 2000.

        Args:
            before: only rows with a smaller id.
            limit: at most this many.
            kind: only this kind.
            q: only payloads that contain this text; ASCII letters match in either case.
            since: only what happened at this time (unix seconds) or later.
            until: only what happened at this time or before.
        """
        if not self.writable:
            return []
        await self.flush()
        limit = max(0, min(limit, SERVED))
        try:
            found, skipped = await anyio.to_thread.run_sync(
                partial(_read, self.path, before, limit, kind, q, since, until)
            )
        except sqlite3.Error as error:
            log.warning("cannot read the event log %s: %s", self.path, error)
            return []
        self.skipped += skipped
        return found

    async def sweep(self, now: int, *, older_than_days: float = KEPT_DAYS) -> int:
        """Removes rows older than this; returns how many. To be called hourly by whoever owns the file."""
        if not self.writable:
            return 0
        self._logs.flush()
        cutoff = now - int(older_than_days * 24 * 3600)

        def delete(conn: sqlite3.Connection) -> int:
            return conn.execute("DELETE FROM events WHERE ts < ?", (cutoff,)).rowcount

        return await self._logs.call(self.path, delete) or 0


class EventLogs:
    """All event logs of a process: one writer thread, started at the first use, and as few connections as possible.

    Close it after the last log's last append; that writes what is left.
    """

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Callable[[dict[Path, sqlite3.Connection]], None] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._dirty: dict[EventLog, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._warned: set[Path] = set()

    async def open(self, path: Path) -> EventLog:
        """The log in this file, made where it is missing. Where that fails: a log that keeps nothing, and a warning."""
        return EventLog(self, path, await self.call(path, _last_id))

    def dirty(self, one: EventLog, *, urgent: bool) -> None:
        """Called by a log with rows to write."""
        self._dirty[one] = None
        if urgent:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self.flush)

    def flush(self) -> None:
        """Hands what has gathered to the writer; does not wait for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dirty, self._dirty = self._dirty, {}
        for one in dirty:
            self._put(_appending(self, one.path, one.take_rows()))

    async def call(self, path: Path, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Runs `work` in the writer's thread, after what was handed over before; None where the disk refused."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T | None] = loop.create_future()

        def run(open_ones: dict[Path, sqlite3.Connection]) -> None:
            result = self._guarded(path, open_ones, work)
            loop.call_soon_threadsafe(_resolve, future, result)

        self._put(run)
        return await future

    async def aclose(self) -> None:
        """Writes what is left and ends the thread."""
        self.flush()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._inbox.put(None)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(thread.join)

    def _put(self, work: Callable[[dict[Path, sqlite3.Connection]], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="hyperhive-eventlog", daemon=True)
            self._thread.start()
        self._inbox.put(work)

    # --- in the writer's thread ---

    def _main(self) -> None:
        open_ones: dict[Path, sqlite3.Connection] = {}
        try:
            while True:
                try:
                    work = self._inbox.get(timeout=IDLE_SECONDS if open_ones else None)
                except queue.Empty:
                    _close_down_to(open_ones, 0)
                    continue
                if work is None:
                    return
                work(open_ones)
                _close_down_to(open_ones, OPEN_AT_ONCE)
        finally:
            _close_down_to(open_ones, 0)

    def append(self, path: Path, rows: list[Row], open_ones: dict[Path, sqlite3.Connection]) -> None:
        """In the writer's thread: one transaction for all rows."""

        def insert(conn: sqlite3.Connection) -> bool:
            conn.execute("BEGIN IMMEDIATE")
            try:
                whole = len(rows) - len(rows) % _ROWS_A_STATEMENT
                for start in range(0, whole, _ROWS_A_STATEMENT):
                    conn.execute(_INSERT_MANY, [*chain(*rows[start : start + _ROWS_A_STATEMENT])])
                conn.executemany(_INSERT_ONE, rows[whole:])
                conn.execute("COMMIT")
            finally:
                if conn.in_transaction:
                    conn.execute("ROLLBACK")
            _cut_down_to(conn, KEPT_BYTES)
            return True

        self._guarded(path, open_ones, insert)

    def _guarded(
        self, path: Path, open_ones: dict[Path, sqlite3.Connection], work: Callable[[sqlite3.Connection], T]
    ) -> T | None:
        try:
            conn = open_ones.pop(path, None) or _connect(path)
            open_ones[path] = conn  # the newest last
            result = work(conn)
        except (sqlite3.Error, OSError) as error:
            if path not in self._warned:
                self._warned.add(path)
                log.warning("the event log %s keeps nothing for now: %s", path, error)
            broken = open_ones.pop(path, None)
            if broken is not None:
                broken.close()
            return None
        self._warned.discard(path)
        return result


def _appending(
    logs: EventLogs, path: Path, rows: list[Row]
) -> Callable[[dict[Path, sqlite3.Connection]], None]:
    return lambda open_ones: logs.append(path, rows, open_ones)


def _nothing(conn: sqlite3.Connection) -> None:
    """What a flush waits for."""


def _resolve(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _close_down_to(open_ones: dict[Path, sqlite3.Connection], number: int) -> None:
    while len(open_ones) > number:
        oldest = next(iter(open_ones))
        open_ones.pop(oldest).close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        make_private_file(path)
    except OSError as error:
        raise sqlite3.OperationalError(error.strerror) from error
    conn = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    try:
        # NORMAL: a row costs no flush. What a power cut may take is the end of a log, not its integrity.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"wal_autocheckpoint={_WAL_PAGES}"):
            conn.execute(f"PRAGMA {pragma}").fetchall()
        for statement in _SCHEMA:
            conn.execute(statement)
    except BaseException:
        conn.close()
        raise
    return conn


def _cut_down_to(conn: sqlite3.Connection, limit: int) -> None:
    """Removes the oldest rows, an eighth of all at a time, until the rest takes no more than this; never the newest.

    What they took is used again by the next rows, so that the file grows no further either.
    """
    while _bytes_used(conn) > limit:
        oldest, newest = conn.execute("SELECT min(id), max(id) FROM events").fetchone()
        if oldest is None or oldest == newest:
            return
        conn.execute("DELETE FROM events WHERE id < ?", (oldest + max(1, (newest - oldest) // 8),))


def _bytes_used(conn: sqlite3.Connection) -> int:
    (pages,), (free,), (size,) = (
        conn.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _last_id(conn: sqlite3.Connection) -> int:
    """The newest id that was ever used, so that a row id names one event for good, sweeps or not."""
    row = conn.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    (newest,) = conn.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
    return max(int(row[0]) if row else 0, int(newest))


def _read(
    path: Path,
    before: int | None,
    limit: int,
    kind: str | None,
    q: str | None,
    since: int | None,
    until: int | None,
) -> tuple[list[LoggedEvent], int]:
    """In a worker thread, on a connection of its own: a long search holds up no append."""
    text = None
    if q:
        text = msgspec.json.encode(q)[1:-1].decode()
        for special in "\\%_":
            text = text.replace(special, f"\\{special}")
        text = f"%{text}%"
    values = {"before": before, "kind": kind, "text": text, "limit": limit, "since": since, "until": until}
    bounded = since is not None or until is not None
    query = _BETWEEN if bounded else _HISTORY
    conn = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        conn.execute("PRAGMA query_only=1").fetchall()
        rows = conn.execute(query, values).fetchall()
    finally:
        conn.close()
    rows.reverse()
    found = [
        LoggedEvent(eid, ts, name, payload)
        for eid, ts, name, payload in rows
        if isinstance(ts, int) and isinstance(name, str) and payload is not None and payload[:1] == b"{"
    ]
    return found, len(rows) - len(found)
