"""`Reminders`: messages that come back later. Sets, cancels and lists them; reminder_timer.py delivers them.

It decides nothing about who may set one for whom, but for whether that name exists.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from hyperhive.broker import reminder_rows, repeats
from hyperhive.broker.bodies import check_body
from hyperhive.broker.desk import Desk
from hyperhive.broker.limits import Gate, Limits
from hyperhive.broker.reminder_rows import LATEST, Cancel, Reminder, Setting, WasSet, body_of
from hyperhive.broker.reminder_timer import ReminderTimer, StateFiles
from hyperhive.broker.repeats import Cause, Effect
from hyperhive.broker.sending import checked_principal
from hyperhive.clock import unix_seconds
from hyperhive.errors import BadRequest, HiveError, InvalidName, LimitReached, NotAvailable, NotFound
from hyperhive.names import OPERATOR, SYSTEM
from hyperhive.protocol.types import ReminderEnd
from hyperhive.store import Operation

SHOWN_CHARS: Final = 500
"""How much of a message a listing shows: a loose end says which reminder it is, not all that it says."""


class Reminders:
    """All reminders of one broker; `broker.reminders`. On the loop's thread only.

    Args:
        files: writes those that go to a file; without it they are refused.
        cause_of: the message that whoever sets one is working on: half of the repeat key.
    """

    def __init__(
        self,
        desk: Desk,
        gate: Gate,
        limits: Limits,
        directory: Callable[[str], bool] | None,
        files: StateFiles | None,
        cause_of: Callable[[str], Cause | None],
    ) -> None:
        self._desk = desk
        self._gate = gate
        self._limits = limits
        self._directory = directory
        self._files = files
        self._cause_of = cause_of
        self._timer = ReminderTimer(desk, files)
        self._set_op: Operation[Setting, WasSet] = Operation(
            "set reminder", reminder_rows.set_all, applied=self._was_set
        )
        self._find_op: Operation[Effect, int | None] = Operation("find reminder", repeats.find_results)
        self._cancel_op: Operation[Cancel, str] = Operation(
            "cancel reminder", reminder_rows.cancel, applied=lambda job, owner: self._gone(owner, [job.id])
        )
        self._purge_op: Operation[str, None] = Operation(
            "purge reminders",
            reminder_rows.purge,
            applied=lambda owner, _: self._gone(owner, self._timer.ids_of(owner)),
        )
        self._sweep_op: Operation[int, None] = Operation("sweep reminders", reminder_rows.sweep)

    async def start(self) -> None:
        """Learns from disk what is still to come. What is overdue is delivered at once, in the order of its times."""
        for reminder in await self._desk.store.read(reminder_rows.open_ones):
            self._timer.remember(reminder)
        self._timer.look_again()

    # --- setting ----------------------------------------------------------------------------------------------------

    async def set(
        self,
        by: str,
        message: str,
        *,
        delay_seconds: int | None = None,
        due_at: int | None = None,
        file_path: str | None = None,
        to: str | None = None,
        call_id: str | None = None,
    ) -> int:
        """Sets a reminder; it is durable when this returns. It comes as mail from `system`.

        Args:
            by: who sets it.
            message: what it says, as a message's body.
            delay_seconds: how long from now; or
            due_at: when (unix seconds). A time that is past means now.
            file_path: write the message to this file in the owner's state, and mail where it is. A path below the
                state, or under it as the agent sees it; a regular file that is there then is replaced.
            to: whose it is, where not the setter's own.
            call_id: an id of this one call, unique to the setter; said again, it gives the first id.

        Returns:
            Its id.

        Raises:
            BadRequest: the message, the time or the path can be none. InvalidName, NotFound: nobody of that name.
            LimitReached: the owner has too many, or one too near; or who sets it may not write so much.
            StoreFailed: the disk refused; nothing was set.
        """
        owner = self._owner(by if to is None else to)
        reminder = self._reminder(by, owner, message, delay_seconds, due_at, file_path)
        fields = [owner, message, delay_seconds, due_at, file_path]
        effect = Effect(
            sender=by,
            request="remind",
            digest=repeats.digest_of("remind", fields),
            cause=self._cause_of(by),
            call_id=call_id,
            dedupe_key=None,
            now=self._desk.steady(),
        )
        free = by == OPERATOR
        job = Setting(
            reminder=reminder,
            effect=effect,
            cap=None if free else self._limits.open_reminders,
            gap=None if free else self._limits.reminder_gap_seconds,
        )
        return await self._store_counted(job)

    async def _store_counted(self, job: Setting) -> int:
        """As far as the setter's rates go; what was set before is not refused, whatever they say."""
        by, size = job.effect.sender, len(job.reminder.message.encode())
        try:
            self._gate.take(by, size)
        except LimitReached:
            found = await self._desk.store.submit(self._find_op, job.effect)
            if found is None:
                raise
            return found
        try:
            result = await self._desk.store.submit(self._set_op, job)
        except HiveError:
            self._gate.give_back(by, size)
            raise
        if not result.new:
            self._gate.give_back(by, size)
        return result.id

    def _owner(self, name: str) -> str:
        checked_principal(name)
        if name == SYSTEM:
            raise InvalidName(name, "the system reads no mail")
        if self._directory is not None and name != OPERATOR and not self._directory(name):
            raise NotFound(f"there is no agent named {name!r}", hint="`hyperhive list` shows who there is")
        return name

    def _reminder(
        self, by: str, owner: str, message: str, delay: int | None, due_at: int | None, file_path: str | None
    ) -> Reminder:
        clock = self._desk.clock
        if (delay is None) is (due_at is None):
            raise BadRequest("a reminder takes one of delay_seconds and due_at")
        # Rounded up: never earlier than was asked for.
        due = due_at if due_at is not None else math.ceil(clock.time() + min(delay or 0, LATEST))
        if due > LATEST or due < 0:
            raise BadRequest("the reminder's time lies beyond the year 9999")
        if file_path is not None:
            if self._files is None or owner == OPERATOR:
                raise NotAvailable(f"{owner} has no state directory that a reminder could be written to")
            self._files.check(owner, file_path)
        reminder = Reminder(
            owner=owner,
            set_by=by,
            message=check_body(message),
            set_at=unix_seconds(clock),
            due_at=due,
            delay=delay,
            file_path=file_path,
        )
        if file_path is None:
            check_body(body_of(msgspec.structs.replace(reminder, id=2**63 - 1), None))
        return reminder

    def _was_set(self, job: Setting, result: WasSet) -> None:
        if result.new:
            self._timer.remember(msgspec.structs.replace(job.reminder, id=result.id))
            self._timer.changed(job.reminder.owner)

    # --- taking back ------------------------------------------------------------------------------------------------

    async def cancel(self, reminder_id: int, *, by: str, any: bool = False) -> None:  # noqa: A002 - the policy's word
        """Deletes a reminder that was not delivered.

        Raises:
            NotFound: there is none of this id (any more). Forbidden: it is another's, and `any` was not given.
        """
        await self._desk.store.submit(self._cancel_op, Cancel(reminder_id, by, any))

    async def purge(self, owner: str) -> None:
        """Deletes all reminders of one owner, who will never come back."""
        await self._desk.store.submit(self._purge_op, owner)

    async def sweep(self, before: int) -> None:
        """Forgets what was delivered before this time (unix seconds)."""
        await self._desk.store.submit(self._sweep_op, before)

    def _gone(self, owner: str, ids: Sequence[int]) -> None:
        self._timer.forget(ids)
        self._timer.changed(owner)

    # --- looking ----------------------------------------------------------------------------------------------------

    def pending_now(self, owner: str) -> int:
        """How many of this owner's are still to come, those that failed among them."""
        return self._timer.count_of(owner)

    def cautions(self) -> list[str]:
        """What `status` says of those that cannot be delivered."""
        return [
            f"reminder {number} of {owner} cannot be delivered: {why}; `hyperhive reminders --cancel {number}`"
            for number, owner, why in self._timer.failing()
        ]

    async def open(self, owner: str | None = None) -> list[Reminder]:
        """What is still to come, of one owner or of all, in the order in which it is due."""
        found = await self._desk.store.read(lambda conn: reminder_rows.open_ones(conn, owner))
        return [self._with_failure(one) for one in found]

    async def beginnings(self, chars: int, owner: str | None = None, *, limit: int = -1) -> list[Reminder]:
        """As `open`, the next `limit` of them (-1: all), and of each message no more than so many characters."""
        found = await self._desk.store.read(lambda conn: reminder_rows.beginnings(conn, chars, owner, limit))
        return [self._with_failure(one) for one in found]

    async def loose_ends(self, owner: str | None = None) -> list[ReminderEnd]:
        """The same as loose ends; a long message is shortened."""
        now = self._desk.now()
        return [
            ReminderEnd(
                id=one.id,
                owner=one.owner,
                message=one.message if len(one.message) <= SHOWN_CHARS else f"{one.message[:SHOWN_CHARS]}…",
                due_at=one.due_at,
                age_seconds=max(0, now - one.set_at),
                failure=one.failure,
            )
            for one in await self.beginnings(SHOWN_CHARS + 1, owner)
        ]

    def _with_failure(self, reminder: Reminder) -> Reminder:
        failure = self._timer.failure_of(reminder.id) or reminder.failure
        return msgspec.structs.replace(reminder, failure=failure)

    async def aclose(self) -> None:
        """Nothing is delivered any more; what is due is delivered after the next start."""
        await self._timer.aclose()
