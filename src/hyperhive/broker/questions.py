"""`Questions`: asking, answering, waiting for an answer, and the watchdog of those that expire.

    what may be asked   questions_checks.py      in memory   questions_open.py
    transactions        questions_changes.py     rows        questions_sql.py
    what is told        questions_news.py        looking     questions_views.py

The first resolution of a question is the only one, whoever it comes from. Nothing here blocks anybody's turn: an
answer comes as mail.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from hyperhive.broker import questions_changes as changes
from hyperhive.broker import repeats
from hyperhive.broker.desk import Desk
from hyperhive.broker.inbox import Entry
from hyperhive.broker.limits import Gate
from hyperhive.broker.questions_changes import (
    EXPIRED,
    WATCHDOG,
    Asked,
    Asking,
    Close,
    Place,
    Resolve,
    Resolved,
)
from hyperhive.broker.questions_checks import check_answer, check_pair, check_question
from hyperhive.broker.questions_news import QuestionNews
from hyperhive.broker.questions_open import OpenQuestion
from hyperhive.broker.questions_sql import Errand, QuestionRow, raise_in
from hyperhive.broker.repeats import Cause, Effect
from hyperhive.broker.storms import Storms
from hyperhive.errors import Closed, Conflict, HiveError, LimitReached, NotFound, StoreFailed
from hyperhive.names import OPERATOR, SYSTEM
from hyperhive.protocol.types import ToolCall
from hyperhive.store import Operation

__all__ = ["Errand", "OpenQuestion", "QuestionRow", "Questions", "raise_in"]

log = logging.getLogger(__name__)

DAY: Final = 86_400


class Questions(QuestionNews):
    """The questions of one broker: between agents, and to the operator.

    Guarantees: what `ask`, `answer` and `cancel` answered is durable, with the mail that belongs to it, in one
    transaction. A question is resolved once; whoever comes second learns who was first. One with a ttl expires when
    its time has passed by a clock that does not jump; one that was overdue when the broker was opened, at once.
    """

    def __init__(
        self, desk: Desk, gate: Gate, storms: Storms, directory: Callable[[str], bool] | None
    ) -> None:
        super().__init__(desk, self._expire)
        self._gate = gate
        self._directory = directory
        self._errands: dict[str, Errand] = {}
        self._asking: Counter[str] = Counter()
        self._ask_op: Operation[Asking, Asked] = Operation(
            "ask", partial(changes.ask, storms=storms), applied=self._asked
        )
        self._find_op: Operation[Effect, int | None] = Operation("find asked", repeats.find_results)
        self._resolve_op: Operation[Resolve, Resolved] = Operation(
            "resolve question",
            partial(changes.resolve_all, errands=self._errands),
            applied=self._resolved,
            failed=self._not_resolved,
        )
        self._close_op: Operation[Close, list[Resolved]] = Operation(
            "close questions", changes.close_all, applied=self._closed_all
        )
        self._sweep_op: Operation[int, int] = Operation("sweep questions", changes.sweep)

    def on_answer(self, kind: str, errand: Errand) -> None:
        """What the answers to the hive's own questions of this kind carry out. To be said before `start`."""
        self._errands[kind] = errand

    # --- asking -----------------------------------------------------------------------------------------------------

    async def ask(
        self,
        asker: str,
        question: str,
        *,
        target: str = OPERATOR,
        options: Sequence[str] = (),
        multi: bool = False,
        ttl_seconds: int | None = None,
        tool: ToolCall | None = None,
        kind: str = "",
        about: str = "",
        call_id: str | None = None,
    ) -> int:
        """Asks; gives the question's id. Durable when it returns, with the mail to an agent that is asked.

        Args:
            asker: who asks, and gets the answer as mail.
            question: not blank.
            target: an agent, or the operator, who sees it in `questions`.
            options: choices beside a free answer; none means free text. Each one line, no two equal.
            multi: several may be chosen; the answer joins them with ", ".
            ttl_seconds: after which it is answered `[expired]`.
            tool: the tool call that waits for the answer.
            kind, about: see `QuestionRow`; with a kind it is no repeat of an earlier one, nor counted by a limit.
            call_id: an id of this one call, unique to the asker; said again, it gives the first question's id.

        Raises:
            BadRequest: it cannot be stored; or one asks oneself. InvalidName, NotFound: nobody has the target's name.
            LimitReached: too many are open, or the asker may not write so much, or not to the target; or the chain of
                messages that it belongs to is held.
        """
        check_pair(asker, target, self._directory)
        place, cause = self._place(asker)
        at = self._desk.now()
        draft = QuestionRow(
            asker=asker,
            target=target,
            question=question,
            options=tuple(options),
            multi=multi,
            tool=tool,
            kind=kind,
            about=about,
            asked_at=at,
            expires_at=None if ttl_seconds is None else at + ttl_seconds,
            cause=place.cause,
            hops=place.hops,
            chain=place.chain,
        )
        check_question(draft, ttl_seconds)
        effect = Effect(
            sender=asker,
            request="ask",
            digest=repeats.digest_of("ask", [target, question, options, multi, ttl_seconds]),
            cause=None if kind else cause,
            call_id=call_id,
            dedupe_key=None,
            now=self._desk.steady(),
        )
        guarded = effect.cause is not None or call_id is not None
        in_hand = tuple(entry.id for entry in self._in_hand(asker))
        job = Asking(draft, effect if guarded else None, self._desk.steady(), in_hand)
        return (await self._store(job)).id if kind else await self._store_counted(job)

    async def _store(self, job: Asking) -> Asked:
        asked = await self._desk.store.submit(self._ask_op, job)
        if asked.held:
            raise LimitReached(
                f"the chain of messages that message {job.draft.chain} began is held as a possible reply storm, "
                "and this question belongs to it",
                hint="this ends when the operator releases the chain; the operator can be asked and written to",
            )
        return asked

    async def _store_counted(self, job: Asking) -> int:
        """As far as the limits go; what was asked before is not refused, whatever they say."""
        asker = job.draft.asker
        size = sum(len(text.encode()) for text in (job.draft.question, *job.draft.options))
        mine = [known for known in self._open.find(None, asker) if not known.kind]
        try:
            self._gate.check_ask(asker, job.draft.target, size, len(mine) + self._asking[asker])
        except LimitReached:
            effect = job.effect
            found = None if effect is None else await self._desk.store.submit(self._find_op, effect)
            if found is None:
                raise
            return found
        self._asking[asker] += 1
        try:
            asked = await self._store(job)
        except HiveError:
            self._gate.give_back(asker, size)
            raise
        finally:
            self._asking[asker] -= 1
        if asked.row is None:
            self._gate.give_back(asker, size)
        return asked.id

    def _place(self, name: str) -> tuple[Place, Cause | None]:
        """Where in a chain of messages this principal stands, and what it works at for the longest."""
        entries = self._in_hand(name)
        if not entries:
            return Place(), None
        worst = max(entries, key=lambda entry: entry.hops)
        place = Place(worst.id, worst.hops + 1, worst.chain or worst.id)
        return place, Cause(entries[0].id, entries[0].attempt)

    def _in_hand(self, name: str) -> list[Entry]:
        inbox = self._desk.inboxes.get(name)
        return inbox.in_flight() if inbox is not None else []

    # --- resolving --------------------------------------------------------------------------------------------------

    async def answer(
        self,
        id: int,  # noqa: A002 - the wire's name
        answer: str,
        *,
        by: str,
        override: bool = False,
        channel: str | None = None,
    ) -> QuestionRow:
        """Answers a question; the first answer wins, and reaches its asker as mail. Durable when it returns.

        Args:
            id: the question.
            answer: one of its options, several joined with ", ", or free text. A question of the hive's own takes its
                options only.
            by: who answers: the one who was asked.
            override: `by` may answer in another's place: the operator's right alone.
            channel: the way by which the operator answers; shown to whoever comes late.

        Raises:
            NotFound: there is no such question. Forbidden: it is not `by`'s to answer.
            Conflict: it is resolved; the message names who was first, and when.
            BadRequest: the answer cannot be stored, or is none of those that a question of the hive's own takes.
            LimitReached: `by` may not write so much.
        """
        check_answer(answer, by)
        size = len(answer.encode())
        self._gate.take(by, size)
        place, cause = self._place(by)
        try:
            return await self._resolve(
                id,
                "answer",
                answer,
                by,
                any_=override,
                place=None if cause is None else place,
                channel=channel,
            )
        except HiveError:
            self._gate.give_back(by, size)
            raise

    async def cancel(
        self,
        id: int,  # noqa: A002 - the wire's names
        *,
        by: str,
        any: bool = False,  # noqa: A002
        channel: str | None = None,
    ) -> QuestionRow:
        """Withdraws a question: it is answered `[cancelled by NAME]`.

        Args:
            id: the question.
            by: who does it: its asker.
            any: `by` may cancel anybody's.
            channel: see `answer`.

        Raises:
            NotFound, Forbidden, Conflict: see `answer`. A question of the hive's own cannot be cancelled.
        """
        return await self._resolve(id, "cancel", f"[cancelled by {by}]", by, any_=any, channel=channel)

    async def withdraw(self, ids: Iterable[int], reason: str) -> int:
        """The hive itself ends questions that have become moot: `[withdrawn: REASON]`. How many were open still."""
        done = 0
        for one in ids:
            try:
                await self._resolve(one, "withdraw", f"[withdrawn: {reason}]", SYSTEM, any_=True)
            except (Conflict, NotFound):
                continue
            done += 1
        return done

    async def close_of(self, name: str, reason: str, *, told: Callable[[str], bool] = lambda _: True) -> int:
        """Withdraws every question that this name asked or was asked; `told` says which askers get mail about it."""
        job = Close(name, f"[withdrawn: {reason}]", self._desk.now(), told)
        closed = await self._desk.store.submit(self._close_op, job)
        return len(closed)

    async def resolution(self, id: int, wait_seconds: float) -> QuestionRow | None:  # noqa: A002
        """The question, as soon as it is resolved; None where it is not within `wait_seconds`.

        Raises:
            NotFound: there is no such question.
        """
        await self._open.wait(id, wait_seconds)
        row = await self.find(id)
        return None if row.answered_at is None else row

    async def _resolve(
        self,
        number: int,
        how: changes.How,
        answer: str,
        by: str,
        *,
        any_: bool,
        place: Place | None = None,
        channel: str | None = None,
    ) -> QuestionRow:
        job = Resolve(
            id=number,
            how=how,
            answer=answer,
            by=by,
            channel=channel,
            at=self._desk.now(),
            any_=any_,
            place=place,
        )
        return (await self._desk.store.submit(self._resolve_op, job)).row

    def _expire(self, number: int) -> None:
        """Its time is up: on the watchdog's word it is resolved, unless somebody was faster."""
        job = Resolve(id=number, how="expire", answer=EXPIRED, by=WATCHDOG, at=self._desk.now(), any_=True)
        with suppress(Closed):  # the store went first
            self._desk.store.submit(self._resolve_op, job).add_done_callback(_seen)

    # --- following commits ------------------------------------------------------------------------------------------

    def _asked(self, job: Asking, asked: Asked) -> None:
        del job
        if asked.storm is not None:
            self.announce([asked.storm])
        if asked.row is not None:
            self._post(asked.posted)
            self._added(asked.row)

    def _not_resolved(self, job: Resolve, error: HiveError) -> None:
        """The watchdog tries again where the disk refused."""
        if job.how == "expire" and isinstance(error, StoreFailed) and self._open.expire_later(job.id):
            log.warning("question_not_expired question=%s error=%s", job.id, error)

    async def sweep(self) -> int:
        """Removes questions that were resolved more than 90 days ago, in small steps; how many."""
        before = self._desk.now() - changes.RESOLVED_KEPT_DAYS * DAY
        removed = 0
        while step := await self._desk.store.submit(self._sweep_op, before):
            removed += step
        return removed


def _seen(future: asyncio.Future[Resolved]) -> None:
    """Nobody waits for it, and `_not_resolved` knows of its error."""
    if not future.cancelled():
        future.exception()
