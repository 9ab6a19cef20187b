"""When reminders are due, and their delivery: one task that sleeps until the next one.

Without open reminders there is no task. A reminder becomes mail and is marked as delivered in one transaction, so that
no crash delivers it twice or never. What a reminder may be, and who has how many, is not asked here.

Clocks: a reminder for a time is due when the wall clock says so. One that was set to come after a while is due when the
wall clock says so, or when that while has passed on the steady clock: wherever the wall clock is put, it never comes
later than was asked for. No sleep is longer than `LOOK_SECONDS`, which is thus how late a wall clock that was put
forward, or a machine that was suspended, is noticed.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import anyio
import msgspec

from hyperhive.broker import reminder_rows
from hyperhive.broker.desk import Desk
from hyperhive.broker.reminder_rows import Due, Failed, Reminder
from hyperhive.broker.rows import Mail
from hyperhive.errors import BugError, Closed, HiveError, NotAvailable
from hyperhive.protocol.events import RemindersChanged
from hyperhive.store import Operation

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 15.0
AT_ONCE: Final = 64
"""How many are delivered in one go: enough for one commit to serve many, few enough not to hold up a send."""
RETRY_SECONDS: Final = 60.0
RETRY_MAX_SECONDS: Final = 3600.0


class StateFiles(Protocol):
    """What reminders need of the agents' directories."""

    def check(self, owner: str, path: str) -> None:
        """Raises BadRequest where `path` can be no file in this agent's state. Looks at nothing on disk."""
        ...

    async def write(self, owner: str, path: str, text: str, tag: str) -> str:
        """Writes `text` to the file `path` in the agent's own state, durably, and gives the path as the agent sees it.

        What is there already is replaced in one step, so that doing it again after a crash changes nothing. `tag` names
        this one write: no other uses it at the same time.

        Raises:
            HiveError: it cannot be written there: the disk, or a link, or no regular file in its place.
        """
        ...


class _Open(msgspec.Struct):
    """One reminder in memory. `steady_due` and `retry_at` are on the monotonic clock."""

    id: int
    owner: str
    due_at: int
    steady_due: float
    to_file: bool
    retry_at: float = 0.0
    tries: int = 0
    failure: str | None = None


