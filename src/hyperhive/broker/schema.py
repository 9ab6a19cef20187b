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
    # The one index of the hot path (see m0010): acked history costs nothing.
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


@MIGRATIONS()
def m0003_questions(db: Database) -> None:
    """One row a question; it is open while `answered_at` is no number. See questions_sql.py.

    Ids are never used twice: an answer that comes late must not meet another question.
    """
    db.execute(
        "CREATE TABLE IF NOT EXISTS questions (id INTEGER PRIMARY KEY AUTOINCREMENT, asker TEXT NOT NULL,"
        " target TEXT NOT NULL, question TEXT NOT NULL, options TEXT NOT NULL DEFAULT '[]',"
        " multi INTEGER NOT NULL DEFAULT 0, tool TEXT, kind TEXT NOT NULL DEFAULT '', about TEXT NOT NULL DEFAULT '',"
        " asked_at INTEGER NOT NULL, expires_at INTEGER, answered_at INTEGER, answer TEXT, answerer TEXT,"
        " cause INTEGER, hops INTEGER NOT NULL DEFAULT 0, chain INTEGER)"
    )
    still = "WHERE typeof(answered_at) <> 'integer'"
    db.execute(f"CREATE INDEX IF NOT EXISTS open_asker ON questions(asker) {still}")
    db.execute(f"CREATE INDEX IF NOT EXISTS open_target ON questions(target) {still}")
    db.execute(
        "CREATE INDEX IF NOT EXISTS resolved ON questions(answered_at) WHERE typeof(answered_at) = 'integer'"
    )
    _take_over_questions(db)


def _take_over_questions(db: Database) -> None:
    """The original's `operator_questions`, as far as its columns go; its table stays as it is."""
    old = db.table("operator_questions")
    if not old.exists() or db.table("questions").count:
        return
    columns = {
        "id": "id", "asker": "asker", "target": "target", "question": "question", "options_json": "options",
        "multi": "multi", "asked_at": "asked_at", "deadline_at": "expires_at", "answered_at": "answered_at",
        "answer": "answer", "answerer": "answerer",
    }  # fmt: skip
    there = [name for name in columns if name in old.columns_dict]
    into = ", ".join(columns[name] for name in there)
    values = ", ".join("coalesce(target, 'operator')" if name == "target" else name for name in there)
    if "target" not in there:
        into, values = f"{into}, target", f"{values}, 'operator'"
    source = "FROM operator_questions"
    db.execute(f"INSERT INTO questions ({into}) SELECT {values} {source}")


@MIGRATIONS()
def m0004_reminders(db: Database) -> None:
    """One row a reminder; see reminder_rows.py. Ids are never used again: they are told to agents.

    open: no `delivered_at`; `failure` says why it could not be delivered so far. A cancelled one is deleted.
    """
    db.execute(
        "CREATE TABLE IF NOT EXISTS reminders (id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL,"
        " set_by TEXT NOT NULL, message TEXT NOT NULL, set_at INTEGER NOT NULL, due_at INTEGER NOT NULL,"
        " delay INTEGER, file_path TEXT, failure TEXT, delivered_at INTEGER)"
    )
    db.execute("CREATE INDEX IF NOT EXISTS reminders_of ON reminders(owner, delivered_at)")


@MIGRATIONS()
def m0005_storms(db: Database) -> None:
    """Chains of messages that have gone on too long once, and lately sent messages of chains; see storms.py.

    `state`: `held` (the operator is asked), `open` (was released; may have `granted` hops more) or `ended` (dropped).
    """
    db.execute(
        "CREATE TABLE IF NOT EXISTS chains (chain INTEGER PRIMARY KEY, state TEXT NOT NULL,"
        " granted INTEGER NOT NULL DEFAULT 0, at INTEGER NOT NULL)"
    )
    db.execute(
        "CREATE TABLE IF NOT EXISTS pair_sends (chain INTEGER NOT NULL, low TEXT NOT NULL, high TEXT NOT NULL,"
        " at INTEGER NOT NULL)"
    )
    db.execute("CREATE INDEX IF NOT EXISTS pair_sends_of ON pair_sends(chain, low, high)")


@MIGRATIONS()
def m0006_tool_rules(db: Database) -> None:
    """One row for each tool that the operator always allows an agent; see tool_rules.py.

    `digest`, `input`: of the one input that the rule is for; empty where it is for the tool as such.
    """
    db.execute(
        "CREATE TABLE IF NOT EXISTS tool_rules (id INTEGER PRIMARY KEY AUTOINCREMENT, agent TEXT NOT NULL,"
        " tool TEXT NOT NULL, digest TEXT NOT NULL, input TEXT, allowed_at INTEGER NOT NULL,"
        " allowed_by TEXT NOT NULL, question INTEGER NOT NULL, UNIQUE (agent, tool, digest))"
    )
    db.execute("CREATE INDEX IF NOT EXISTS tool_calls ON questions(asker, about) WHERE kind = 'tool'")


@MIGRATIONS()
def m0007_turn(db: Database) -> None:
    """The turn that read a message, where whoever acked it said so."""
    if "turn" not in db.table("messages").columns_dict:
        db.execute("ALTER TABLE messages ADD COLUMN turn INTEGER")


@MIGRATIONS()
def m0008_channel(db: Database) -> None:
    """By what way the operator resolved a question."""
    if "channel" not in db.table("questions").columns_dict:
        db.execute("ALTER TABLE questions ADD COLUMN channel TEXT")


@MIGRATIONS()
def m0009_origins(db: Database) -> None:
    """What led to a question or an approval; see origins.py. `messages`: ids, as JSON."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS origins (kind TEXT NOT NULL, id INTEGER NOT NULL, at INTEGER NOT NULL,"
        " messages TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID"
    )


@MIGRATIONS()
def m0010_unacked_by_id(db: Database) -> None:
    """What is not done is found by id alone: a batch of sends changes one page of the index, not one a recipient.

    Inboxes are handed out from memory, which reads on by id; few rows are not done, so that looking through them for
    those of one recipient costs little.
    """
    db.execute("DROP INDEX IF EXISTS unacked")
    db.execute("CREATE INDEX unacked ON messages(id) WHERE acked_at IS NULL")
