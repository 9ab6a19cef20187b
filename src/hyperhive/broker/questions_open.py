"""The open questions in memory: who asked whom, when each expires, and who waits for its answer. No text.

Follows the rows. One timer sleeps until the next expiry, on the clock that does not jump; what expires is somebody
else's business.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import Final

from hyperhive.broker.deadlines import Deadlines
from hyperhive.broker.questions_sql import QuestionRow
from hyperhive.clock import Clock

RETRY_SECONDS: Final = 5.0


class OpenQuestion:
    """A question that nobody has resolved. `deadline`: when it expires, on the monotonic clock."""

    __slots__ = ("asker", "deadline", "id", "kind", "target", "waiting")

    def __init__(self, row: QuestionRow, deadline: float) -> None:
        self.id = row.id
        self.asker = row.asker
        self.target = row.target
        self.kind = row.kind
        self.deadline = deadline
        self.waiting: list[Poll] = []


class Poll:
    """Somebody who waits for the resolution of a question."""

    __slots__ = ("deadline", "future")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """It is resolved, or the time is up."""
        if not self.future.done():
            self.future.set_result(None)


class OpenQuestions:
    """All of them. On the loop's thread only."""

    def __init__(self, clock: Clock, expire: Callable[[int], None]) -> None:
        """`expire`: told the id of a question whose time is up."""
        self._clock = clock
        self._by_id: dict[int, OpenQuestion] = {}
        self._between: Counter[tuple[str, str]] = Counter()
        """How many are open, by asker and target."""
        self._expiries: Deadlines[OpenQuestion] = Deadlines(clock, lambda known: expire(known.id))
        self._polls: Deadlines[Poll] = Deadlines(clock, Poll.end)
        self._closed = False

    def __contains__(self, number: int) -> bool:
        return number in self._by_id

    def find(self, target: str | None, asker: str | None) -> list[OpenQuestion]:
        """Those to this target and of this asker (None: anybody), oldest first."""
        return [
            known
            for known in self._by_id.values()
            if target in (None, known.target) and asker in (None, known.asker)
        ]

    def between(self, asker: str, target: str) -> int:
        """How many this asker has to this target. Does not look through all."""
        return self._between[asker, target]

    def remember(self, row: QuestionRow) -> None:
        """This one is open."""
        deadline = math.inf
        if row.expires_at is not None:
            # The wall clock may have been put back since: nothing waits for longer than it was to wait at first.
            left = min(row.expires_at - self._clock.time(), row.expires_at - row.asked_at)
            deadline = self._clock.monotonic() + left
        if row.id not in self._by_id:
            self._between[row.asker, row.target] += 1
        known = self._by_id[row.id] = OpenQuestion(row, deadline)
        self._expiries.add(known)

    def forget(self, number: int) -> None:
        """This one is resolved: whoever waits for that is told."""
        known = self._by_id.pop(number, None)
        if known is not None:
            self._between[known.asker, known.target] -= 1
            self._expiries.discard(known)
            for poll in known.waiting:
                poll.end()

    def expire_later(self, number: int) -> bool:
        """Its expiry could not be stored: it is tried again, soon. False where it is open no more."""
        known = self._by_id.get(number)
        if known is None or self._closed:
            return False
        known.deadline = self._clock.monotonic() + RETRY_SECONDS
        self._expiries.add(known)
        return True

    async def wait(self, number: int, seconds: float) -> None:
        """Returns when this question is resolved, or not open at all, or the time is up."""
        known = self._by_id.get(number)
        if known is None or seconds <= 0 or self._closed:
            return
        poll = Poll(self._clock.monotonic() + seconds)
        known.waiting.append(poll)
        self._polls.add(poll)
        try:
            await poll.future
        finally:
            self._polls.discard(poll)
            known.waiting.remove(poll)

    async def aclose(self) -> None:
        """Nothing expires any more, and whoever waits does so no longer."""
        self._closed = True
        await self._expiries.aclose()
        await self._polls.aclose()
        for known in self._by_id.values():
            for poll in known.waiting:
                poll.end()
