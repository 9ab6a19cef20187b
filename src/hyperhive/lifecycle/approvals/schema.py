"""The tables of approvals, of decisions, and of what each agent runs. Only this package and `deploy` write them.

`audit` can only grow: triggers refuse every other change, also by whoever has the database open by mistake.
"""

from typing import Final

from hyperhive.store import Database, Migrations

MIGRATIONS: Final = Migrations("approvals")


@MIGRATIONS()
def m0001_approvals(db: Database) -> None:
    """One row an approval.

    `stage` is the tag word, or `draft` while its commit is imported; `told` is 0 while it is final and its requester
    does not know yet (see `rows.UNTOLD`); `attempts` counts how often its deploy was begun.
    """
    db.execute(
        "CREATE TABLE IF NOT EXISTS approvals (id INTEGER PRIMARY KEY AUTOINCREMENT, agent TEXT NOT NULL,"
        " kind TEXT NOT NULL, sha TEXT NOT NULL DEFAULT '', base TEXT NOT NULL DEFAULT '',"
        " diff_sha256 TEXT NOT NULL DEFAULT '', stage TEXT NOT NULL, requested_at INTEGER NOT NULL,"
        " requested_by TEXT NOT NULL, resolved_at INTEGER, resolved_by TEXT, note TEXT,"
        " attempts INTEGER NOT NULL DEFAULT 0, told INTEGER NOT NULL DEFAULT 1)"
    )
    db.execute(
        "CREATE INDEX IF NOT EXISTS approvals_open ON approvals(agent)"
        " WHERE stage IN ('draft', 'proposal', 'approved', 'building')"
    )
    db.execute("CREATE INDEX IF NOT EXISTS approvals_untold ON approvals(id) WHERE told = 0")


@MIGRATIONS()
def m0002_audit(db: Database) -> None:
    """Every decision, for good."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,"
        " approval INTEGER NOT NULL, agent TEXT NOT NULL, action TEXT NOT NULL, who TEXT NOT NULL,"
        " channel TEXT NOT NULL, sha TEXT NOT NULL, diff_sha256 TEXT NOT NULL, why TEXT)"
    )
    for change in ("UPDATE", "DELETE"):
        db.execute(
            f"CREATE TRIGGER IF NOT EXISTS audit_no_{change.lower()} BEFORE {change} ON audit"
            " BEGIN SELECT RAISE(ABORT, 'the audit table can only grow'); END"
        )
    # INSERT OR REPLACE would delete a row without the trigger above.
    db.execute(
        "CREATE TRIGGER IF NOT EXISTS audit_no_replace BEFORE INSERT ON audit"
        " WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
        " BEGIN SELECT RAISE(ABORT, 'the audit table can only grow'); END"
    )


@MIGRATIONS()
def m0003_deployments(db: Database) -> None:
    """What was deployed, in order; an agent's newest row is what it runs. `config`: its agent.toml, as JSON."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS deployments (seq INTEGER PRIMARY KEY AUTOINCREMENT, agent TEXT NOT NULL,"
        " number INTEGER NOT NULL, sha TEXT NOT NULL, config TEXT NOT NULL, at INTEGER NOT NULL,"
        " UNIQUE (agent, number))"
    )


@MIGRATIONS()
def m0004_revisions(db: Database) -> None:
    """Which revision of the hive built what an agent runs; empty where that was not written down yet."""
    db.execute("ALTER TABLE deployments ADD COLUMN revision TEXT NOT NULL DEFAULT ''")
