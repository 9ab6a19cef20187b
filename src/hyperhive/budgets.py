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
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import anyio
import msgspec

from hyperhive.background import Background
from hyperhive.broker import Broker, QuestionRow, raise_in
from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import Conflict, HiveError, NotFound
from hyperhive.gateway.meter import Refusal
from hyperhive.names import AgentName
from hyperhive.releasing import ReleaseLine
from hyperhive.spending import HIVE, Cause, Spending, Usage, Verdict, grants
from hyperhive.spending.grants import Grant, Window
from hyperhive.spending.windows import SECONDS, end_of, start_of
from hyperhive.store import Operation, Store

log = logging.getLogger(__name__)

KIND: Final = "budget"
OPTIONS: Final = ("raise", "wait", "stop")
WITHDRAWN: Final = "withdrawn"
LOOK_SECONDS: Final = 30.0
"""While somebody is paused, the wall clock is looked at so often: it may jump, and sleeping does not."""

RETRY_SECONDS: Final = 5.0

Matter = tuple[Window, int]
"""What a question is about: a window, and how often it was raised before."""


class Decision(msgspec.Struct, frozen=True):
    """What an answer came to."""

    answer: str
    window: Window
    question: int
    grant: Grant | None = None


class Question(msgspec.Struct):
    """What memory holds of a question. `id` None: it is being stored; `open`: nobody has answered it."""

    id: int | None = None
    open: bool = True


