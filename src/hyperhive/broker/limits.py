"""`Limits`: what the broker counts to, and what it refuses or holds beyond that.

Numbers and callables only: who asks is checked in sending.py (rates, sizes, inboxes), storms.py (chains), and where
questions and reminders are made. None means that there is no such limit.
"""

from collections.abc import Callable

import msgspec

MaySend = Callable[[str, str], bool]
"""Whether this sender (first) may write to this recipient (second). Asked at every send, so a reload counts at once."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker counts to. Times are seconds; None: no such limit, which is the default of a bare broker.

    Attributes:
        dead_after: a message that failed so often by itself is given up.
        may_send: whom an agent may write to or ask. Operator and system may always, and be written to by anybody.
        sends_per_minute: messages of one agent, as a bucket that holds as many at once.
        bytes_per_minute: bytes of bodies of one agent, likewise.
        inbox_cap: messages that may wait in one inbox, whoever sends (but the system).
        open_questions: unanswered questions of one asker.
        open_reminders: reminders of one owner that are not due yet.
        reminder_gap_seconds: the least time between now, the due times and each other of one owner's reminders.
        hop_limit: messages of a chain beyond so many hops are held, until the operator lets as many more pass.
        pair_rate: messages of a chain between the same two agents within `pair_seconds`; those beyond are held.
        pair_seconds: see there.
    """

    dead_after: int = 5
    may_send: MaySend | None = None
    sends_per_minute: int | None = None
    bytes_per_minute: int | None = None
    inbox_cap: int | None = None
    open_questions: int | None = None
    open_reminders: int | None = None
    reminder_gap_seconds: int | None = None
    hop_limit: int | None = None
    pair_rate: int | None = None
    pair_seconds: int = 600
