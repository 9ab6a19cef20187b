"""Questions and loose ends."""

from typing import Final

import anyio.to_thread

from hyperhive.broker import Broker, QuestionRow
from hyperhive.errors import NotFound
from hyperhive.handlers.fitting import REPLY_ROOM, fitting, shortest
from hyperhive.names import OPERATOR
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import CALL_ID, Handler
from hyperhive.protocol.policy import Caller

ANSWER_SHOWN: Final = 2000
"""Of a resolved question's answer; all of it is in its asker's mail."""


def questions(broker: Broker) -> dict[type[r.Request], Handler]:
    """Asking, answering, and what is still open."""

    async def ask(caller: Caller, request: r.Ask) -> p.Reply:
        number = await broker.questions.ask(
            caller.name,
            request.question,
            target=OPERATOR if request.to is None else request.to,
            options=request.options,
            multi=request.multi,
            ttl_seconds=request.ttl_seconds,
            call_id=CALL_ID.get(),
        )
        return p.QuestionQueued(id=number)

    async def answer(caller: Caller, request: r.Answer) -> p.Reply:
        row = await broker.questions.answer(
            request.id, request.answer, by=caller.name, override=caller.any, channel=_channel(caller)
        )
        return p.Ok(id=row.id)

    async def waiting(caller: Caller, request: r.Questions) -> p.Reply:
        del caller
        if request.id is not None:
            return p.QuestionRows(questions=await only(request.id))
        found, long = await broker.questions.fitting(None if request.all else OPERATOR, REPLY_ROOM)
        rows = [question_shown(row) for row in found]
        # In a thread: a hive full of long questions is more to measure than the loop has time for.
        shown, others = await anyio.to_thread.run_sync(shortest, rows)
        return p.QuestionRows(questions=shown, left_out=sorted([*long, *(row.id for row in others)]))

    async def only(number: int) -> list[p.Question]:
        try:
            row = await broker.questions.find(number)
        except NotFound:
            return []
        return [question_shown(row)]

    async def cancel(caller: Caller, request: r.CancelQuestion) -> p.Reply:
        row = await broker.questions.cancel(
            request.id, by=caller.name, any=caller.any, channel=_channel(caller)
        )
        return p.Ok(id=row.id)

    async def loose_ends(caller: Caller, request: r.GetLooseEnds) -> p.Reply:
        del request
        ends = await broker.loose_ends.open(None if caller.any else caller.name)
        return p.LooseEnds(loose_ends=ends[: fitting(ends)])

    async def cancel_loose_end(caller: Caller, request: r.CancelLooseEnd) -> p.Reply:
        await broker.loose_ends.cancel(request.kind, request.id, by=caller.name, any=caller.any)
        return p.Ok(id=request.id)

    return {
        r.Ask: ask,
        r.Answer: answer,
        r.Questions: waiting,
        r.CancelQuestion: cancel,
        r.GetLooseEnds: loose_ends,
        r.CancelLooseEnd: cancel_loose_end,
    }


def _channel(caller: Caller) -> str | None:
    """By what way the operator comes; an agent's has no name that says anything to anybody."""
    return caller.channel if caller.name == OPERATOR else None


def question_shown(row: QuestionRow, *, cut: bool = False) -> p.Question:
    """A question as it is listed; `cut`: only its beginning is here."""
    return p.Question(
        id=row.id,
        asker=row.asker,
        target=row.target,
        question=row.question,
        options=row.options,
        multi=row.multi,
        tool=row.tool,
        asked_at=row.asked_at,
        expires_at=row.expires_at,
        answered_at=row.answered_at,
        answer=None if row.answered_at is None else (row.answer or "")[:ANSWER_SHOWN],
        answerer=None if row.answered_at is None else row.answerer,
        channel=None if row.answered_at is None else row.channel,
        cut=cut,
    )
