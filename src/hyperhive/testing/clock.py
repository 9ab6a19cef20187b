"""`FakeClock`: time that stands still until a test moves it.

It passes no time by itself and touches no event loop timer: whoever sleeps is woken by `advance`, in order of time.
"""

import heapq
import itertools

import anyio
from anyio.lowlevel import checkpoint

_ROUNDS = 20
"""How often the event loop goes round after each step, so that what was woken can act and sleep again."""


class FakeClock:
    """A `Clock` for tests. `wall` is what `time` starts at; `monotonic` starts at 0."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._wall = wall
        self._now = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._asleep = anyio.Event()

    def time(self) -> float:
        """Unix seconds."""
        return self._wall + self._now

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return when the clock was moved that far."""
        if seconds <= 0:
            await checkpoint()
            return
        woken = anyio.Event()
        entry = (self._now + seconds, next(self._order), woken)
        heapq.heappush(self._sleepers, entry)
        self._asleep.set()
        try:
            await woken.wait()
        finally:
            if not woken.is_set():
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)

    @property
    def sleepers(self) -> list[float]:
        """How many seconds from now each sleeper is due, soonest first."""
        return [due - self._now for due, _, _ in sorted(self._sleepers)]

    async def until_asleep(self, count: int = 1) -> None:
        """Wait (in real time) until at least `count` tasks sleep on this clock."""
        while len(self._sleepers) < count:
            self._asleep = anyio.Event()
            await self._asleep.wait()

    async def advance(self, seconds: float) -> None:
        """Move the time on, waking sleepers at their own times, each with the chance to act and sleep again."""
        end = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            woken.set()
            for _ in range(_ROUNDS):
                await checkpoint()
        self._now = end
        await checkpoint()

    def jump(self, seconds: float) -> None:
        """Set the wall clock, and only that, forwards or back."""
        self._wall += seconds
