"""`Snapshots`: the hive as its screens begin, by the contract of `seq`: read before anything else is.

What is not in memory is read in one look at the database; every list is cut, so that neither a long history nor what
agents write makes the page slow. Changes nothing, reads no agent's files.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from hyperhive.broker import Broker, listings
from hyperhive.broker.questions_sql import Begun
from hyperhive.broker.reminder_rows import Reminder as ReminderRow
from hyperhive.handlers.fitting import fitting
from hyperhive.handlers.questions import question_shown
from hyperhive.mirror import Behind
from hyperhive.names import OPERATOR
from hyperhive.protocol import replies as p
from hyperhive.protocol.screens import ForgeBehind, HiveSummary, MetaInput, Reminder, Tombstone
from hyperhive.protocol.types import Approval, ContainerView, OperatorInboxRow, TransientName

MAIL_MAX: Final = 100
BODY_CHARS: Final = 4096
QUESTIONS_MAX: Final = 200
QUESTION_BYTES: Final = 8192
REMINDERS_MAX: Final = 200
REMINDER_CHARS: Final = 200
ROOM: Final = 448 * 1024
"""Bytes that each list may take of a reply of 2 MiB."""

Row = TypeVar("Row", bound=msgspec.Struct)


class Fleet(Protocol):
    """What is needed of the lifecycle."""

    def names(self) -> Sequence[str]: ...

    def view(self, name: str) -> ContainerView: ...

    def transients(self) -> dict[str, TransientName]: ...


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the hive says of itself beside its counts."""

    revision: str
    runtime: str
    started_at: int
    low_disk: str | None = None
    warnings: tuple[str, ...] = ()
    forge_behind: tuple[ForgeBehind, ...] = ()


class Snapshots:
    """Takes them.

    Args:
        seq: the number of the newest event of the hive.
        approvals: those that are not final.
        meta_inputs: what agents are built from.
        standing: of the hive.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        fleet: Fleet,
        seq: Callable[[], int],
        approvals: Callable[[], Sequence[Approval]],
        tombstones: Callable[[], Sequence[Tombstone]],
        meta_inputs: Callable[[], Awaitable[Sequence[MetaInput]]],
        standing: Callable[[], Standing],
    ) -> None:
        self._broker = broker
        self._fleet = fleet
        self._seq = seq
        self._approvals = approvals
        self._tombstones = tombstones
        self._meta_inputs = meta_inputs
        self._standing = standing

    async def take(self) -> p.HiveSnapshot:
        """The hive now. Later frames than `seq` may be in it already; they say nothing else then."""
        seq = self._seq()
        meta_inputs = list(await self._meta_inputs())
        broker, standing = self._broker, self._standing()
        containers = [self._fleet.view(name) for name in self._fleet.names()]
        approvals = list(self._approvals())
        transients = self._fleet.transients()
        tombstones = list(self._tombstones())
        reminders = await broker.reminders.beginnings(REMINDER_CHARS, limit=REMINDERS_MAX)
        inbox, questions, dead = await broker.read(self._look)
        return p.HiveSnapshot(
            seq=seq,
            containers=containers,
            approvals=_fit(approvals),
            questions=_fit([question_shown(one.row, cut=one.cut) for one in questions]),
            inbox=_fit(inbox),
            transients=transients,
            tombstones=_fit(tombstones),
            meta_inputs=meta_inputs,
            reminders=_fit([reminder_shown(one) for one in reminders]),
            hive=HiveSummary(
                revision=standing.revision,
                runtime=standing.runtime,
                started_at=standing.started_at,
                dead=dead,
                held=broker.held_in_all(),
                operator_unread=broker.pending_now(OPERATOR),
                questions=len(broker.questions.open_now(OPERATOR)),
                low_disk=standing.low_disk,
                warnings=standing.warnings,
                forge_behind=standing.forge_behind,
            ),
        )

    def _look(self, conn: sqlite3.Connection) -> tuple[list[OperatorInboxRow], list[Begun], int]:
        return (
            listings.operator_beginnings(conn, MAIL_MAX, BODY_CHARS),
            self._broker.questions.beginnings(conn, OPERATOR, QUESTIONS_MAX, QUESTION_BYTES),
            listings.dead_count(conn),
        )


def reminder_shown(one: ReminderRow) -> Reminder:
    """A reminder as it is listed."""
    return Reminder(
        id=one.id,
        owner=one.owner,
        set_by=one.set_by,
        message=one.message,
        set_at=one.set_at,
        due_at=one.due_at,
        file_path=one.file_path,
        failure=one.failure,
    )


def forge_behind(one: Behind) -> ForgeBehind:
    """An agent whose copy is behind, as it is told."""
    return ForgeBehind(agent=one.agent, since=int(one.since), error=one.error)


def _fit(rows: list[Row]) -> list[Row]:
    return rows[: fitting(rows, ROOM)]
