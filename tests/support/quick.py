"""Property tests that start event loops: fewer examples on push than the profile has, all of them in a campaign."""

from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, settings

from hyperhive.testing.clock import FakeClock

PUSH = 100
"""Examples of the push profile; a campaign has far more."""


def examples(count: int) -> settings:
    """So many examples on push."""
    campaign = settings.default is not None and settings.default.max_examples > PUSH
    return settings(
        max_examples=settings.default.max_examples if campaign and settings.default else count,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


class QuickClock(FakeClock):
    """A FakeClock for tests without threads and processes: it waits for nobody but tasks that can go on at once."""

    async def advance(self, seconds: float) -> None:
        target = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= target:
            self._move_to(max(self._sleepers[0][0], self._monotonic))
            self._sleepers.pop(0)[2].set()
            self._sleepers.sort()
            await self._settle()
        self._move_to(target)
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        for _ in range(20):
            await checkpoint()
