"""Connections to one database: pragmas that are set and asserted back, readers, and SQLite's errors as ours.

The writer's connection belongs to the writer's thread. Readers are read-only, and one is used by one thread at a time.
"""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from hyperhive.errors import StoreFailed
from hyperhive.paths import make_private_file

T = TypeVar("T")

WAL_BACKSTOP_PAGES: Final = 8000
"""The writer checkpoints when it is idle; this is only for a store that never is. A WAL that is reused is also
faster than a fresh one, so it is never truncated."""

_WRITER_PRAGMAS: Final = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL: a commit has been fsynced, so it survives a power cut (NORMAL only survives a crash)
    "foreign_keys": 1,
    "wal_autocheckpoint": WAL_BACKSTOP_PAGES,
}


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes; durable on COMMIT. Use it in the thread that made it.

    Raises:
        StoreFailed: the file cannot be opened, or SQLite did not accept a pragma.
    """
    try:
        make_private_file(path)
        conn = sqlite3.connect(path, isolation_level=None, timeout=5, cached_statements=256)
    except OSError as error:
        raise StoreFailed(f"cannot open {path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise store_failed(error, f"cannot open {path}") from error
    try:
        for name, value in _WRITER_PRAGMAS.items():
            conn.execute(f"PRAGMA {name}={value}").fetchall()
            (found,) = conn.execute(f"PRAGMA {name}").fetchone()
            if found != value:
                raise StoreFailed(f"{path}: SQLite set {name} to {found!r} instead of {value!r}")
    except sqlite3.Error as error:
        conn.close()
        raise store_failed(error, f"cannot open {path}") from error
    except StoreFailed:
        conn.close()
        raise
    return conn


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    uri = f"file:{quote(str(path))}?mode=ro"
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5, check_same_thread=False)
    conn.execute("PRAGMA query_only=1").fetchall()
    return conn


class Readers:
    """Read-only connections that are kept for reuse; each is handed to one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `query` in the calling thread, on what was committed when it began."""
        with self._lock:
            conn = self._idle.pop() if self._idle else None
        try:
            conn = conn or connect_reader(self._path)
        except sqlite3.Error as error:
            raise store_failed(error, f"cannot read {self._path}") from error
        try:
            return query(conn)
        except sqlite3.Error as error:
            raise store_failed(error, f"cannot read {self._path}") from error
        finally:
            with self._lock:
                if self._closed:
                    conn.close()
                else:
                    self._idle.append(conn)

    def close(self) -> None:
        """Closes what is idle now, and the rest as it is given back."""
        with self._lock:
            self._closed = True
            for conn in self._idle:
                conn.close()
            self._idle.clear()


_HINTS: Final = {
    "SQLITE_FULL": ("the disk is full", "free some space; the store works again by itself"),
    "SQLITE_READONLY": ("the database is read-only", "make the state directory writable"),
    "SQLITE_CANTOPEN": ("the file cannot be opened", "the state directory must exist and be writable"),
    "SQLITE_IOERR": (
        "the disk failed",
        "look at the kernel's log; the store tries again at the next request",
    ),
    "SQLITE_CORRUPT": (
        "the database is damaged",
        "restore the newest backup with `hyperhive restore-backup`",
    ),
    "SQLITE_NOTADB": (
        "the file is no SQLite database",
        "restore the newest backup with `hyperhive restore-backup`",
    ),
    "SQLITE_BUSY": ("another program holds a lock on it", "close other programs that have it open"),
}


def store_failed(error: sqlite3.Error, what: str) -> StoreFailed:
    """SQLite's error as the one that callers see."""
    name = getattr(error, "sqlite_errorname", "") or ""
    for prefix, (meaning, hint) in _HINTS.items():
        if name.startswith(prefix):
            return StoreFailed(f"{what}: {meaning} ({name})", hint=hint)
    return StoreFailed(f"{what}: {error}")