class Budgets:
    """The budgets of one hive. `start` it, and keep `run` running. Implements `gateway.Meter` and `broker.Errand`.

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
        self._background = background
        self._names = names
        self._stop = stop
        self._touch = touch
        self._line = ReleaseLine(broker.order_of)
        self._questions: dict[Matter, Question] = {}
        self._cut: dict[str, tuple[float, str]] = {}
        self._changed = anyio.Event()
        self._wake = anyio.Event()
        self._ask_op: Operation[Verdict, tuple[QuestionRow, bool]] = Operation(
            "ask about a budget", self._ask_all, applied=self._asked, failed=self._not_asked
        )
        self._done_op: Operation[tuple[int, str], None] = Operation("budget question done", _finish_all)
        self._set_op: Operation[tuple[Window, int], Grant] = Operation("set a budget", _set_all)
        broker.questions.on_answer(KIND, self)

    async def start(self) -> None:
        """Learns what was asked before; a stop that a crash kept from happening, happens now.

        Call it before agents start: one that the operator wants stopped must not run first.

        Raises:
            HiveError: it could not be done.
        """
        since = start_of("day", self._clock.time()) - SECONDS["day"]
        for one in await self._store.read(lambda conn: grants.asked_since(conn, since)):
            if one.answer != WITHDRAWN:
                known = Question(id=one.question, open=one.answer is None and not one.done)
                self._questions[(one.window, one.raises)] = known
            if one.answer == "stop" and not one.done:
                await self._stop_all(one.window, one.question)

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
            return self._with_question(verdict)
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
        verdict = self._with_question(verdict)
        return Refusal(message=verdict.message, until=verdict.until)

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
        known = None if verdict.window is None else self._questions.get((verdict.window, verdict.raises))
        return known.id if known is not None and known.open else None

    def _with_question(self, verdict: Verdict) -> Verdict:
        """The same, with the number of the question, which is asked now if it never was."""
        if verdict.window is None:
            return verdict
        matter = (verdict.window, verdict.raises)
        if matter not in self._questions:
            self._questions[matter] = Question()
            self._background.spawn(lambda: self._ask(verdict), f"ask about {verdict.window.scope}'s budget")
            self._wake.set()
        return msgspec.structs.replace(verdict, question_id=self.question_of(verdict))

    async def _ask(self, verdict: Verdict) -> None:
        try:
            await self._store.submit(self._ask_op, verdict)
        except HiveError as error:
            log.warning("budget_not_asked error=%s", error)

    def _ask_all(
        self, conn: sqlite3.Connection, batch: Sequence[Verdict]
    ) -> list[tuple[QuestionRow, bool] | HiveError]:
        at = unix_seconds(self._clock)
        results: list[tuple[QuestionRow, bool] | HiveError] = []
        for verdict in batch:
            window = verdict.window
            assert window is not None  # noqa: S101 - only such are asked about
            row, new = raise_in(
                conn,
                question=_question(verdict, window, at),
                options=OPTIONS,
                kind=KIND,
                about=_about((window, verdict.raises)),
                at=at,
            )
            grants.asked(conn, window, verdict.raises, row.id)
            results.append((row, new))
        return results

    def _asked(self, verdict: Verdict, result: tuple[QuestionRow, bool]) -> None:
        row, new = result
        if verdict.window is not None:
            self._questions[(verdict.window, verdict.raises)] = Question(id=row.id)
        if new:
            self._broker.questions.announce([row])
        self._tell()

    def _not_asked(self, verdict: Verdict, error: HiveError) -> None:
        del error  # logged by who asked; the next refusal asks again
        if verdict.window is not None:
            self._questions.pop((verdict.window, verdict.raises), None)

    def carry_out(self, conn: sqlite3.Connection, question: QuestionRow, answer: str, at: int) -> object:
        """See `broker.Errand`."""
        window, _ = _matter(question.about)
        if answer == "raise" and at >= end_of(window.span, window.start):
            raise Conflict(f"that {window.span} is over: its budget does not hold anybody any more")
        grants.answered(conn, question.id, answer)
        grant = grants.raise_limit(conn, window, self._raises_needed(window)) if answer == "raise" else None
        if answer != "stop":
            grants.finished(conn, question.id, answer)
        return Decision(answer, window, question.id, grant)

    def _raises_needed(self, window: Window) -> int:
        """One, unless a turn overshot the limit by so much that nothing would start after it."""
        bounds = [one for one in self.spending.bounds(window.scope) if one.window == window]
        return max(1, *(one.raises_needed for one in bounds)) if bounds else 1

    def carried_out(self, question: QuestionRow, result: object) -> None:
        """See `broker.Errand`."""
        if not isinstance(result, Decision):
            return
        known = self._questions.get(_matter(question.about))
        if known is not None:
            known.open = False
        if result.grant is not None:
            self.spending.grant(result.window, result.grant)
        if result.answer == "stop":
            self._background.spawn(
                lambda: self._stop_all(result.window, result.question), f"stop {result.window.scope}"
            )
        self._tell()

    async def _stop_all(self, window: Window, question: int) -> None:
        """Stops the agent, or all of them; each drains by itself, so that none waits for another."""
        names = list(self._names()) if window.scope == HIVE else [AgentName(window.scope)]

        async def stop(name: AgentName) -> None:
            while True:
                try:
                    await self._stop(name)
                    return
                except NotFound:  # it was destroyed meanwhile
                    return
                except Conflict:  # something else is going on with it, and will end
                    await self._clock.sleep(RETRY_SECONDS)

        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(stop, name)
        await self._store.submit(self._done_op, (question, "stop"))

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
        moot = [(matter, known) for matter, known in self._questions.items() if not self._still_over(matter)]
        for matter, known in moot:
            if known.open and known.id is None:
                continue  # it is being stored
            # Should its budget be used up once more, that is asked anew: the operator had lifted the limit.
            self._questions.pop(matter, None)
            if known.open and known.id is not None and not await self._withdraw(matter[0], known.id):
                self._questions.setdefault(matter, known)  # tried again at the next look
        if moot or any(self.spending.over_budget(agent) is None for agent in self._line.parked):
            self._tell()

    async def _withdraw(self, window: Window, question: int) -> bool:
        over = self._clock.time() >= end_of(window.span, window.start)
        why = f"the {window.span} is over" if over else "the budget is not used up any more"
        try:
            await self._broker.questions.withdraw([question], why)
            await self._store.submit(self._done_op, (question, WITHDRAWN))
        except HiveError as error:
            log.warning("budget_question_not_withdrawn question=%s error=%s", question, error)
            return False
        return True

    def _still_over(self, matter: Matter) -> bool:
        window, raises = matter
        return any(
            bound.window == window and bound.raises == raises and bound.spent >= bound.limit
            for bound in self.spending.bounds(window.scope)
        )

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
        asked = [
            end_of(window.span, window.start) for (window, _), one in self._questions.items() if one.open
        ]
        paused = [verdict.until for one in self._line.parked if (verdict := self.spending.over_budget(one))]
        return min([*asked, *paused], default=None)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
        for agent in self._line.parked:
            self._touch(agent)

    async def sweep(self) -> None:
        """Retention; to be called hourly."""
        removed = await self.spending.sweep()
        oldest = self._clock.time() - 8 * SECONDS["day"]
        for matter in [one for one in self._questions if one[0].start < oldest]:
            del self._questions[matter]
        log.info("spending_swept removed=%s", removed)


def _reason(verdict: Verdict) -> object:
    """What stays the same while nothing changes but the sums."""
    return (verdict.window, verdict.raises) if verdict.window is not None else verdict.message


def _question(verdict: Verdict, window: Window, now: int) -> str:
    who = "the hive" if window.scope == HIVE else window.scope
    until = time.strftime("%H:%M UTC", time.gmtime(verdict.until))
    minutes = max(1, (verdict.until - now) // 60)
    what = "all agents" if window.scope == HIVE else who
    return (
        f"{verdict.message}. No turn of {what} starts until {until} (in {minutes} min); mail waits. "
        f"raise: as much again for this {window.span}, until something is left; wait: until then; stop: stop {what}. "
        f"What it was spent on: hyperhive budget{'' if window.scope == HIVE else f' {who}'} --chains"
    )


def _about(matter: Matter) -> str:
    window, raises = matter
    return msgspec.json.encode([window.scope, window.span, window.start, raises]).decode()


def _matter(about: str) -> Matter:
    scope, span, start, raises = msgspec.json.decode(about, type=tuple[str, str, int, int])
    return Window(scope, "hour" if span == "hour" else "day", start), raises


def _finish_all(conn: sqlite3.Connection, batch: Sequence[tuple[int, str]]) -> list[None]:
    for question, how in batch:
        grants.finished(conn, question, how)
    return [None] * len(batch)


def _set_all(conn: sqlite3.Connection, batch: Sequence[tuple[Window, int]]) -> list[Grant]:
    return [grants.set_tokens(conn, window, tokens) for window, tokens in batch]
