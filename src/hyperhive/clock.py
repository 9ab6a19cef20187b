"""Time as an argument: wall clock for stamps, monotonic clock for waiting.

Nothing else in HyperHive reads the time or sleeps by itself. `hyperhive.testing.FakeClock` is the other clock.
"""

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """What every part needs of time.

    Contract: `time()` is unix seconds, UTC, and may jump in either direction; `monotonic()` is seconds that never go
    back; `sleep(s)` returns after at least `s` monotonic seconds (at once for 0 or less) and is a cancellation point.
    """

    def time(self) -> float: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds))


SYSTEM_CLOCK: Clock = SystemClock()


def unix_seconds(clock: Clock) -> int:
    """Now as it is stored and sent: whole unix seconds, UTC."""
    return int(clock.time())
