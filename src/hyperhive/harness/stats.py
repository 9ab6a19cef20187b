"""Turn statistics: one row a turn in `hyperhive-turn-stats.sqlite`, best effort.

The file is opened for each use on one thread that all harnesses of a process share, so an idle agent holds nothing
open. Older databases get the columns that they lack. A failing write warns and costs the row, never the turn. The
aggregates over a window are in `stats_windows`.
"""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import RunVar

from hyperhive.clock import Clock, unix_seconds
from hyperhive.paths import make_private_file
from hyperhive.protocol.harness_line import TurnHistory
from hyperhive.protocol.types import TokenUsage, TurnRow

log = logging.getLogger(__name__)

STATS_FILE = "hyperhive-turn-stats.sqlite"
KEEP_SECONDS = 90 * 86400

_COLUMNS = {
    "started_at": "INTEGER NOT NULL DEFAULT 0",
    "ended_at": "INTEGER NOT NULL DEFAULT 0",
    "duration_ms": "INTEGER NOT NULL DEFAULT 0",
    "model": "TEXT NOT NULL DEFAULT ''",
    "wake_from": "TEXT NOT NULL DEFAULT ''",
    "result_kind": "TEXT NOT NULL DEFAULT 'ok'",
    "input_tokens": "INTEGER NOT NULL DEFAULT 0",
    "output_tokens": "INTEGER NOT NULL DEFAULT 0",
    "cache_read_input_tokens": "INTEGER NOT NULL DEFAULT 0",
    "cache_creation_input_tokens": "INTEGER NOT NULL DEFAULT 0",
    "last_input_tokens": "INTEGER",
    "last_output_tokens": "INTEGER",
    "last_cache_read_input_tokens": "INTEGER",
    "last_cache_creation_input_tokens": "INTEGER",
    "tool_call_count": "INTEGER NOT NULL DEFAULT 0",
    "tool_call_breakdown_json": "TEXT NOT NULL DEFAULT '{}'",
    "open_threads_count": "INTEGER NOT NULL DEFAULT 0",
    "open_reminders_count": "INTEGER NOT NULL DEFAULT 0",
    "cost": "REAL NOT NULL DEFAULT 0",
    "turn": "INTEGER",
    "message": "INTEGER",
    "chain": "INTEGER",
}
_NAMES = ", ".join(_COLUMNS)
_INSERT = f"INSERT INTO turn_stats ({_NAMES}) VALUES ({', '.join(':' + name for name in _COLUMNS)})"  # noqa: S608
_NEWEST = f"SELECT {_NAMES} FROM turn_stats ORDER BY id DESC LIMIT ?"  # noqa: S608
_SINCE = f"SELECT {_NAMES} FROM turn_stats WHERE ended_at >= ? AND ended_at < ? ORDER BY id"  # noqa: S608
_SELECT = (
    f"SELECT {_NAMES} FROM turn_stats WHERE (NOT :failed OR result_kind <> 'ok')"  # noqa: S608
    " AND (:since IS NULL OR ended_at >= :since) AND (:until IS NULL OR ended_at < :until)"
    " AND (:turn IS NULL OR turn = :turn)"
    " AND (:before IS NULL OR id < (SELECT max(id) FROM turn_stats WHERE turn = :before))"
    " ORDER BY id DESC LIMIT :limit"
)

_TALLY = (
    "SELECT coalesce(sum(result_kind = 'ok'), 0), coalesce(sum(result_kind <> 'ok'), 0)"
    " FROM turn_stats WHERE ended_at >= ?"
)

T = TypeVar("T")
_thread: RunVar[anyio.CapacityLimiter] = RunVar("hyperhive_stats_thread")


class Tally(msgspec.Struct, frozen=True):
    """How many turns ended well, and how many otherwise."""

    ok: int = 0
    failed: int = 0


