"""What becomes of an agent whose loop ended unasked: the rules, as a pure function of times.

Restarted at once, until it is a crash loop; then tried again after pauses that double. Knows no clock and starts
nothing.
"""

from typing import Final

import msgspec

LOOP_CRASHES: Final = 5
LOOP_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 60.0
RETRY_MAX_SECONDS: Final = 3600.0


class Crashes(msgspec.Struct, frozen=True):
    """The crashes of one agent that still count. `failures`: pauses in a row, 0 while it is no crash loop."""

    times: tuple[float, ...] = ()
    failures: int = 0

    def crashed(self, now: float, started: float) -> tuple["Crashes", float]:
        """The loop that was started at `started` ended at `now` (monotonic seconds).

        Returns:
            What counts from now on, and after how many seconds it is started again; 0 is at once.
        """
        if now - started >= LOOP_SECONDS:  # it ran long enough to be a new story
            return Crashes((now,)), 0.0
        if self.failures:
            return self.failed()
        recent = (*(t for t in self.times if now - t < LOOP_SECONDS), now)
        return Crashes(recent).failed() if len(recent) >= LOOP_CRASHES else (Crashes(recent), 0.0)

    def failed(self) -> tuple["Crashes", float]:
        """It is a crash loop, or it could not even be started."""
        pause = min(RETRY_SECONDS * 2.0 ** min(self.failures, 16), RETRY_MAX_SECONDS)
        return Crashes(self.times, self.failures + 1), pause
