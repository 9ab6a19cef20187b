"""`BudgetQuestions`: what the operator is asked about budgets that are used up, and what the answers do.

One question for each window and number of raises, through restarts: `raise` grants as much again, `wait` changes
nothing, `stop` stops the agent (for the hive's budget: all); one that is started again is asked about anew. What has
become moot is withdrawn.
"""

import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import msgspec

from hyperhive.background import Background
from hyperhive.broker import Broker, QuestionRow, raise_in
from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import Conflict, HiveError, NotFound
from hyperhive.names import AgentName
from hyperhive.spending import HIVE, Spending, Verdict, grants
from hyperhive.spending.grants import Grant, Window
from hyperhive.spending.windows import SECONDS, end_of, start_of
from hyperhive.store import Operation, Store

log = logging.getLogger(__name__)

KIND: Final = "budget"
OPTIONS: Final = ("raise", "wait", "stop")
WITHDRAWN: Final = "withdrawn"
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


class BudgetQuestions:
    """The questions about one hive's budgets. Implements `broker.Errand`; to be made before the broker starts.

    Args:
        names: the agents there are.
        stop: stops an agent, as the operator.
        changed: a question was asked or answered, on the loop's thread.
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
        changed: Callable[[], None],
    ) -> None:
        self.spending = spending
        self._store = store
        self._broker = broker
        self._clock = clock
        self._background = background
        self._names = names
        self._stop = stop
        self._tell = changed
        self._questions: dict[Matter, Question] = {}
        self._ask_op: Operation[Verdict, tuple[QuestionRow, bool]] = Operation(
            "ask about a budget", self._ask_all, applied=self._asked, failed=self._not_asked
        )
        self._done_op: Operation[tuple[int, str], None] = Operation("budget question done", _finish_all)
        broker.questions.on_answer(KIND, self)

    async def start(self) -> None:
        """Learns what was asked before; a stop that a crash kept from happening, happens now.

        Call it before agents start: one that the operator wants stopped must not run first.

        Raises:
            HiveError: it could not be done.
        """
        since = start_of("day", self._clock.time()) - SECONDS["day"]
        for one in await self._store.read(lambda conn: grants.asked_since(conn, since)):
            if one.answer != WITHDRAWN and not (one.answer == "stop" and one.done):
                known = Question(id=one.question, open=one.answer is None and not one.done)
                self._questions[(one.window, one.raises)] = known
            if one.answer == "stop" and not one.done:
                await self._stop_all(one.window, one.question)

    # --- asking -----------------------------------------------------------------------------------------------------

    def open_one(self, verdict: Verdict) -> int | None:
        """What the operator was asked about it and has not answered yet."""
        known = None if verdict.window is None else self._questions.get((verdict.window, verdict.raises))
        return known.id if known is not None and known.open else None

    def decided(self, verdict: Verdict) -> bool:
        """Whether the operator was asked about it and has answered."""
        known = None if verdict.window is None else self._questions.get((verdict.window, verdict.raises))
        return known is not None and not known.open

    def asked_about(self, verdict: Verdict) -> Verdict:
        """The same, with the number of the question, which is asked now if it never was."""
        if verdict.window is None:
            return verdict
        matter = (verdict.window, verdict.raises)
        if matter not in self._questions:
            self._questions[matter] = Question()
            self._background.spawn(lambda: self._ask(verdict), f"ask about {verdict.window.scope}'s budget")
            self._tell()
        return msgspec.structs.replace(verdict, question_id=self.open_one(verdict))

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

    # --- answers ----------------------------------------------------------------------------------------------------

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
        failed: list[AgentName] = []
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
                except HiveError as error:
                    # The others are stopped all the same; this one when the hive starts next.
                    log.warning("budget_stop_failed agent=%s error=%s", name, error)
                    failed.append(name)
                    return

        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(stop, name)
        if failed:
            return
        await self._store.submit(self._done_op, (question, "stop"))
        # Whoever runs from now on was started by the operator, who is asked anew.
        self._questions = {matter: one for matter, one in self._questions.items() if one.id != question}

    # --- as time goes by --------------------------------------------------------------------------------------------

    async def withdraw_moot(self) -> bool:
        """Ends the questions whose window is over or whose limit was lifted; says whether there were any."""
        moot = [(matter, known) for matter, known in self._questions.items() if not self._still_over(matter)]
        for matter, known in moot:
            if known.open and known.id is None:
                continue  # it is being stored
            # Should its budget be used up once more, that is asked anew: the operator had lifted the limit.
            self._questions.pop(matter, None)
            if known.open and known.id is not None and not await self._withdraw(matter[0], known.id):
                self._questions.setdefault(matter, known)  # tried again at the next look
        return bool(moot)

    def next_end(self) -> float | None:
        """When the first window ends that the operator is asked about."""
        asked = [window for (window, _), one in self._questions.items() if one.open]
        return min((end_of(window.span, window.start) for window in asked), default=None)

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


def _question(verdict: Verdict, window: Window, now: int) -> str:
    who = "the hive" if window.scope == HIVE else window.scope
    until = time.strftime("%H:%M UTC", time.gmtime(verdict.until))
    minutes = max(1, (verdict.until - now) // 60)
    span = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
    what = "all agents" if window.scope == HIVE else who
    whose = "any agent" if window.scope == HIVE else who
    return (
        f"{verdict.message}. No turn of {whose} starts until {until} (in {span}); mail waits. "
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
