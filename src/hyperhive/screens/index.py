"""The index of texts: a database of its own beside the hive's, that may be thrown away and is made again.

It holds the words of texts and where these are, never the texts: a hit is read where it lives. One row of `docs` is one
text; its number says when it was written (seconds, then a place within the second), so that the newest come first by
number alone. Who fills it is in `indexer.py`; nobody who sends waits for it.
"""

# ruff: noqa: S608 - statements are made of our own words, values are bound

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.paths import make_private, make_private_file
from hyperhive.screens.words import Query

VERSION: Final = 1
"""Of the schema: an index of another version is made anew."""

MESSAGE, EVENT, QUESTION, DECISION = range(4)
KINDS: Final = {"messages": (MESSAGE, QUESTION, DECISION), "events": (EVENT,)}
BITS: Final = 20
"""Of a document's number, for its place within a second. With 33 bits of seconds JavaScript still reads it exactly."""
LAST: Final = (1 << 33) - 1

_SCHEMA: Final = (
    "CREATE TABLE docs (doc INTEGER PRIMARY KEY, kind INTEGER, ref INTEGER, sender TEXT, recipient TEXT, turn INTEGER)",
    f"CREATE INDEX mail_from ON docs(sender, ref) WHERE kind = {MESSAGE}",
    f"CREATE INDEX mail_to ON docs(recipient, ref) WHERE kind = {MESSAGE}",
    f"CREATE INDEX mail ON docs(ref) WHERE kind = {MESSAGE}",
    "CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='unicode61 remove_diacritics 0')",
    "CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)


DECISION_TEXT: Final = "action || ' ' || agent || ' ' || sha || ' ' || coalesce(why, '')"
"""Of an entry of the audit, in SQL."""


class Doc(msgspec.Struct, frozen=True):
    """A text to be found. `sender`: of an event its agent, of a decision whom it is about."""

    kind: int
    ref: int
    at: int
    sender: str
    recipient: str
    text: str
    turn: int | None = None


class Found(msgspec.Struct, frozen=True):
    """A text that was found."""

    doc: int
    kind: int
    ref: int
    sender: str
    recipient: str
    turn: int | None

    @property
    def at(self) -> int:
        """Unix seconds."""
        return self.doc >> BITS


def connect(path: Path) -> sqlite3.Connection:
    """The one connection that writes. Makes the index where there is none, or none that can be used."""
    make_private(path.parent)
    make_private_file(path)
    conn = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    try:
        # A power cut may take the last batches, which are made again; it damages nothing.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=4000"):
            conn.execute(f"PRAGMA {pragma}").fetchall()
        (version,) = conn.execute("PRAGMA user_version").fetchone()
        if version == 0:
            make(conn)
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"an index of version {version}")
    except BaseException:
        conn.close()
        raise
    return conn


def make(conn: sqlite3.Connection) -> None:
    """The tables, in an empty database."""
    conn.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        conn.execute(statement)
    conn.execute(f"PRAGMA user_version = {VERSION}")
    conn.execute("COMMIT")


def throw_away(path: Path) -> None:
    """Deletes the index. Blocks."""
    for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        one.unlink(missing_ok=True)


def marks(conn: sqlite3.Connection) -> dict[str, int]:
    """How far each source has been read."""
    return dict(conn.execute("SELECT name, value FROM marks").fetchall())


def add(conn: sqlite3.Connection, docs: Iterable[Doc], read: dict[str, int]) -> None:
    """Takes these texts in, and notes how far that is: all of it or nothing."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        for doc in sorted(docs, key=lambda doc: (doc.at, doc.ref)):
            number = _place(conn, doc)
            row = (number, doc.kind, doc.ref, doc.sender, doc.recipient, doc.turn)
            conn.execute("INSERT INTO docs VALUES (?, ?, ?, ?, ?, ?)", row)
            conn.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, doc.text))
        conn.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", read.items())
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


def take_out(conn: sqlite3.Connection, mail: Sequence[tuple[int, str]]) -> None:
    """Takes messages out, each an id and its text exactly as it was put in: by that FTS5 finds its words."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        for number, text in mail:
            query = f"SELECT doc FROM docs INDEXED BY mail WHERE kind = {MESSAGE} AND ref = ?"
            for (doc,) in conn.execute(query, (number,)).fetchall():
                conn.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (doc, text))
                conn.execute("DELETE FROM docs WHERE doc = ?", (doc,))
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


