"""What follows from a question that was asked or resolved, once that is committed: memory, mail, events.

All of it happens on the loop's thread. Decides nothing, and writes nothing down.
"""

from collections.abc import Callable, Iterable

from hyperhive.broker.desk import Desk
from hyperhive.broker.inbox import Entry
from hyperhive.broker.questions_changes import Close, Posted, Resolve, Resolved
from hyperhive.broker.questions_sql import QuestionRow
from hyperhive.broker.questions_views import QuestionViews
from hyperhive.protocol.events import QuestionAdded, QuestionResolved


class QuestionNews(QuestionViews):
    """Questions whose changes are told of."""

    def __init__(self, desk: Desk, expire: Callable[[int], None]) -> None:
        super().__init__(desk, expire)
        self.changed: list[Callable[[str], None]] = []
        """Called on the loop's thread with the names concerned, when a question was asked or resolved."""

    def announce(self, rows: Iterable[QuestionRow]) -> None:
        """Questions were stored by `raise_in`, and their transaction is committed. On the loop's thread."""
        for row in rows:
            self._added(row)

    def _added(self, row: QuestionRow) -> None:
        if row.id in self._open or row.answered_at is not None:
            return
        self._open.remember(row)
        self._desk.bus.publish(
            QuestionAdded(
                id=row.id,
                asker=row.asker,
                target=row.target,
                question=row.question,
                options=row.options,
                multi=row.multi,
                tool=row.tool,
                asked_at=row.asked_at,
                expires_at=row.expires_at,
            )
        )
        self._say_changed(row)

    def _resolved(self, job: Resolve, resolved: Resolved) -> None:
        del job
        self._follow(resolved)

    def _closed_all(self, job: Close, closed: list[Resolved]) -> None:
        del job
        for resolved in closed:
            self._follow(resolved)

    def _follow(self, resolved: Resolved) -> None:
        row = resolved.row
        self._post(resolved.posted)
        self._desk.bus.publish(
            QuestionResolved(
                id=row.id, answer=row.answer or "", answerer=row.answerer or "", channel=row.channel
            )
        )
        self._open.forget(row.id)
        self._say_changed(row)
        if resolved.errand is not None:
            resolved.errand.carried_out(row, resolved.result)

    def _post(self, posted: Posted | None) -> None:
        if posted is not None:
            mail = posted.message
            chain = mail.chain or posted.id
            entry = Entry(posted.id, mail.sender, mail.body, mail.at, mail.urgency, 0, 0, mail.hops, chain)
            self._desk.arrived(mail.recipient, entry)

    def _say_changed(self, row: QuestionRow) -> None:
        for listener in self.changed:
            for name in (row.asker, row.target):
                if name:
                    listener(name)
