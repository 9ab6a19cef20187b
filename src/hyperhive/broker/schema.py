"""The broker's tables, as migrations. Only `hyperhive.broker` writes them.

It also takes over a database of the original system, whose `messages` had no `acked_at` (there a delivered message was
a done one). Every migration can run on a database where its work has been done already.
"""

from typing import Final

from hyperhive.store import Database, Migrations

MIGRATIONS: Final = Migrations("broker")

_ORIGINAL: Final = {
    "id": int,
    "sender": str,
    "recipient": str,
    "body": str,
    "sent_at": int,
    "delivered_at": int,
}


@MIGRATIONS()
def m0001_messages(db: Database) -> None:
    """One row a message.

    pending: neither `delivered_at` nor `acked_at` nor `parked`; in flight: `delivered_at`; done: `acked_at`;
    `parked` is `held`, `dead` or (with `acked_at`) `dropped`. `attempt` counts requeues, `tries` the failures that
    the message itself may have caused.
    """
    messages = db.table("messages")
    if not messages.exists():
        messages.create(_ORIGINAL, pk="id", not_null={"sender", "recipient", "body", "sent_at"})
    if "acked_at" not in messages.columns_dict:
        db.execute("ALTER TABLE messages ADD COLUMN acked_at INTEGER")
        db.execute("UPDATE messages SET acked_at = delivered_at")
    for column, kind in (
        ("urgency", "INTEGER NOT NULL DEFAULT 0"),
        ("cause", "INTEGER"),
        ("hops", "INTEGER NOT NULL DEFAULT 0"),
        ("chain", "INTEGER"),
        ("attempt", "INTEGER NOT NULL DEFAULT 0"),
        ("tries", "INTEGER NOT NULL DEFAULT 0"),
        ("parked", "TEXT"),
        ("parked_at", "INTEGER"),
        ("reason", "TEXT"),
        ("file_refs", "TEXT"),
    ):
        if column not in messages.columns_dict:
            db.execute(f"ALTER TABLE messages ADD COLUMN {column} {kind}")
    # The one index of the hot path serves pop, ack, requeue, start-up and counts; acked history costs nothing.
    db.execute("CREATE INDEX IF NOT EXISTS unacked ON messages(recipient, id) WHERE acked_at IS NULL")
    # Almost no row is in this one: an insert pays for the look at `parked` only.
    db.execute("CREATE INDEX IF NOT EXISTS parked ON messages(parked, id) WHERE parked IS NOT NULL")


@MIGRATIONS()
def m0002_repeats(db: Database) -> None:
    """What keeps a request from taking effect twice; see repeats.py."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS seen (sender TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,"
        " result_id INTEGER NOT NULL, duplicate INTEGER NOT NULL, at INTEGER NOT NULL,"
        " PRIMARY KEY (sender, kind, key)) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE IF NOT EXISTS repeats (cause INTEGER NOT NULL, sender TEXT NOT NULL, digest BLOB NOT NULL,"
        " n INTEGER NOT NULL, attempt INTEGER NOT NULL, result_id INTEGER NOT NULL,"
        " PRIMARY KEY (cause, sender, digest, n)) WITHOUT ROWID"
    )
