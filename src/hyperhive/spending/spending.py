"""`Spending`: what each agent spent, on which chain of messages, and whether it may go on.

Rows are written with the next commit (a `kill -9` may lose the last tenth of a second of them); the sums that budgets
are judged by are in memory, seeded from the rows at start. Asks nobody and stops nothing: see `hyperhive.budgets`.
"""

import logging
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import chain

import msgspec

from hyperhive.clock import Clock, unix_seconds
from hyperhive.config import HiveConfig
from hyperhive.errors import HiveError, StoreFailed
from hyperhive.spending import grants, limits, rows
from hyperhive.spending.grants import Grant, Window
from hyperhive.spending.holds import Hold, Holds
from hyperhive.spending.limits import HIVE, Bound, Verdict
from hyperhive.spending.prices import nano_dollars, price_of
from hyperhive.spending.rows import ChainRow, Charge, DayRow, Numbered, RootIn
from hyperhive.spending.usage import Cause, Root, Source, Total, Usage, all_tokens, clamped, clamped_dollars
from hyperhive.spending.windows import KEPT, SECONDS, Sums, WindowName, start_of
from hyperhive.store import Operation, Store

log = logging.getLogger(__name__)

KEYS_KEPT = 8
"""So many charges of an agent are known by their keys: one that is asked for twice is asked for again at once."""

RETRY_SECONDS = 5.0
"""What a full disk refused is tried again after so long, if there is anything new to write."""

CauseOf = Callable[[str], Cause | None]


