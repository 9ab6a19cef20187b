"""`ReleaseLine`: agents that were parked together go on one after the other, the most urgent first.

Whoever parks agents (an account at its limit, a budget that is used up) has one. It waits for nobody: it says when
each may go.
"""

from collections.abc import Callable, Iterable
from typing import Final

STAGGER_SECONDS: Final = 2.0
"""Agents that were parked by one cause come back this far apart."""

Order = tuple[int, int]
"""What is smaller goes first: the negative urgency of what waits for an agent, then its oldest message's number."""
NOTHING_WAITS: Final[Order] = (1, 0)
"""The place of an agent that has no mail: it may go at any time, as it starts nothing."""
OrderOf = Callable[[str], Order]


class ReleaseLine:
    """Times are of a monotonic clock, in seconds."""

    def __init__(self, order: OrderOf = lambda _: (0, 0), gap: float = STAGGER_SECONDS) -> None:
        self.order = order
        self._gap = gap
        self._parked: dict[str, None] = {}
        self._due: dict[str, float] = {}
        self._next = 0.0

    @property
    def parked(self) -> tuple[str, ...]:
        """Who may not go yet and has no time, in the order in which they came."""
        return tuple(self._parked)

    def park(self, agent: str) -> None:
        """This agent may not go on now; a time that it was given is void."""
        self._due.pop(agent, None)
        self._parked.setdefault(agent)

    def leave(self, agent: str) -> None:
        """This agent does not wait any more: it was stopped."""
        self._parked.pop(agent, None)
        self._due.pop(agent, None)

    def release(self, agents: Iterable[str], now: float) -> None:
        """What parked these is over: each gets its time, one after the other."""
        free = [(self.order(agent), agent) for agent in agents if agent in self._parked]
        for order, agent in sorted(free, key=lambda one: one[0]):
            del self._parked[agent]
            if order != NOTHING_WAITS:
                self._due[agent] = max(now, self._next)
                self._next = self._due[agent] + self._gap

    def wait(self, agent: str, now: float) -> float:
        """How many seconds this agent has to wait from now on; 0 for one that was not parked, or whose time has come.

        Whoever is parked and asks this is released, with all others that are.
        """
        if agent in self._parked:
            self.release(self.parked, now)
        due = self._due.get(agent, now)
        if due <= now:
            self._due.pop(agent, None)
        return max(0.0, due - now)
