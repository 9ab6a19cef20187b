"""What messages have been through, as the events that told of it: read from their rows, where all of it stands.

Nothing is stored for this, so that no send pays for the history. What rows do not tell is not told: which turn it was,
and hand-outs before the last. Hands nothing out.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from hyperhive.broker import file_refs
from hyperhive.broker.bodies import cut_body
from hyperhive.protocol.events import EVENT_BODY_MAX_BYTES, Delivered, MessageState, Sent
from hyperhive.protocol.types import MessageStateName

PastEvent = tuple[int, Sent | Delivered | MessageState]
"""Unix seconds, and what happened then."""

NEWEST: Final = (
    "SELECT id, sender, recipient, substr(body, 1, ?1), length(body) > ?1, sent_at, file_refs, delivered_at, acked_at,"
    " parked, parked_at, reason FROM messages NOT INDEXED WHERE id < ?2 ORDER BY id DESC LIMIT ?3"
)
_EVERY: Final = 2**62


class PastMessage(msgspec.Struct, frozen=True):
    """One message: its id, when it was sent, and its events, in order."""

    id: int
    at: int
    events: list[PastEvent]


def newest(conn: sqlite3.Connection, before: int | None, limit: int) -> list[PastMessage]:
    """The newest messages with a smaller id than `before`, newest first."""
    rows = conn.execute(NEWEST, (EVENT_BODY_MAX_BYTES, _EVERY if before is None else before, limit))
    return [PastMessage(row[0], row[5], list(_events(row))) for row in rows]


def _events(row: tuple[object, ...]) -> Iterator[PastEvent]:
    (
        number,
        sender,
        recipient,
        start,
        longer,
        sent_at,
        refs,
        delivered_at,
        acked_at,
        parked,
        parked_at,
        why,
    ) = row
    body, cut = cut_body(str(start))
    told = {
        "id": number,
        "sender": sender,
        "recipient": recipient,
        "body": body,
        "at": sent_at,
        "file_refs": file_refs.decode(refs),  # type: ignore[arg-type]
        "cut": cut or bool(longer),
    }
    at = _number(sent_at)
    yield at, Sent(**told)  # type: ignore[arg-type]
    if delivered_at is not None:
        at = max(at, _number(delivered_at))
        yield at, Delivered(**told)  # type: ignore[arg-type]
    state: MessageStateName = "pending" if delivered_at is None else "in_flight"
    note = None
    if acked_at is not None:
        state, note, at = "acked", "dropped" if parked == "dropped" else None, max(at, _number(acked_at))
    elif parked in {"held", "dead"}:
        state = "held" if parked == "held" else "dead"
        note, at = None if why is None else str(why), max(at, _number(parked_at))
    yield at, MessageState(id=_number(number), state=state, note=note)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