def forget_mail(conn: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Forgets messages whose texts are gone already. Their words stay, and lead nowhere."""
    statement = f"DELETE FROM docs WHERE kind = {MESSAGE} AND ref = ?"
    _forget(conn, lambda: sum(conn.execute(statement, (number,)).rowcount for number in ids))


def forget_events(conn: sqlite3.Connection, before: int) -> None:
    """Forgets the events of before this time (unix seconds), as `forget_mail` does messages."""
    statement = f"DELETE FROM docs WHERE kind = {EVENT} AND doc < ?"
    _forget(conn, lambda: conn.execute(statement, (number_of(before, 0),)).rowcount)


def _forget(conn: sqlite3.Connection, delete: Callable[[], int]) -> None:
    """Deletes, and counts of how many texts the words now lead nowhere."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        count = delete()
        conn.execute("INSERT OR IGNORE INTO marks VALUES ('gone', 0)")
        conn.execute("UPDATE marks SET value = value + ? WHERE name = 'gone'", (count,))
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


def gone(conn: sqlite3.Connection) -> tuple[int, int]:
    """Of how many texts the words lead nowhere, and how many there ever were."""
    lost = marks(conn).get("gone", 0)
    (left,) = conn.execute("SELECT count(*) FROM docs").fetchone()
    return lost, lost + int(left)


def mail_after(conn: sqlite3.Connection, after: int, limit: int) -> list[int]:
    """Ids of messages that are known, in order."""
    query = f"SELECT ref FROM docs INDEXED BY mail WHERE kind = {MESSAGE} AND ref > ? ORDER BY ref LIMIT ?"
    return [row[0] for row in conn.execute(query, (after, limit))]


def _place(conn: sqlite3.Connection, doc: Doc) -> int:
    """Its number: what was written later in the same second has a higher one, as far as its own number says so."""
    number = number_of(doc.at, doc.ref)
    while conn.execute("SELECT 1 FROM docs WHERE doc = ?", (number,)).fetchone() is not None:
        number += 1
    return number


def number_of(at: int, ref: int) -> int:
    """The number of a text by when it was written and its own number, where no other text has it."""
    return max(1, (max(0, min(at, LAST)) << BITS) | (ref & ((1 << BITS) - 1)))


# --- looking --------------------------------------------------------------------------------------------------------

_COLUMNS: Final = "docs.doc, docs.kind, docs.ref, docs.sender, docs.recipient, docs.turn"
# The words first, newest first by number, and only then the rows: were the join sorted, it would read every match.
FIND: Final = (
    "WITH hits AS (SELECT rowid AS doc FROM words WHERE words MATCH ?1 AND rowid < ?2)"
    f" SELECT {_COLUMNS} FROM hits CROSS JOIN docs ON docs.doc = hits.doc WHERE docs.kind IN ({{kinds}})"
    " ORDER BY hits.doc DESC LIMIT ?3"
)
FIND_MAIL: Final = (
    "WITH hits AS (SELECT rowid AS doc FROM words WHERE words MATCH ?1)"
    f" SELECT docs.ref FROM hits CROSS JOIN docs ON docs.doc = hits.doc WHERE docs.kind = {MESSAGE} AND docs.ref < ?2"
    " AND (?3 IS NULL OR docs.sender = ?3 OR docs.recipient = ?3)"
    " AND (?4 IS NULL OR docs.sender = ?4 OR docs.recipient = ?4)"
    " ORDER BY hits.doc DESC LIMIT ?5"
)
MAIL_OF: Final = (
    f"SELECT ref FROM docs INDEXED BY mail_from WHERE kind = {MESSAGE} AND sender = ?1 AND ref < ?2"
    " AND (?3 IS NULL OR recipient = ?3) UNION ALL"
    f" SELECT ref FROM docs INDEXED BY mail_to WHERE kind = {MESSAGE} AND recipient = ?1 AND ref < ?2"
    " AND sender <> ?1 AND (?3 IS NULL OR sender = ?3) ORDER BY ref DESC LIMIT ?4"
)
TOP: Final = 2**62


def find(
    conn: sqlite3.Connection, query: Query, before: int | None, limit: int, kinds: Sequence[int]
) -> list[Found]:
    """Texts that have all of the query, newest first."""
    statement = FIND.format(kinds=", ".join(str(kind) for kind in kinds))
    rows = conn.execute(statement, (query.match, TOP if before is None else before, limit))
    return [Found(*row) for row in rows]


def find_mail(
    conn: sqlite3.Connection, query: Query, before: int, agent: str | None, other: str | None, limit: int
) -> list[int]:
    """Ids of messages that have all of the query, newest first: of anybody, of one, or between two."""
    return [row[0] for row in conn.execute(FIND_MAIL, (query.match, before, agent, other, limit))]


def mail_of(conn: sqlite3.Connection, agent: str, other: str | None, before: int, limit: int) -> list[int]:
    """Ids of messages from or to an agent, or between two, newest first."""
    return [row[0] for row in conn.execute(MAIL_OF, (agent, before, other, limit))]
