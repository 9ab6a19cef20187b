"""When those who wait give up, and what is due runs out: one timer for all of a kind, on the broker's clock.

Knows things with a deadline; what happens to one whose time is up is the caller's function.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import anyio

from hyperhive.clock import Clock


class Timed(Protocol):
    """Something that waits until `deadline` (monotonic seconds, infinite for ever). Compared by identity."""

    @property
    def deadline(self) -> float: ...


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """Calls `expire(waiter)` on the loop's thread once the monotonic clock has reached the waiter's deadline.

    A waiter that is done earlier is taken out by `discard`. While nobody waits, nothing runs.
    """

    def __init__(self, clock: Clock, expire: Callable[[T], None]) -> None:
        self._clock = clock
        self._expire = expire
        self._waiting: dict[T, None] = {}
        self._armed_for = math.inf
        self._nap: anyio.CancelScope | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, waiter: T) -> None:
        """From now on this waiter's time runs."""
        if waiter.deadline == math.inf:
            return
        self._waiting[waiter] = None
        if waiter.deadline < self._armed_for:
            self._armed_for = waiter.deadline
            if self._nap is not None:
                self._nap.cancel()
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._run(), name="broker deadlines")

    def discard(self, waiter: T) -> None:
        """This waiter is done. The timer is not wound back: it finds nothing to do."""
        self._waiting.pop(waiter, None)

    async def _run(self) -> None:
        while self._waiting:
            with anyio.CancelScope() as self._nap:
                await self._clock.sleep(self._armed_for - self._clock.monotonic())
            self._nap = None
            now = self._clock.monotonic()
            for waiter in [one for one in self._waiting if one.deadline <= now]:
                del self._waiting[waiter]
                self._expire(waiter)
            self._armed_for = min((one.deadline for one in self._waiting), default=math.inf)

    async def aclose(self) -> None:
        """Stops the timer; nobody is called any more."""
        self._waiting.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
