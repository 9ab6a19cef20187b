"""The one writer: a thread that owns the connection and commits whatever has queued up, in one transaction.

There is no timer: the fsync of one batch is the time in which the next one gathers. It knows nothing of what the
operations mean, and never touches the event loop but by one `call_soon_threadsafe` a batch.
"""

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.errors import BugError, Closed, HiveError, StoreFailed
from hyperhive.store.connections import connect_writer, store_failed
from hyperhive.store.jobs import AnyJob, Outcome

log = logging.getLogger(__name__)

IDLE_CHECKPOINT_SECONDS: Final = 1.0


class StoreStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the store was opened.

    `commits` changed something: under WAL and synchronous=FULL each of them is one flush (fdatasync) of the WAL.
    `checkpoints` flush the WAL and the database once more each.
    """

    jobs: int
    batches: int
    commits: int
    checkpoints: int
    failed_batches: int


Settle = Callable[[list[Outcome]], None]


class Writer:
    """Takes lists of jobs, answers with their outcomes through `settle`, which it calls in its own thread."""

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None], settle: Settle) -> None:
        self._path = path
        self._prepare = prepare
        self._settle = settle
        self._inbox: queue.SimpleQueue[Sequence[AnyJob] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[HiveError | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=f"hyperhive-writer {path.name}", daemon=True)
        self._abandoned = False
        self.jobs = self.batches = self.commits = self.checkpoints = self.failed_batches = 0

    def start(self) -> None:
        """Starts the thread and returns when the database is open. Blocks: call it in a worker thread.

        Raises:
            StoreFailed: it could not be opened or migrated.
        """
        self._thread.start()
        error = self._ready.get()
        if error is not None:
            self._thread.join()
            raise error

    def put(self, jobs: Sequence[AnyJob]) -> None:
        """Hands over jobs, in order; never blocks."""
        self._inbox.put(jobs)

    def stop(self) -> None:
        """Finishes what was handed over, closes the connection, ends the thread. Blocks."""
        self._inbox.put(None)
        self._thread.join()

    def abandon(self) -> None:
        """Ends the thread without doing what is still queued, as a crash would. For tests. Blocks."""
        self._abandoned = True
        self.stop()

    # --- in the writer's thread ---

    def _main(self) -> None:
        try:
            conn = self._open()
        except HiveError as error:
            self._ready.put(error)
            return
        except Exception as error:  # noqa: BLE001 - supervisor: whatever a migration raises is the opener's to see
            self._ready.put(StoreFailed(f"cannot open {self._path}: {type(error).__name__}: {error}"))
            return
        self._ready.put(None)
        try:
            self._serve(conn)
        finally:
            conn.close()

    def _open(self) -> sqlite3.Connection:
        conn = connect_writer(self._path)
        try:
            self._prepare(conn)
        except sqlite3.Error as error:
            conn.close()
            raise store_failed(error, f"cannot open {self._path}") from error
        except BaseException:
            conn.close()
            raise
        return conn

    def _serve(self, conn: sqlite3.Connection) -> None:
        dirty = False
        while True:
            try:
                jobs, more = self._take(IDLE_CHECKPOINT_SECONDS if dirty else None)
            except queue.Empty:
                self._checkpoint(conn)
                dirty = False
                continue
            if self._abandoned:
                self._settle([([job], [Closed("the store was abandoned")]) for job in jobs])
                return
            if jobs:
                before = self.commits
                self._settle(self._execute(conn, jobs))
                dirty = dirty or self.commits != before
            if not more:
                return

    def _take(self, timeout: float | None) -> tuple[list[AnyJob], bool]:
        """All that is queued; waits for the first. The flag is false when nothing will follow."""
        jobs: list[AnyJob] = []
        found = self._inbox.get(timeout=timeout)
        while True:
            if found is None:
                return jobs, False
            jobs.extend(found)
            try:
                found = self._inbox.get_nowait()
            except queue.Empty:
                return jobs, True

    def _execute(self, conn: sqlite3.Connection, jobs: list[AnyJob]) -> list[Outcome]:
        self.jobs += len(jobs)
        self.batches += 1
        groups = _grouped(jobs)
        try:
            return self._transaction(conn, groups)
        except Exception as error:  # noqa: BLE001 - supervisor: one bad job must not fail its neighbours
            self.failed_batches += 1
            if len(jobs) == 1:
                return [(jobs, [self._error_of(jobs[0], error)])]
        return [outcome for group in groups for job in group for outcome in self._alone(conn, job)]

    def _alone(self, conn: sqlite3.Connection, job: AnyJob) -> list[Outcome]:
        try:
            return self._transaction(conn, [[job]])
        except Exception as error:  # noqa: BLE001 - supervisor: the error is this caller's
            return [([job], [self._error_of(job, error)])]

    def _transaction(self, conn: sqlite3.Connection, groups: list[list[AnyJob]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        before = conn.total_changes
        conn.execute("BEGIN IMMEDIATE")
        try:
            for group in groups:
                operation = group[0].operation
                results = list(operation.run(conn, [job.argument for job in group]))
                if len(results) != len(group):
                    raise BugError(f"{operation.name} gave {len(results)} results for {len(group)} jobs")
                outcomes.append((group, results))
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:  # on a full disk SQLite may have rolled back by itself
                conn.execute("ROLLBACK")
            raise
        if conn.total_changes != before:
            self.commits += 1
        return outcomes

    def _error_of(self, job: AnyJob, error: Exception) -> HiveError:
        if isinstance(error, HiveError):
            return error
        if isinstance(error, sqlite3.Error):
            return store_failed(error, f"cannot store ({job.operation.name})")
        log.error("store operation %s raised", job.operation.name, exc_info=error)
        return BugError(f"the operation {job.operation.name} raised {type(error).__name__}: {error}")

    def _checkpoint(self, conn: sqlite3.Connection) -> None:
        """Off the hot path; PASSIVE waits for nobody and leaves the WAL's file in place for reuse."""
        try:
            conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self.checkpoints += 1
        except sqlite3.Error as error:
            log.warning("idle checkpoint of %s failed: %s", self._path, error)


def _grouped(jobs: list[AnyJob]) -> list[list[AnyJob]]:
    """Runs of the same operation, in order; jobs that commute come first."""
    groups: list[list[AnyJob]] = []
    commuting: dict[int, list[AnyJob]] = {}
    last: object = None
    for job in jobs:
        operation = job.operation
        if operation.commutes:
            group = commuting.get(id(operation))
            if group is None:
                commuting[id(operation)] = [job]
            else:
                group.append(job)
        elif operation is last:
            groups[-1].append(job)
        else:
            groups.append([job])
            last = operation
    return [*commuting.values(), *groups]
