"""`Budgets`: what a budget that is used up sets off, in a running hive.

    a turn wants to start     `may_turn`: refused while a budget is used up; its mail stays where it is
    a request wants through   `admit`, between two requests of one turn (implements `gateway.Meter`)
    the operator              is asked once for each window: raise, wait, stop; the answer is carried out with it
    the window ends           the question is withdrawn, and those who were paused go on one after the other

What was spent, and what may be, is `spending`'s to say. Sleeps while nobody is paused and nothing is asked.
"""

import logging
import math
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import anyio

from hyperhive.background import Background
from hyperhive.broker import Broker
from hyperhive.budget_questions import BudgetQuestions
from hyperhive.clock import Clock
from hyperhive.gateway.meter import Refusal
from hyperhive.names import AgentName
from hyperhive.releasing import ReleaseLine
from hyperhive.spending import Cause, Spending, Usage, Verdict, grants
from hyperhive.spending.grants import Grant, Window
from hyperhive.spending.holds import Hold
from hyperhive.spending.windows import start_of
from hyperhive.store import Operation, Store

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 30.0
"""While somebody is paused, the wall clock is looked at so often: it may jump, and sleeping does not."""


class Budgets:
    """The budgets of one hive. `start` it, and keep `run` running. Implements `gateway.Meter`.

    Args:
        names: the agents there are.
        stop: stops an agent, as the operator.
        touch: this agent's fleet row may look different.
    """

    def __init__(
        self,
        *,
        spending: Spending,
        store: Store,
        broker: Broker,
        clock: Clock,
        background: Background,
        names: Callable[[], Sequence[AgentName]],
        stop: Callable[[AgentName], Awaitable[None]],
        touch: Callable[[str], None],
    ) -> None:
        self.spending = spending
        self._store = store
        self._broker = broker
        self._clock = clock
        self._touch = touch
        self._line = ReleaseLine(broker.order_of)
        self._questions = BudgetQuestions(
            spending=spending,
            store=store,
            broker=broker,
            clock=clock,
            background=background,
            names=names,
            stop=stop,
            changed=self._question_changed,
        )
        self._cut: dict[str, tuple[float, str]] = {}
        self._changed = anyio.Event()
        self._wake = anyio.Event()
        self._set_op: Operation[tuple[Window, int], Grant] = Operation("set a budget", _set_all)

    async def start(self) -> None:
        """Learns what was asked before; a stop that a crash kept from happening, happens now.

        Call it before agents start: one that the operator wants stopped must not run first.

        Raises:
            HiveError: it could not be done.
        """
        await self._questions.start()

    # --- before a turn ----------------------------------------------------------------------------------------------

    async def may_turn(self, agent: AgentName, wait_seconds: float = 0) -> Verdict | None:
        """None: a turn of this agent may start, as far as budgets go.

        An agent without mail starts none, so it is never refused (and nobody is asked). With `wait_seconds` the answer
        comes when it is another than it is now, or after that time.
        """
        before = self._standing(agent)
        if before is None or wait_seconds <= 0:
            return before
        end = self._clock.monotonic() + wait_seconds
        standing: Verdict | None = before
        while standing is not None and _reason(standing) == _reason(before):
            left = end - self._clock.monotonic()
            if left <= 0:
                return standing
            # The end of a window is `run`'s to notice, for all who wait at once.
            in_line = standing.window is None
            await self._until_changed(min(left, self._line.wait(agent, end - left)) if in_line else left)
            standing = self._standing(agent)
        return standing

    def _standing(self, agent: AgentName) -> Verdict | None:
        if not self._has_mail(agent):
            self._line.leave(agent)
            return None
        verdict = self.spending.over_budget(agent)
        if verdict is not None:
            self._line.park(agent)
            self._wake.set()
            return self._questions.asked_about(verdict)
        now = self._clock.monotonic()
        self._release(now)
        wait = self._line.wait(agent, now)
        if wait == 0:
            return None
        return Verdict(
            message="the budget is free again; agents that were paused go on one after the other",
            until=math.ceil(self._clock.time() + wait),
        )

    def _has_mail(self, agent: AgentName) -> bool:
        return self._broker.pending_now(agent) > 0 or bool(self._broker.in_flight_now(agent))

    def _release(self, now: float) -> None:
        """All who are paused and may go on get their times, in one go, so that the most urgent is the first."""
        self._line.release([one for one in self._line.parked if self.spending.over_budget(one) is None], now)

    async def _until_changed(self, seconds: float) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def first(wait: Callable[[], Awaitable[None]]) -> None:
                    await wait()
                    scope.cancel()

                group.start_soon(first, self._changed.wait)
                group.start_soon(first, lambda: self._clock.sleep(seconds))

    # --- between two requests (gateway.Meter) -------------------------------------------------------------------------

    def admit(self, agent: AgentName) -> Refusal | None:
        """See `gateway.Meter`."""
        verdict = self.spending.over_budget(agent)
        if verdict is None:
            return None
        self._cut[agent] = (self._clock.time(), verdict.message)
        verdict = self._questions.asked_about(verdict)
        return Refusal(message=verdict.message, until=verdict.until)

    def limits(self, agent: AgentName) -> bool:
        """See `gateway.Meter`."""
        return self.spending.limited(agent)

    def hold(self, agent: AgentName, usage: Usage) -> Hold | None:
        """See `gateway.Meter`."""
        return self.spending.hold(agent, usage)

    async def freed(self) -> None:
        """See `gateway.Meter`."""
        await self.spending.freed()

    async def used(self, agent: AgentName, usage: Usage) -> None:
        """See `gateway.Meter`."""
        await self.spending.charge(agent, usage, source="gateway")
        self._touch(agent)

    async def changed(self) -> None:
        """See `gateway.Meter`."""
        await self._changed.wait()

    # --- after a turn -------------------------------------------------------------------------------------------------

    async def charge(
        self,
        agent: AgentName,
        usage: Usage,
        *,
        cost: float,
        key: str,
        turn: int | None,
        started_at: int,
        messages: Collection[int],
        metered: bool,
    ) -> tuple[Cause | None, str | None]:
        """A turn has ended: what its CLI says counts where no gateway meters it.

        Returns:
            What caused the turn, and the budget that cut it short, if one did.
        """
        cause = self._broker.at_work_on(agent, messages) or self.spending.cause_of(agent)
        if metered:
            if turn is not None:
                self.spending.number(agent, turn, started_at)
        else:
            await self.spending.charge(agent, usage, source="cli", cost=cost, turn=turn, key=key, cause=cause)
        self._touch(agent)
        at, why = self._cut.pop(agent, (-math.inf, ""))
        return cause, why if metered and at >= started_at else None

    # --- the operator -------------------------------------------------------------------------------------------------

    def question_of(self, verdict: Verdict) -> int | None:
        """What the operator was asked about it and has not answered yet."""
        return self._questions.open_one(verdict)

    def decided(self, verdict: Verdict) -> bool:
        """Whether the operator was asked about it and has answered: nobody needs to look at it any more."""
        return self._questions.decided(verdict)

    def _question_changed(self) -> None:
        self._wake.set()
        self._tell()

    async def set_tokens_per_day(self, scope: str, tokens: int) -> None:
        """From now on this is the scope's limit for today, whatever is configured.

        Raises:
            StoreFailed: it could not be stored; nothing changed.
        """
        window = Window(scope, "day", start_of("day", self._clock.time()))
        self.spending.grant(window, await self._store.submit(self._set_op, (window, tokens)))
        await self.reconsider()

    # --- as time goes by ----------------------------------------------------------------------------------------------

    async def reconsider(self) -> None:
        """Limits or the time may be others: withdraws questions that have become moot, and wakes who may go on."""
        moot = await self._questions.withdraw_moot()
        if moot or any(self.spending.over_budget(agent) is None for agent in self._line.parked):
            self._tell()

    async def run(self) -> None:
        """Watches the windows that agents or questions wait for, for ever; with none it does nothing at all."""
        while True:
            self._wake = anyio.Event()
            await self.reconsider()
            end = self._next_end()
            if end is None:
                await self._wake.wait()
                continue
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:

                    async def sleep(seconds: float, scope: anyio.CancelScope = scope) -> None:
                        await self._clock.sleep(seconds)
                        scope.cancel()

                    group.start_soon(sleep, min(max(end - self._clock.time(), 0.0), LOOK_SECONDS))
                    await self._wake.wait()
                    scope.cancel()

    def _next_end(self) -> float | None:
        paused = [verdict.until for one in self._line.parked if (verdict := self.spending.over_budget(one))]
        asked = self._questions.next_end()
        return min(paused if asked is None else [*paused, asked], default=None)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
        for agent in self._line.parked:
            self._touch(agent)

    async def sweep(self) -> None:
        """Retention; to be called hourly."""
        removed = await self.spending.sweep()
        log.info("spending_swept removed=%s", removed)


def _reason(verdict: Verdict) -> object:
    """What stays the same while nothing changes but the sums."""
    return (verdict.window, verdict.raises) if verdict.window is not None else verdict.message


def _set_all(conn: sqlite3.Connection, batch: Sequence[tuple[Window, int]]) -> list[Grant]:
    return [grants.set_tokens(conn, window, tokens) for window, tokens in batch]