class TurnStats:
    """One agent's turn statistics. Every method is best effort: what fails is logged and gives nothing."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    async def add(self, row: TurnRow) -> str | None:
        """Append a turn. Returns None, or why it failed, in one sentence."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_INSERT, msgspec.structs.asdict(row))

        try:
            await self._run(work, write=True)
        except (sqlite3.Error, OSError) as error:
            log.warning("turn_stats_not_written path=%s error=%s", self._path, error)
            return f"turn statistics could not be written: {error}"
        return None

    async def newest(self, limit: int) -> list[TurnRow]:
        """The last turns, newest first."""
        return await self._rows(_NEWEST, (limit,))

    async def since(self, unix: int, until: int = 2**62) -> list[TurnRow]:
        """The turns that ended at or after this time and before `until`, oldest first."""
        return await self._rows(_SINCE, (unix, until))

    async def select(self, asked: TurnHistory) -> list[TurnRow]:
        """The turns that are asked for, newest first; see `requests.Turns`."""
        return await self._rows(_SELECT, msgspec.structs.asdict(asked))

    async def there(self) -> bool:
        """Whether there are any statistics in this place."""
        return await self._exists()

    async def tally(self, since: int) -> Tally:
        """How many turns ended well and otherwise, at this time or later."""

        def work(connection: sqlite3.Connection) -> Tally:
            return Tally(*connection.execute(_TALLY, (since,)).fetchone())

        try:
            return await self._run(work, write=False) if await self._exists() else Tally()
        except (sqlite3.Error, OSError) as error:
            log.warning("turn_stats_not_read path=%s error=%s", self._path, error)
            return Tally()

    async def sweep(self) -> int:
        """Remove turns of more than 90 days ago; how many."""
        before = unix_seconds(self._clock) - KEEP_SECONDS

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute("DELETE FROM turn_stats WHERE ended_at < ?", (before,)).rowcount

        try:
            return await self._run(work, write=True) if await self._exists() else 0
        except (sqlite3.Error, OSError) as error:
            log.warning("turn_stats_not_swept path=%s error=%s", self._path, error)
            return 0

    async def _rows(self, query: str, given: tuple[int, ...] | dict[str, object]) -> list[TurnRow]:
        def work(connection: sqlite3.Connection) -> list[TurnRow]:
            rows = []
            for values in connection.execute(query, given):
                try:
                    rows.append(msgspec.convert(dict(zip(_COLUMNS, values, strict=True)), TurnRow))
                except msgspec.ValidationError as error:
                    log.warning("turn_stats_row_skipped path=%s error=%s", self._path, error)
            return rows

        try:
            return await self._run(work, write=False) if await self._exists() else []
        except (sqlite3.Error, OSError) as error:
            log.warning("turn_stats_not_read path=%s error=%s", self._path, error)
            return []

    async def _exists(self) -> bool:
        return await anyio.Path(self._path).exists()

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, write: bool) -> T:
        def body() -> T:
            with closing(_open(self._path)) as connection, connection:
                if write:
                    connection.execute("BEGIN IMMEDIATE")
                return work(connection)

        return await anyio.to_thread.run_sync(body, limiter=_limiter())


def ctx_of(row: TurnRow) -> TokenUsage | None:
    """The last inference's usage; None for a row of a time when it was not kept."""
    if row.last_input_tokens is None:
        return None
    return TokenUsage(
        input_tokens=row.last_input_tokens,
        output_tokens=row.last_output_tokens or 0,
        cache_read_input_tokens=row.last_cache_read_input_tokens or 0,
        cache_creation_input_tokens=row.last_cache_creation_input_tokens or 0,
    )


def cost_of(row: TurnRow) -> TokenUsage:
    """The turn's sum."""
    return TokenUsage(
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cache_read_input_tokens=row.cache_read_input_tokens,
        cache_creation_input_tokens=row.cache_creation_input_tokens,
    )


def _limiter() -> anyio.CapacityLimiter:
    """One thread at a time for all agents of this event loop."""
    limiter = _thread.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(1)
        _thread.set(limiter)
    return limiter


def _open(path: Path) -> sqlite3.Connection:
    try:
        make_private_file(path)
    except OSError as error:
        raise sqlite3.OperationalError(error.strerror) from error
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        connection.execute("PRAGMA synchronous=NORMAL")
        _complete(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _complete(connection: sqlite3.Connection) -> None:
    """Make the table, or add what an older one lacks."""
    have = {row[1] for row in connection.execute("PRAGMA table_info(turn_stats)")}
    if not have:
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS turn_stats (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS turn_stats_ended_at ON turn_stats (ended_at)")
        return
    for name in _COLUMNS.keys() - have:
        connection.execute(f"ALTER TABLE turn_stats ADD COLUMN {name} {_COLUMNS[name]}")
