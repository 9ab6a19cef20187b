"""The table `agents`: which agents there are, and what was under way when the process died.

Only the lifecycle writes it. A row is written whole, before and after the effects of an action; memory holds the same
rows, read once at start.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from hyperhive.errors import HiveError
from hyperhive.names import AgentName
from hyperhive.protocol.types import Mount
from hyperhive.store import Database, Migrations, Operation

MIGRATIONS: Final = Migrations("lifecycle")

Role = Literal["manager", "agent"]
Phase = Literal["alive", "destroying", "purging", "tombstone"]
"""`destroying` and `purging` are finished at the next start; a purged agent has no row."""

Pending = Literal["spawning", "stopping"]
"""An action whose end has not been told to anybody yet."""


class AgentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One agent, as stored.

    `action` numbers its actions, from the milliseconds of its making on: what is told of one is told under its number,
    and a name that was purged does not begin again where it was.
    """

    name: AgentName
    role: Role
    created_at: int
    phase: Phase = "alive"
    held: bool = False
    pending: Pending | None = None
    action: int = 0
    mounts: tuple[Mount, ...] = ()
    destroyed_at: int | None = None
    """Of a tombstone; None where that is not known."""


@MIGRATIONS()
def m0001_agents(db: Database) -> None:
    """One row an agent; `held`: the operator stopped it."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS agents (name TEXT PRIMARY KEY, role TEXT NOT NULL, created_at INTEGER NOT NULL,"
        " phase TEXT NOT NULL, held INTEGER NOT NULL, pending TEXT, action INTEGER NOT NULL, mounts TEXT NOT NULL)"
        " WITHOUT ROWID"
    )


@MIGRATIONS()
def m0002_destroyed(db: Database) -> None:
    """When a tombstone became one."""
    if "destroyed_at" not in db.table("agents").columns_dict:
        db.execute("ALTER TABLE agents ADD COLUMN destroyed_at INTEGER")


_ENCODER: Final = msgspec.json.Encoder()
_MOUNTS: Final = msgspec.json.Decoder(tuple[Mount, ...])


def read_agents(conn: sqlite3.Connection) -> list[AgentRow]:
    """Every row, in the order of names."""
    columns = "name, role, created_at, phase, held, pending, action, mounts, destroyed_at"
    return [
        msgspec.convert(
            {
                "name": name, "role": role, "created_at": created_at, "phase": phase, "held": bool(held),
                "pending": pending, "action": action, "mounts": _MOUNTS.decode(mounts),
                "destroyed_at": destroyed_at,
            },
            AgentRow,
        )
        for name, role, created_at, phase, held, pending, action, mounts, destroyed_at in conn.execute(
            f"SELECT {columns} FROM agents ORDER BY name"  # noqa: S608 - our own words
        )
    ]  # fmt: skip


def _put(conn: sqlite3.Connection, rows: Sequence[AgentRow]) -> Sequence[HiveError | None]:
    conn.executemany(
        "INSERT OR REPLACE INTO agents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                row.name, row.role, row.created_at, row.phase, row.held, row.pending, row.action,
                _ENCODER.encode(row.mounts).decode(), row.destroyed_at,
            )
            for row in rows
        ],
    )  # fmt: skip
    return [None] * len(rows)


def _remove(conn: sqlite3.Connection, names: Sequence[AgentName]) -> Sequence[HiveError | None]:
    conn.executemany("DELETE FROM agents WHERE name = ?", [(name,) for name in names])
    return [None] * len(names)


PUT: Final[Operation[AgentRow, None]] = Operation("write agent", _put)
REMOVE: Final[Operation[AgentName, None]] = Operation("remove agent", _remove)
