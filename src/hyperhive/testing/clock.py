"""`FakeClock`: time that moves when a test says so.

Passes for a `hyperhive.clock.Clock` in every respect but that nothing ever waits for real.
"""

import heapq
import math
from itertools import count

import anyio
import anyio.lowlevel


class FakeClock:
    """Wall and monotonic time under a test's control.

    `advance` moves both and wakes sleepers in the order of their times; `jump` moves the wall clock alone, as an
    operator or NTP would. `sleep` returns only through `advance` (or at once for 0 or less).
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._time = now
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._numbers = count()
        self._somebody = anyio.Event()

    def time(self) -> float:
        """Unix seconds."""
        return self._time

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Returns once the test has advanced time by this much."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        event = anyio.Event()
        entry = (self._monotonic + seconds, next(self._numbers), event)
        heapq.heappush(self._sleepers, entry)
        self._somebody.set()
        try:
            await event.wait()
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)

    @property
    def sleepers(self) -> int:
        """How many sleep now."""
        return len(self._sleepers)

    @property
    def next_wake(self) -> float:
        """Seconds until the first sleeper's time; infinite where nobody sleeps."""
        return self._sleepers[0][0] - self._monotonic if self._sleepers else math.inf

    async def until_sleepers(self, number: int = 1) -> None:
        """Waits until at least so many sleep."""
        while len(self._sleepers) < number:
            self._somebody = anyio.Event()
            await self._somebody.wait()

    def jump(self, seconds: float) -> None:
        """Moves the wall clock alone; nobody wakes."""
        self._time += seconds

    async def advance(self, seconds: float) -> None:
        """Moves time on, and lets everyone whose time has come run before it moves further."""
        target = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, event = heapq.heappop(self._sleepers)
            self._move_to(max(due, self._monotonic))
            event.set()
            await anyio.wait_all_tasks_blocked()
        self._move_to(target)
        await anyio.wait_all_tasks_blocked()

    def _move_to(self, monotonic: float) -> None:
        self._time += monotonic - self._monotonic
        self._monotonic = monotonic
