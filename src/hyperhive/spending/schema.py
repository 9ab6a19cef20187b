"""The tables of what was spent, as migrations. Only `hyperhive.spending` writes them."""

from typing import Final

from hyperhive.store import Database, Migrations

MIGRATIONS: Final = Migrations("spending")


@MIGRATIONS()
def m0001_spending(db: Database) -> None:
    """One row a metered request (or turn), a rollup by agent and day that is kept, and where each chain began."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS spending (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,"
        " agent TEXT NOT NULL, account TEXT NOT NULL, source TEXT NOT NULL, model TEXT NOT NULL,"
        " input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cache_read_input_tokens INTEGER NOT NULL,"
        " cache_creation_input_tokens INTEGER NOT NULL, cost_nano INTEGER NOT NULL, priced_as TEXT,"
        " complete INTEGER NOT NULL, message INTEGER, chain INTEGER, turn INTEGER, key TEXT)"
    )
    db.execute("CREATE INDEX IF NOT EXISTS spending_at ON spending(at)")
    db.execute("CREATE INDEX IF NOT EXISTS spending_agent ON spending(agent, at)")
    db.execute("CREATE INDEX IF NOT EXISTS spending_account ON spending(account, at)")
    db.execute("CREATE INDEX IF NOT EXISTS spending_chain ON spending(chain) WHERE chain IS NOT NULL")
    db.execute("CREATE UNIQUE INDEX IF NOT EXISTS spending_key ON spending(agent, key) WHERE key IS NOT NULL")
    db.execute("CREATE INDEX IF NOT EXISTS spending_no_turn ON spending(agent, at) WHERE turn IS NULL")
    db.execute(
        "CREATE TABLE IF NOT EXISTS spending_days (day INTEGER NOT NULL, agent TEXT NOT NULL,"
        " tokens INTEGER NOT NULL, cost_nano INTEGER NOT NULL, requests INTEGER NOT NULL,"
        " PRIMARY KEY (day, agent)) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE IF NOT EXISTS spending_chains (chain INTEGER PRIMARY KEY, sender TEXT NOT NULL,"
        " recipient TEXT NOT NULL, text TEXT NOT NULL, at INTEGER NOT NULL)"
    )


@MIGRATIONS()
def m0002_grants(db: Database) -> None:
    """What the operator added to a budget for one window, and what was asked about it."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS budget_grants (scope TEXT NOT NULL, span TEXT NOT NULL, start INTEGER NOT NULL,"
        " raises INTEGER NOT NULL, tokens INTEGER, raises_then INTEGER NOT NULL DEFAULT 0,"
        " PRIMARY KEY (scope, span, start)) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE IF NOT EXISTS budget_questions (scope TEXT NOT NULL, span TEXT NOT NULL,"
        " start INTEGER NOT NULL, raises INTEGER NOT NULL, question INTEGER NOT NULL, answer TEXT,"
        " done INTEGER NOT NULL, PRIMARY KEY (scope, span, start, raises)) WITHOUT ROWID"
    )
