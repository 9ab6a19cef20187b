"""What was spent, in SQL: store, number, seed, report, forget. Run by the store; nothing here decides anything."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from hyperhive.spending.usage import Root

KEEP_SECONDS: Final = 90 * 86400

RootIn = Callable[[sqlite3.Connection, int], Root | None]
"""The first message of a chain, read on the connection given; None where it is not known (any more)."""


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `key`: names the charge, so that it counts once however often it is asked for."""

    at: int
    agent: str
    account: str
    source: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    cost_nano: int
    priced_as: str | None
    complete: bool
    message: int | None
    chain: int | None
    turn: int | None
    key: str | None

    @property
    def tokens(self) -> int:
        """All four counts together."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_read_input_tokens
            + self.cache_creation_input_tokens
        )


class Numbered(msgspec.Struct, frozen=True, kw_only=True):
    """What this agent spent since `since` and until now belongs to this turn."""

    agent: str
    turn: int
    since: int


class ChainRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one chain of messages cost, over all agents that it reached."""

    chain: int
    tokens: int
    cost_nano: int
    requests: int
    agents: tuple[str, ...]
    first_at: int
    last_at: int
    root: Root | None


class DayRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent spent on one day (`day`: when it began)."""

    day: int
    agent: str
    tokens: int
    cost_nano: int
    requests: int


_COLUMNS: Final = tuple(field.name for field in msgspec.structs.fields(Charge))
_INSERT: Final = (
    f"INSERT OR IGNORE INTO spending ({', '.join(_COLUMNS)})"  # noqa: S608
    f" VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
)
_DAY: Final = (
    "INSERT INTO spending_days (day, agent, tokens, cost_nano, requests) VALUES (?,?,?,?,1)"
    " ON CONFLICT (day, agent) DO UPDATE SET tokens = tokens + excluded.tokens,"
    " cost_nano = cost_nano + excluded.cost_nano, requests = requests + 1"
)
_SUM: Final = "sum(input_tokens + output_tokens + cache_read_input_tokens + cache_creation_input_tokens)"
_NUMBER: Final = (
    "UPDATE spending SET turn = ?1 WHERE agent = ?2 AND turn IS NULL AND at >= ?3 AND source = 'gateway'"
)
_HOURS: Final = (
    f"SELECT agent, at / 3600 * 3600, {_SUM}, sum(cost_nano), count(*) FROM spending"  # noqa: S608
    " INDEXED BY spending_at WHERE at >= ? GROUP BY 1, 2"
)
_KEYS: Final = "SELECT agent, key FROM spending WHERE key IS NOT NULL AND at >= ? ORDER BY id"
_CHAINS: Final = (
    f"SELECT chain, {_SUM}, sum(cost_nano), count(*), min(at), max(at), group_concat(DISTINCT agent)"  # noqa: S608
    " FROM spending INDEXED BY {index} WHERE at >= ?1 AND chain IS NOT NULL{only}"
    " GROUP BY chain ORDER BY 3 DESC, 2 DESC, chain DESC LIMIT ?2"
)
_ROOT: Final = "SELECT sender, recipient, text, at FROM spending_chains WHERE chain = ?"


def charge(roots: RootIn | None) -> Callable[[sqlite3.Connection, Sequence[Charge]], list[None]]:
    """The operation that stores charges; `roots` finds where a chain began, when it is first charged."""

    def run(conn: sqlite3.Connection, batch: Sequence[Charge]) -> list[None]:
        for row in batch:
            if conn.execute(_INSERT, msgspec.structs.asdict(row)).rowcount == 0:
                continue  # it was stored before
            conn.execute(_DAY, (row.at // 86400 * 86400, row.agent, row.tokens, row.cost_nano))
            if row.chain is not None and roots is not None:
                _remember_root(conn, row.chain, roots)
        return [None] * len(batch)

    return run


def _remember_root(conn: sqlite3.Connection, chain: int, roots: RootIn) -> None:
    if conn.execute(_ROOT, (chain,)).fetchone() is not None:
        return
    root = roots(conn, chain)
    if root is not None:
        row = (chain, root.sender, root.recipient, root.text, root.at)
        conn.execute("INSERT INTO spending_chains VALUES (?,?,?,?,?)", row)


def number(conn: sqlite3.Connection, batch: Sequence[Numbered]) -> list[None]:
    """Says which turn metered requests belonged to."""
    conn.executemany(_NUMBER, [(one.turn, one.agent, one.since) for one in batch])
    return [None] * len(batch)


def forget(conn: sqlite3.Connection, batch: Sequence[int]) -> list[int]:
    """Removes rows from before these times; the sums by day, and where chains of kept rows began, stay."""
    removed = []
    for before in batch:
        removed.append(conn.execute("DELETE FROM spending WHERE at < ?", (before,)).rowcount)
        conn.execute(
            "DELETE FROM spending_chains WHERE at < ?1"
            " AND NOT EXISTS (SELECT 1 FROM spending WHERE spending.chain = spending_chains.chain)",
            (before,),
        )
        conn.execute("DELETE FROM budget_grants WHERE start < ?", (before,))
        conn.execute("DELETE FROM budget_questions WHERE start < ?", (before,))
    return removed


def hours(conn: sqlite3.Connection, since: int) -> list[tuple[str, int, int, int, int]]:
    """Agent, hour, tokens, nano-dollars and requests, since then."""
    return [tuple(row) for row in conn.execute(_HOURS, (since,))]


def keys(conn: sqlite3.Connection, since: int) -> list[tuple[str, str]]:
    """Agents and the keys of their charges since then, oldest first."""
    return [(agent, key) for agent, key in conn.execute(_KEYS, (since,))]


def chains(conn: sqlite3.Connection, since: int, agent: str | None, limit: int) -> list[ChainRow]:
    """The dearest chains since then, of one agent's spending or of all, dearest first."""
    query = _CHAINS.format(
        index="spending_at" if agent is None else "spending_agent",
        only="" if agent is None else " AND agent = ?3",
    )
    arguments = (since, limit) if agent is None else (since, limit, agent)
    return [
        ChainRow(
            chain=chain,
            tokens=tokens,
            cost_nano=nano,
            requests=requests,
            first_at=first,
            last_at=last,
            agents=tuple(sorted(agents.split(","))),
            root=root_of(conn, chain),
        )
        for chain, tokens, nano, requests, first, last, agents in conn.execute(query, arguments)
    ]


def root_of(conn: sqlite3.Connection, chain: int) -> Root | None:
    """Where a chain that was charged began."""
    row = conn.execute(_ROOT, (chain,)).fetchone()
    return None if row is None else Root(sender=row[0], recipient=row[1], text=row[2], at=row[3])


def days(conn: sqlite3.Connection, since: int, agent: str | None) -> list[DayRow]:
    """Spending by day and agent, newest day first."""
    only, arguments = ("", (since,)) if agent is None else (" AND agent = ?", (since, agent))
    query = (
        f"SELECT day, agent, tokens, cost_nano, requests FROM spending_days WHERE day >= ?{only}"  # noqa: S608
        " ORDER BY day DESC, agent"
    )
    return [
        DayRow(day=day, agent=name, tokens=tokens, cost_nano=nano, requests=requests)
        for day, name, tokens, nano, requests in conn.execute(query, arguments)
    ]
