"""Bringing a database to the present schema: copied first, and refused where it is newer than this program.

Each part hands in its own named set; each table is written by exactly one part. What the migrations do is theirs.
"""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlite_utils import Migrations
from sqlite_utils.db import Database

from hyperhive.errors import StoreFailed
from hyperhive.paths import make_private_file

KNOWN_SETS: Final = frozenset(
    {
        "broker",
        "lifecycle",
        "approvals",
        "accounts",
        "audit",
        "questions",
        "reminders",
        "hive",
        "spending",
        "notices",
        "web",
    }
)
"""Names of the sets that parts of this version may have left in a database. A program that opens it with fewer parts
(a Broker alone, in a notebook) leaves the others' tables alone; a set that is not even named here is newer than we."""

_TABLE: Final = "_sqlite_migrations"


def migrate(conn: sqlite3.Connection, path: Path, sets: Sequence[Migrations], now: int) -> Path | None:
    """Applies what is missing, each migration in a transaction of its own; returns the copy that was made before.

    A database without tables is not copied. Idempotent: a second run finds nothing to do.

    Raises:
        StoreFailed: the schema is newer than this program, or a migration failed (that one is rolled back).
    """
    db = Database(conn, execute_plugins=False)
    _refuse_newer(db, path, sets)
    if not any(one.pending(db) for one in sets):
        return None
    copy = _copy(conn, path, now) if db.table_names() else None
    for one in sets:
        one.apply(db)
    return copy


def _refuse_newer(db: Database, path: Path, sets: Sequence[Migrations]) -> None:
    if _TABLE not in db.table_names():
        return
    ours = {one.name: {step.name for step in one._migrations} for one in sets}  # noqa: SLF001 - no public list
    for set_name, step in db.execute("SELECT migration_set, name FROM _sqlite_migrations").fetchall():
        known = step in ours[set_name] if set_name in ours else set_name in KNOWN_SETS
        if not known:
            raise StoreFailed(
                f"{path} was written by a newer version of HyperHive ({set_name}/{step} is unknown here)",
                hint="install that version again, or restore the copy that it made before it migrated",
            )


def _copy(conn: sqlite3.Connection, path: Path, now: int) -> Path:
    """A consistent copy beside the database, on disk before anything is changed."""
    target = path.with_name(f"{path.name}.before-migration-{now}")
    copy = sqlite3.connect(make_private_file(target))
    try:
        conn.backup(copy)
    finally:
        copy.close()
    for name in (target, target.parent):
        fd = os.open(name, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    target.chmod(0o600)
    return target