class Spending:
    """What is spent in one hive. One owner: the core.

    Args:
        store: opened with `hyperhive.spending.MIGRATIONS`.
        config: budgets and prices as they are now.
        cause_of: which message an agent works on at this moment, and its chain.
        roots: finds where a chain began.
        account_of: the name of the account that an agent runs under.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        config: Callable[[], HiveConfig],
        cause_of: CauseOf = lambda _: None,
        roots: RootIn | None = None,
        account_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._store = store
        self._clock = clock
        self._config = config
        self._cause_of = cause_of
        self._account_of = account_of
        self._find_root: RootIn = roots or _no_root
        self._sums = Sums()
        self._holds = Holds()
        self._grants: dict[Window, Grant] = {}
        self._keys: dict[str, deque[str]] = {}
        self._last_cause: dict[str, Cause] = {}
        self._unlisted: set[str] = set()
        self._unwritten: list[Charge] = []
        self._try_at = -math.inf
        self._charge_op: Operation[Charge, None] = Operation("charge", rows.charge(roots), failed=self._lost)
        self._number_op: Operation[Numbered, None] = Operation("number spending", rows.number)
        self._written_op: Operation[None, None] = Operation(
            "charges are written", lambda _, batch: [None] * len(batch)
        )
        self._forget_op: Operation[int, int] = Operation("forget spending", rows.forget)

    async def start(self) -> "Spending":
        """Learns from disk what was spent in the windows that still count, and what was granted.

        Raises:
            StoreFailed: it cannot be read.
        """
        now = unix_seconds(self._clock)
        since = start_of("day", now) - (KEPT["day"] - 1) * SECONDS["day"]

        def read(
            conn: sqlite3.Connection,
        ) -> tuple[list[tuple[str, int, int, int, int]], dict[Window, Grant], list[tuple[str, str]]]:
            known = rows.keys(conn, now - SECONDS["hour"])
            return rows.hours(conn, since), grants.granted_since(conn, since), known

        found, self._grants, known = await self._store.read(read)
        for agent, hour, tokens, nano, requests in found:
            self._sums.add((agent, HIVE), hour, tokens, nano, requests)
        for agent, key in known:
            self._know(agent, key)
        return self

    # --- spending ---------------------------------------------------------------------------------------------------

    async def charge(
        self,
        agent: str,
        usage: Usage,
        *,
        source: Source,
        cost: float | None = None,
        turn: int | None = None,
        key: str | None = None,
        cause: Cause | None = None,
    ) -> None:
        """Counts what an agent used, on the chain that it works for at this moment. Returns at once.

        Args:
            agent: who.
            usage: the counts; what cannot be is cut to what can.
            source: `gateway` for one metered request, `cli` for what a CLI says of a whole turn.
            cost: US dollars, where somebody else has priced it (a CLI).
            turn: the agent's turn, where it is known; else `number` says it later.
            key: names this charge; the same key again counts nothing.
            cause: the chain, where it is known better than by what is in flight now.
        """
        tokens = clamped(usage.tokens)
        dollars = None if cost is None else clamped_dollars(cost)
        if tokens != usage.tokens or dollars != cost:
            log.warning("usage_cut agent=%s source=%s: it claims what cannot be", agent, source)
        if all_tokens(tokens) == 0 and not dollars:
            return
        if key is not None and not self._know(agent, key):
            return
        nano, guessed = self._price(usage.model, usage, dollars)
        why = cause or self.cause_of(agent)
        if why is not None:
            self._last_cause[agent] = why
        row = Charge(
            at=unix_seconds(self._clock),
            agent=agent,
            account=self._account_of(agent),
            source=source,
            model=usage.model[:200].encode(errors="replace").decode(),
            **msgspec.structs.asdict(tokens),
            cost_nano=nano,
            priced_as=guessed,
            complete=usage.complete,
            message=None if why is None else why.message,
            chain=None if why is None else why.chain,
            turn=turn,
            key=key,
        )
        self._sums.add((agent, HIVE), row.at, row.tokens, nano)
        if self._clock.monotonic() >= self._try_at:
            self._write_again()
        self._store.defer(self._charge_op, row)

    def cause_of(self, agent: str) -> Cause | None:
        """Why this agent is at work: what it has in flight; else, for work in the background, what it had last."""
        cause = self._cause_of(agent)
        return self._last_cause.get(agent) if cause is None else cause

    def number(self, agent: str, turn: int, since: float) -> None:
        """The metered requests of this agent since then were those of this turn."""
        self._store.defer(self._number_op, Numbered(agent=agent, turn=turn, since=int(since)))

    def _price(self, model: str, usage: Usage, dollars: float | None) -> tuple[int, str | None]:
        if dollars is not None:
            return nano_dollars(dollars), None
        priced = price_of(model, clamped(usage.tokens), self._config().file.prices)
        if priced.guessed and model not in self._unlisted and len(self._unlisted) < 1000:
            self._unlisted.add(model)
            log.warning("model_has_no_price model=%.100r priced_as=%s", model, priced.family)
        return priced.nano, priced.family if priced.guessed else None

    def _know(self, agent: str, key: str) -> bool:
        """False: this charge has been counted."""
        known = self._keys.setdefault(agent, deque(maxlen=KEYS_KEPT))
        if key in known:
            return False
        known.append(key)
        return True

    def _lost(self, row: Charge, error: HiveError) -> None:
        """Tried again with the next charge or look: what was spent stays spent."""
        if not isinstance(error, StoreFailed):
            log.warning("charge_lost agent=%s error=%s", row.agent, error)
            return
        if not self._unwritten:
            log.warning("charges_not_written agent=%s error=%s", row.agent, error)
        self._unwritten.append(row)
        self._try_at = self._clock.monotonic() + RETRY_SECONDS

    def _write_again(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        for row in unwritten:
            self._store.defer(self._charge_op, row)

    # --- budgets ----------------------------------------------------------------------------------------------------

    def over_budget(self, agent: str) -> Verdict | None:
        """None: it may go on. Looks at memory only: cheap enough for every request."""
        hit = limits.used_up(iter([*self.bounds(agent), *self.bounds(HIVE)]))
        return None if hit is None else limits.verdict(hit)

    def limited(self, agent: str) -> bool:
        """Whether there is any budget of this agent's or the hive's."""
        return bool(self.bounds(agent) or self.bounds(HIVE))

    def hold(self, agent: str, usage: Usage) -> Hold | None:
        """Sets aside what a request is estimated to use, until it is charged.

        None: what is under way may use up what is left (`holds` says who waits for whom). To be asked again after
        `freed`.
        """
        tokens = clamped(usage.tokens)
        nano = price_of(usage.model, tokens, self._config().file.prices).nano
        limits_of_both = chain.from_iterable(map(self.bounds, (agent, HIVE)))
        return self._holds.take((agent, HIVE), all_tokens(tokens), nano, limits_of_both)

    async def freed(self) -> None:
        """Returns when some request is under way no more. To be called at once where `hold` gave None."""
        await self._holds.freed()

    def bounds(self, scope: str) -> Sequence[Bound]:
        """The limits of an agent, or of the `hive`, that are in force, with what is spent of each."""
        return tuple(limits.bounds(scope, self._config(), self._sums.get, self.granted, self._clock.time()))

    def used(self, agent: str) -> float | None:
        """The largest part of a budget of its own that an agent has spent; None where it has none."""
        return max((bound.used for bound in self.bounds(agent)), default=None)

    def granted(self, window: Window) -> Grant:
        """What the operator added for this window."""
        return self._grants.get(window, _NO_GRANT)

    def grant(self, window: Window, grant: Grant) -> None:
        """The operator's word, which is stored already."""
        self._grants[window] = grant

    def spent(self, scope: str, window: WindowName) -> Total:
        """What an agent, or the `hive`, spent in the present hour or day."""
        return self._sums.get(scope, window, self._clock.time())

    def spenders(self) -> list[str]:
        """Who spent anything today, the hive left out."""
        return [scope for scope in self._sums.scopes("day", self._clock.time()) if scope != HIVE]

    # --- looking ----------------------------------------------------------------------------------------------------

    async def chains(self, agent: str | None, since: float, limit: int = 20) -> list[ChainRow]:
        """The dearest chains since then, dearest first: who caused what."""
        await self._written()
        return await self._store.read(lambda conn: rows.chains(conn, int(since), agent, limit))

    async def _written(self) -> None:
        """Everything that was charged until now is on disk, if that takes it."""
        self._write_again()
        await self._store.submit(self._written_op, None)

    async def roots(self, chains: Collection[int]) -> dict[int, Root]:
        """Where these chains began, as far as that is known still."""

        def read(conn: sqlite3.Connection) -> dict[int, Root]:
            found = {chain: rows.root_of(conn, chain) or self._find_root(conn, chain) for chain in chains}
            return {chain: root for chain, root in found.items() if root is not None}

        return await self._store.read(read)

    async def days(self, agent: str | None, since: float) -> list[DayRow]:
        """Spending by day and agent, newest day first; days are kept for good."""
        await self._written()
        start = start_of("day", since)
        return await self._store.read(lambda conn: rows.days(conn, start, agent))

    async def sweep(self) -> int:
        """Removes rows of more than 90 days ago; how many. The sums by day stay."""
        now = unix_seconds(self._clock)
        for window in [one for one in self._grants if one.start < now - KEPT["day"] * SECONDS["day"]]:
            del self._grants[window]
        self._write_again()
        return await self._store.submit(self._forget_op, now - rows.KEEP_SECONDS)


def _no_root(_: sqlite3.Connection, __: int) -> None:
    """Without a broker nobody knows."""


_NO_GRANT = Grant()
