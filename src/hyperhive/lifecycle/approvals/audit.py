"""The audit table: every decision, who made it, by which way, on which commit, and why. It can only grow.

An entry is written in the transaction of the decision itself (`rows` does so): where it cannot be written, nothing
happens. That nothing is changed afterwards the table's own triggers see to.
"""

import sqlite3
from typing import Final

import msgspec


class By(msgspec.Struct, frozen=True):
    """Who does it, by which channel, when and why: what its audit entry says."""

    who: str
    channel: str
    at: int
    why: str | None = None


class Subject(msgspec.Struct, frozen=True):
    """What a decision is about."""

    approval: int
    agent: str
    sha: str
    diff_sha256: str


class Entry(msgspec.Struct, frozen=True):
    """One entry, in the order of the table's columns."""

    id: int
    at: int
    approval: int
    agent: str
    action: str
    who: str
    channel: str
    sha: str
    diff_sha256: str
    why: str | None


_ENTER: Final = (
    "INSERT INTO audit (at, approval, agent, action, who, channel, sha, diff_sha256, why)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def enter(conn: sqlite3.Connection, about: Subject, action: str, by: By) -> None:
    """Writes a decision down. Does not commit."""
    conn.execute(
        _ENTER,
        (
            by.at,
            about.approval,
            about.agent,
            action,
            by.who,
            by.channel,
            about.sha,
            about.diff_sha256,
            by.why,
        ),
    )


def entries(
    conn: sqlite3.Connection, limit: int, before: int | None, agent: str | None = None
) -> list[Entry]:
    """Decisions, newest first; of one agent or of all."""
    columns = ", ".join(Entry.__struct_fields__)
    query = (
        f"SELECT {columns} FROM audit WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR agent = ?2)"  # noqa: S608 - ours
        " ORDER BY id DESC LIMIT ?3"
    )
    return [Entry(*row) for row in conn.execute(query, (before, agent, limit))]
