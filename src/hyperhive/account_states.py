"""Limits and lost logins of accounts, kept over restarts: a hive that starts again does not try what is shut.

One row an account that is not well; who parks and who resumes is `accounts`' affair. A lost login is believed only as
long as the secret is the one that was refused: a file that was written since is tried, and so is what stands in the
environment, which is the operator's to have changed.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from hyperhive.accounts import ENV, Accounts, AccountState
from hyperhive.clock import Clock
from hyperhive.errors import Closed, HiveError
from hyperhive.store import Database, Migrations, Operation, Store

MIGRATIONS: Final = Migrations("accounts")


@MIGRATIONS()
def m0001_states(db: Database) -> None:
    """What is known of an account's health; `at`: since when."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS account_states (name TEXT PRIMARY KEY, limited_until REAL,"
        " needs_login INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID"
    )


class Health(msgspec.Struct, frozen=True):
    """One account's row."""

    name: str
    limited_until: float | None
    needs_login: bool
    at: float


class AccountStates:
    """Keeps what is known of the accounts of one hive. `restore` once, before any agent starts."""

    def __init__(self, store: Store, accounts: Accounts, clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self._keep_op: Operation[Health, None] = Operation("account state", _keep, failed=self._not_kept)

    async def restore(self) -> None:
        """The accounts are as they were when the hive ended last, as far as that still holds, and are kept from now on.

        Raises:
            StoreFailed: it cannot be read.
        """
        for row in await self._store.read(_rows):
            state = self._accounts.state(row.name)
            if row.limited_until is not None and row.limited_until > self._clock.time():
                state.limit(row.limited_until)
            if row.needs_login and await self._is_the_same(row):
                state.login_refused(state.generation)
        self._accounts.subscribe(self._changed)

    async def _is_the_same(self, row: Health) -> bool:
        """Whether the login that was refused is the one that there is."""
        if row.name == ENV:
            return False
        written = await self._accounts.stored_at(row.name)
        return written is None or written <= row.at

    def _changed(self, state: AccountState) -> None:
        health = Health(state.name, state.limited_until, state.needs_login, self._clock.time())
        self._store.defer(self._keep_op, health)

    def _not_kept(self, health: Health, error: HiveError) -> None:
        if isinstance(error, Closed):
            return
        state = self._accounts.state(health.name)
        if (state.limited_until, state.needs_login) == (health.limited_until, health.needs_login):
            self._store.defer(self._keep_op, health)  # else a newer one is on its way


def _keep(conn: sqlite3.Connection, batch: Sequence[Health]) -> list[None]:
    for one in batch:
        if one.limited_until is None and not one.needs_login:
            conn.execute("DELETE FROM account_states WHERE name = ?", (one.name,))
        else:
            row = (one.name, one.limited_until, one.needs_login, one.at)
            conn.execute("INSERT OR REPLACE INTO account_states VALUES (?,?,?,?)", row)
    return [None] * len(batch)


def _rows(conn: sqlite3.Connection) -> list[Health]:
    query = "SELECT name, limited_until, needs_login, at FROM account_states"
    return [Health(name, until, bool(needs), at) for name, until, needs, at in conn.execute(query)]
