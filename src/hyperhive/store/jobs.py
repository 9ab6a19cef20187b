"""What callers hand to the writer: operations and jobs.

An operation is a function over a batch of arguments, made once and used often, so that the writer can see which jobs
belong together. Nothing here runs anything.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from hyperhive.errors import HiveError

A = TypeVar("A")
R = TypeVar("R")


class Operation(Generic[A, R]):
    """A change to the database, for many callers at once.

    Args:
        name: for messages and statistics.
        run: called in the writer's thread inside a transaction, with the arguments of consecutive jobs in order;
            gives one result each. A `HiveError` as a result refuses that one caller (who must have changed nothing by
            then). To raise fails the batch, which is then run again one by one, so `run` must keep no state.
        applied: called on the loop's thread after the commit, in the order of execution, even where the caller has
            been cancelled, before any caller wakes up.
        failed: called on the loop's thread in place of `applied` where nothing was stored.
        commutes: jobs of this operation may be moved to the front of their batch. For inserts that nothing else in
            the same batch can know of.
    """

    __slots__ = ("applied", "commutes", "failed", "name", "run")

    def __init__(
        self,
        name: str,
        run: Callable[[sqlite3.Connection, Sequence[A]], Sequence[R | HiveError]],
        *,
        applied: Callable[[A, R], None] | None = None,
        failed: Callable[[A, HiveError], None] | None = None,
        commutes: bool = False,
    ) -> None:
        self.name = name
        self.run = run
        self.applied = applied
        self.failed = failed
        self.commutes = commutes


class Job(Generic[A, R]):
    """One argument on its way, with the future of whoever waits for it (none for a deferred one)."""

    __slots__ = ("argument", "future", "operation", "taken")

    def __init__(self, operation: Operation[A, R], argument: A, future: asyncio.Future[R] | None) -> None:
        self.operation = operation
        self.argument = argument
        self.future = future
        self.taken = False


class Deferred(Generic[A]):
    """A job that nobody waits for. Until it is `taken`, its argument may still be changed on the loop's thread."""

    __slots__ = ("_job",)

    def __init__(self, job: Job[A, None]) -> None:
        self._job = job

    @property
    def argument(self) -> A:
        """The argument, as it will be (or was) stored."""
        return self._job.argument

    @property
    def taken(self) -> bool:
        """The writer has it: too late to change anything."""
        return self._job.taken


AnyJob = Job[object, object]
Outcome = tuple[list[AnyJob], list[object]]
"""Jobs of one operation, and for each its result, or the `HiveError` that its caller gets."""
