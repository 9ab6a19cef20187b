"""Why an agent is at work, and how urgent what waits for it is: looks at inboxes for budgets and parked agents.

Changes nothing. The chain of a turn is that of the in-flight message with most hops, as for what the agent sends.
"""

import sqlite3
from collections.abc import Collection
from typing import Final

from hyperhive.broker.inbox import Entry, Inbox
from hyperhive.releasing import NOTHING_WAITS
from hyperhive.spending import Cause, Root

TEXT_MAX: Final = 120
_ROOT: Final = "SELECT sender, recipient, substr(body, 1, 400), sent_at FROM messages WHERE id = ?"


def cause_of(inbox: Inbox | None, among: Collection[int] | None = None) -> Cause | None:
    """What this agent works on; `among`: of these messages alone, where any of them is in flight."""
    if inbox is None or not inbox.flight:
        return None
    entries: list[Entry] = list(inbox.flight.values())
    named = [entry for entry in entries if among is not None and entry.id in among]
    worst = max(named or entries, key=lambda entry: (entry.hops, -entry.id))
    return Cause(message=worst.id, chain=worst.chain or worst.id)


def order_of(inbox: Inbox | None) -> tuple[int, int]:
    """The place among parked agents: the most urgent mail first, then the oldest. Mail in hand counts, too.

    `NOTHING_WAITS` for an agent without any.
    """
    if inbox is None:
        return NOTHING_WAITS
    known = [*inbox.head, *inbox.ahead.values(), *inbox.flight.values()]
    levels = [entry.urgency for entry in known] + [level for level, count in enumerate(inbox.tail) if count]
    if not levels:
        return NOTHING_WAITS
    return (-max(levels), min((entry.id for entry in known), default=inbox.loaded_through + 1))


def root_in(conn: sqlite3.Connection, chain: int) -> Root | None:
    """The message that a chain began with, as long as the broker keeps it."""
    row = conn.execute(_ROOT, (chain,)).fetchone()
    if row is None:
        return None
    sender, recipient, body, at = row
    words = " ".join(str(body).split())
    text = words if len(words) <= TEXT_MAX else words[: TEXT_MAX - 1] + "…"
    return Root(sender=sender, recipient=recipient, text=text, at=at)
