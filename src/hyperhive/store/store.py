"""`Store`: one SQLite database, owned by this process.

Changes go through `submit` (durable when it returns) or `defer` (rides along with the next commit); reads through
`read`, on connections of their own. Runs on asyncio; nothing here blocks the loop.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast

import anyio
import anyio.to_thread
from sqlite_utils import Migrations

from hyperhive.background import callback_context
from hyperhive.clock import SYSTEM_CLOCK, Clock, unix_seconds
from hyperhive.errors import BugError, Closed, HiveError
from hyperhive.opening import Opening
from hyperhive.store.connections import Readers
from hyperhive.store.jobs import AnyJob, Deferred, Job, Operation, Outcome
from hyperhive.store.lock import OwnerLock
from hyperhive.store.migrations import migrate
from hyperhive.store.writer import StoreStatistics, Writer

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

log = logging.getLogger(__name__)

DEFER_SECONDS: Final = 0.1
"""A deferred job that no commit has come along for is written after this time."""

READERS: Final = 4


class Store:
    """One database: one owner process, one writer thread, WAL with `synchronous=FULL`.

    Guarantees: what `submit` answered survives `kill -9` and a power cut. Jobs take effect in the order in which they
    were submitted or deferred (but see `Operation.commutes`). A failing job fails only its own caller; after a full or
    read-only disk the store works again as soon as the disk does.
    """

    def __init__(self, path: Path, lock: OwnerLock) -> None:
        """Use `Store.open`."""
        self.path = path
        self.copied_to: Path | None = None
        self.settled: list[Callable[[], None]] = []
        """Called on the loop's thread after each batch's `applied` calls, before its callers wake up."""
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._context = callback_context()
        self._queued: list[AnyJob] = []
        self._flush_is_due = False
        self._defer_timer: asyncio.TimerHandle | None = None
        self._readers = Readers(path)
        self._reader_limit = anyio.CapacityLimiter(READERS)
        self._writer: Writer
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        migrations: Sequence[Migrations] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> Opening["Store"]:
        """Opens or creates the database, and migrates it.

        Before an existing database is migrated it is copied beside itself (`copied_to`).

        Raises:
            StoreLocked: another process owns it.
            StoreFailed: it cannot be opened, is newer than this program, or a migration failed.
        """
        return Opening(partial(cls._open, Path(path), tuple(migrations), clock))

    @classmethod
    async def _open(cls, path: Path, migrations: tuple[Migrations, ...], clock: Clock) -> "Store":
        lock = await anyio.to_thread.run_sync(OwnerLock, path)
        try:
            store = cls(path, lock)

            def prepare(conn: sqlite3.Connection) -> None:
                store.copied_to = migrate(conn, path, migrations, unix_seconds(clock))
                _make_durable(path)

            store._writer = Writer(path, prepare, store._settle_soon)
            await anyio.to_thread.run_sync(store._writer.start)
        except BaseException:
            lock.release()
            raise
        return store

    # --- writing ---

    def submit(self, operation: Operation[A, R], argument: A) -> asyncio.Future[R]:
        """Queues a change; await the result. Durable when it is there.

        A caller that is cancelled does not take its change back: it may have been stored or not.

        Raises (from the future):
            StoreFailed: the disk refused; nothing of this job was stored.
            HiveError: the operation refused.
            Closed: the store was closed.
        """
        if self._closing is not None:
            raise Closed(f"the store {self.path} is closed")
        future: asyncio.Future[R] = self._loop.create_future()
        self._queued.append(cast("AnyJob", Job(operation, argument, future)))
        if not self._flush_is_due:
            # In the next turn of the loop, so that all who are runnable now share the commit.
            self._flush_is_due = True
            self._loop.call_soon(self._flush)
        return future

    def defer(self, operation: Operation[A, None], argument: A) -> Deferred[A]:
        """Queues a change that nobody waits for: written with the next commit, or after `DEFER_SECONDS`.

        It takes effect before everything that is submitted later. It is lost if the process is killed before that.
        """
        if self._closing is not None:
            raise Closed(f"the store {self.path} is closed")
        job: Job[A, None] = Job(operation, argument, None)
        self._queued.append(cast("AnyJob", job))
        if not self._flush_is_due and self._defer_timer is None:
            self._defer_timer = self._loop.call_later(DEFER_SECONDS, self._flush)
        return Deferred(job)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._defer_timer is not None:
            self._defer_timer.cancel()
            self._defer_timer = None
        if self._queued:
            jobs, self._queued = self._queued, []
            for job in jobs:
                job.taken = True
            self._writer.put(jobs)

    def _settle_soon(self, outcomes: list[Outcome]) -> None:
        """In the writer's thread: one hop to the loop for the whole batch."""
        try:
            self._loop.call_soon_threadsafe(self._settle, outcomes, context=self._context)
        except RuntimeError:  # the loop was closed without closing the store: nobody is left to tell
            log.warning("%s: the event loop ended before the store was closed", self.path)

    def _settle(self, outcomes: list[Outcome]) -> None:
        for jobs, results in outcomes:
            operation = jobs[0].operation
            for index, job in enumerate(jobs):
                result = results[index]
                try:
                    if isinstance(result, HiveError):
                        if operation.failed is not None:
                            operation.failed(job.argument, result)
                    elif operation.applied is not None:
                        operation.applied(job.argument, result)
                except Exception as bug:
                    # Supervisor: a bug in one part must not leave the others' callers waiting
                    log.exception("after %s", operation.name)
                    results[index] = BugError(f"after {operation.name}: {bug}")
        for listener in self.settled:
            listener()
        for jobs, results in outcomes:
            for job, result in zip(jobs, results, strict=True):
                future = job.future
                if future is None or future.done():
                    continue
                if isinstance(result, HiveError):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    # --- reading ---

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `query` in a worker thread on a read-only connection; it sees what was committed when it began.

        Raises:
            StoreFailed: the database cannot be read.
        """
        return await anyio.to_thread.run_sync(self._readers.run, query, limiter=self._reader_limit)

    def statistics(self) -> StoreStatistics:
        """Counts since the store was opened."""
        writer = self._writer
        return StoreStatistics(
            jobs=writer.jobs,
            batches=writer.batches,
            commits=writer.commits,
            checkpoints=writer.checkpoints,
            failed_batches=writer.failed_batches,
        )

    # --- closing ---

    async def aclose(self) -> None:
        """Writes what is queued, closes the database, lets the next owner in. From any task, any number of times."""
        await self._end(self._writer.stop)

    async def abandon(self) -> None:
        """Closes without writing what is queued, as if the process had been killed at this moment. For tests."""
        if self._closing is None:
            lost, self._queued = self._queued, []
            self._settle([([job], [Closed("the store was abandoned")]) for job in lost])
        await self._end(self._writer.abandon)

    async def _end(self, stop: Callable[[], None]) -> None:
        if self._closing is not None:
            await asyncio.shield(self._closing)
            return
        self._flush()
        self._closing = self._loop.create_future()
        with anyio.CancelScope(shield=True):
            try:
                await anyio.to_thread.run_sync(stop)
                await asyncio.sleep(
                    0
                )  # the last batch's settling was queued on the loop before the thread ended
            finally:
                self._readers.close()
                self._lock.release()
                self._closing.set_result(None)


def _make_durable(path: Path) -> None:
    """The new file's directory entry: SQLite fsyncs its contents, not the directory that names it."""
    path.chmod(0o600)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
