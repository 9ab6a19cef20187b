"""How long to wait before the next try: doubling, bounded, with jitter. Pure.

Randomness is an argument. This file waits for nothing.
"""

from collections.abc import Callable

Random = Callable[[], float]
"""Gives numbers from 0 (inclusive) to 1 (exclusive), as `random.random` does."""


class Backoff:
    """Counts failures in a row and gives the pause after each.

    The n-th pause is `first * 2**(n-1)` seconds, at most `longest`, less up to a quarter of it by jitter, so that
    agents that failed together do not come back together. `reset` after a success.
    """

    def __init__(self, first: float, longest: float, random: Random) -> None:
        self._first = first
        self._longest = longest
        self._random = random
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def next_seconds(self) -> float:
        """Note one more failure and give the pause after it."""
        self._failures += 1
        # Doubling stops long before the float would: 2**60 times any pause is past `longest`.
        full = min(self._longest, self._first * 2.0 ** min(self._failures - 1, 60))
        return full * (1 - 0.25 * self._random())

    def reset(self) -> None:
        """A success: the next failure starts over."""
        self._failures = 0
