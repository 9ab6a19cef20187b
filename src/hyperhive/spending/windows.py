"""The windows that budgets count in: hours and days of UTC, and what was spent in each. Pure, and in memory.

Windows are fixed stretches of the calendar, so a clock that jumps only changes which window is now: what was spent in a
window stays spent there, however often the clock comes back to it.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Literal

from hyperhive.spending.usage import Total

WindowName = Literal["hour", "day"]
SECONDS: Final[dict[WindowName, int]] = {"hour": 3600, "day": 86400}
KEPT: Final[dict[WindowName, int]] = {"hour": 48, "day": 8}
"""How many windows of a kind are remembered; more than a clock that is put right moves over."""


def start_of(window: WindowName, at: float) -> int:
    """When the window that holds this time began (unix seconds)."""
    return int(at) // SECONDS[window] * SECONDS[window]


def end_of(window: WindowName, start: int) -> int:
    """When a window is over."""
    return start + SECONDS[window]


class Sums:
    """What each scope spent in each of the last windows."""

    def __init__(self) -> None:
        self._totals: dict[WindowName, dict[int, dict[str, Total]]] = {"hour": {}, "day": {}}

    def add(self, scopes: Iterable[str], at: float, tokens: int, nano: int, requests: int = 1) -> None:
        """Count this in for each of these scopes."""
        for window in SECONDS:
            totals = self._window(window, start_of(window, at))
            for scope in scopes:
                totals[scope].add(tokens, nano, requests)

    def get(self, scope: str, window: WindowName, at: float) -> Total:
        """What a scope spent in the window that holds this time."""
        totals = self._totals[window].get(start_of(window, at))
        return totals.get(scope, _NOTHING) if totals is not None else _NOTHING

    def scopes(self, window: WindowName, at: float) -> list[str]:
        """Who spent anything in the window that holds this time."""
        return sorted(self._totals[window].get(start_of(window, at), {}))

    def _window(self, window: WindowName, start: int) -> dict[str, Total]:
        kept = self._totals[window]
        if start not in kept:
            kept[start] = defaultdict(Total)
            while len(kept) > KEPT[window]:
                del kept[min(key for key in kept if key != start)]
        return kept[start]


_NOTHING: Final = Total()
