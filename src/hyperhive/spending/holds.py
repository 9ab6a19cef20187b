"""What is set aside for requests under way: so that many at once are not all let in on what one of them leaves.

An estimate each, by the model and the lengths that the request names; it counts until the request's own charge does. An
agent's only request goes by what is spent; one beside it must fit in with all that is set aside, and where such ones
have what is left nobody goes. So, estimates aside, an agent overshoots its own budget by one request at most, and the
hive's by one of each agent; and agents that ask for one thing at a time never wait for each other. In memory: what a
restart ends is under way no more.
"""

from collections.abc import Iterable

import anyio
import msgspec

from hyperhive.spending.limits import Bound
from hyperhive.spending.usage import Total


class Hold:
    """What is set aside for one request. `release` it when that is charged, or over; any number of times."""

    def __init__(
        self, holds: "Holds", scopes: tuple[str, ...], tokens: int, nano: int, *, beside: bool
    ) -> None:
        self._holds: Holds | None = holds
        self.scopes = scopes
        self.tokens = tokens
        self.nano = nano
        self.beside = beside
        """Its agent had others under way when it came."""

    def release(self) -> None:
        """It counts no more."""
        holds, self._holds = self._holds, None
        if holds is not None:
            holds.count(self, -1)


class _Scope(msgspec.Struct):
    every: Total = msgspec.field(default_factory=Total)
    beside: Total = msgspec.field(default_factory=Total)


class Holds:
    """What is set aside, by scope."""

    def __init__(self) -> None:
        self._held: dict[str, _Scope] = {}
        self._freed = anyio.Event()

    def take(self, scopes: tuple[str, ...], tokens: int, nano: int, bounds: Iterable[Bound]) -> Hold | None:
        """Sets this aside in all these scopes; None: not beside what is under way there.

        Args:
            scopes: the agent first.
            tokens: the estimate, and `nano` its price.
            nano: nano-dollars.
            bounds: the limits of these scopes.
        """
        hold = Hold(self, scopes, tokens, nano, beside=scopes[0] in self._held)
        if any(self._is_full(bound, every=hold.beside) for bound in bounds):
            return None
        self.count(hold, 1)
        return hold

    def count(self, hold: Hold, times: int) -> None:
        """For `Hold` alone."""
        for name in hold.scopes:
            scope = self._held.setdefault(name, _Scope())
            for total in (scope.every, scope.beside) if hold.beside else (scope.every,):
                total.add(times * hold.tokens, times * hold.nano, times)
            if not scope.every.requests:
                del self._held[name]
        if times < 0:
            self._freed.set()
            self._freed = anyio.Event()

    async def freed(self) -> None:
        """Returns when something is set aside no more."""
        await self._freed.wait()

    def _is_full(self, bound: Bound, *, every: bool) -> bool:
        scope = self._held.get(bound.window.scope)
        if scope is None:
            return False
        held = scope.every if every else scope.beside
        return (
            held.requests > 0
            and bound.spent + (held.tokens if bound.measure == "tokens" else held.nano) >= bound.limit
        )