class ReminderTimer:
    """The open reminders in memory, and the task that delivers them. On the loop's thread only.

    `files` writes those that go to a file.
    """

    def __init__(self, desk: Desk, files: StateFiles | None) -> None:
        self._desk = desk
        self._files = files
        self._open: dict[int, _Open] = {}
        self._owners: Counter[str] = Counter()
        self._nap: anyio.CancelScope | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._deliver_op: Operation[Due, Mail | None] = Operation(
            "deliver reminder", reminder_rows.deliver, applied=self._was_delivered
        )
        self._fail_op: Operation[Failed, None] = Operation("fail reminder", reminder_rows.fail)

    # --- what is open -----------------------------------------------------------------------------------------------

    def remember(self, reminder: Reminder) -> None:
        """A reminder is on disk; follow it up with `changed` or `look_again`."""
        clock = self._desk.clock
        steady_due = math.inf
        if reminder.delay is not None:
            left = min(reminder.due_at - clock.time(), reminder.delay)
            steady_due = clock.monotonic() + max(left, 0.0)
        self._drop(reminder.id)
        self._owners[reminder.owner] += 1
        self._open[reminder.id] = _Open(
            reminder.id,
            reminder.owner,
            reminder.due_at,
            steady_due,
            reminder.file_path is not None,
            failure=reminder.failure,
        )

    def forget(self, ids: Iterable[int]) -> None:
        """Reminders are gone from disk; follow it up with `changed`."""
        for number in ids:
            self._drop(number)

    def _drop(self, number: int) -> None:
        one = self._open.pop(number, None)
        if one is not None:
            self._owners[one.owner] -= 1

    def count_of(self, owner: str) -> int:
        """How many this owner has; does not look through all."""
        return self._owners[owner]

    def ids_of(self, owner: str) -> list[int]:
        """This owner's reminders, those that failed among them."""
        return [one.id for one in self._open.values() if one.owner == owner]

    def failure_of(self, reminder_id: int) -> str | None:
        """Why it could not be delivered, as far as this process has tried. A full disk keeps that off the row."""
        one = self._open.get(reminder_id)
        return None if one is None else one.failure

    def failing(self) -> list[tuple[int, str, str]]:
        """Those that are due and could not be delivered: number, whose, why."""
        return [(one.id, one.owner, one.failure) for one in self._open.values() if one.failure is not None]

    # --- delivering -------------------------------------------------------------------------------------------------

    def changed(self, owner: str) -> None:
        """Says so, and looks again at what is next."""
        self._desk.bus.publish(RemindersChanged(owner=owner))
        self.look_again()

    def look_again(self) -> None:
        """The task sleeps until whatever is next now."""
        if self._nap is not None:
            self._nap.cancel()
        if self._open and not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run(), name="reminders")

    async def _run(self) -> None:
        while self._open:
            due = self._due()
            if due:
                try:
                    await self._deliver(due)
                except Closed:  # the store went first
                    return
                continue
            with anyio.CancelScope() as self._nap:
                await self._desk.clock.sleep(self._pause())
            self._nap = None

    def _due(self) -> list[_Open]:
        """What is to be delivered now, in the order of its times."""
        wall, steady = self._desk.clock.time(), self._desk.clock.monotonic()
        due = [
            one
            for one in self._open.values()
            if (one.due_at <= wall or one.steady_due <= steady) and one.retry_at <= steady
        ]
        due.sort(key=lambda one: (one.due_at, one.id))
        return due[:AT_ONCE]

    def _pause(self) -> float:
        wall, steady = self._desk.clock.time(), self._desk.clock.monotonic()
        waits = (
            max(min(one.due_at - wall, one.steady_due - steady), one.retry_at - steady)
            for one in self._open.values()
        )
        return min(*waits, LOOK_SECONDS)

    async def _deliver(self, due: Sequence[_Open]) -> None:
        """Files first, then one transaction: what a crash leaves half done is done again, to the same effect."""
        jobs = []
        for one in due:
            try:
                place = await self._write(one) if one.to_file else None
            except Closed:
                raise
            except HiveError as error:
                await self._failed(one, error)
            else:
                jobs.append((one, Due(one.id, self._desk.now(), place)))
        results = await asyncio.gather(
            *(self._desk.store.submit(self._deliver_op, job) for _, job in jobs), return_exceptions=True
        )
        for (one, _), result in zip(jobs, results, strict=True):
            if isinstance(result, HiveError) and not isinstance(result, Closed):
                await self._failed(one, result)
            elif isinstance(result, BaseException):
                raise result

    async def _write(self, one: _Open) -> str | None:
        reminder = await self._desk.store.read(lambda conn: reminder_rows.one(conn, one.id))
        if reminder is None or reminder.file_path is None:  # cancelled meanwhile: nothing will be delivered
            return None
        if self._files is None:
            raise NotAvailable("nobody writes files for reminders here")
        tag = f"reminder-{one.id}"
        try:
            return await self._files.write(one.owner, reminder.file_path, reminder.message, tag)
        except HiveError:
            raise
        except Exception as bug:
            # Supervisor: whatever is wrong with one file must not stop the other reminders
            log.exception("reminder_file_not_written reminder=%s agent=%s", one.id, one.owner)
            raise BugError(f"its file could not be written: {type(bug).__name__}") from bug

    def _was_delivered(self, job: Due, mail: Mail | None) -> None:
        self._drop(job.id)
        if mail is not None:
            self._desk.mailed([mail])
            self.changed(mail.recipient)

    async def _failed(self, one: _Open, error: HiveError) -> None:
        """It stays, with the reason, and is tried again later and later, and when the broker is opened next."""
        one.tries += 1
        one.failure = str(error)
        pause = min(RETRY_SECONDS * 2 ** min(one.tries - 1, 16), RETRY_MAX_SECONDS)
        one.retry_at = self._desk.clock.monotonic() + pause
        log.warning(
            "reminder_not_delivered reminder=%s agent=%s code=%s error=%s",
            one.id,
            one.owner,
            error.wire_code,
            error.message,
        )
        try:
            await self._desk.store.submit(self._fail_op, Failed(one.id, one.failure))
        except Closed:
            raise
        except HiveError:
            log.warning("reminder_failure_not_stored reminder=%s", one.id)
        self._desk.bus.publish(RemindersChanged(owner=one.owner))

    async def aclose(self) -> None:
        """Nothing is delivered any more; what is due is delivered after the next start."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
