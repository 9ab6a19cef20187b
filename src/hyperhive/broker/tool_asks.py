"""`ToolAsks`: a harness asks whether a tool may run; the operator's standing rule or the operator answers.

    a rule covers it     allow, at once
    otherwise            a question to the operator (questions.py), of which the harness waits for the resolution

One call is one question, however often it is asked for: so a harness can ask again after the core restarted. A call
that runs again in a later turn is another call, and asks anew. Nothing but the operator's own answer ever allows, and
only what it was given to.
"""

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from hyperhive.broker import tool_rules as rules
from hyperhive.broker.desk import Desk
from hyperhive.broker.limits import Bucket, Limits
from hyperhive.broker.questions import Questions
from hyperhive.broker.questions_changes import EXPIRED, TOOL
from hyperhive.broker.questions_sql import QuestionRow
from hyperhive.errors import NotFound
from hyperhive.names import OPERATOR
from hyperhive.protocol.replies import ToolVerdict
from hyperhive.protocol.types import BODY_MAX_BYTES, ToolCall, ToolRule
from hyperhive.store import Operation

OPEN_MAX: Final = 8
"""Tool calls of one agent that may wait for the operator at once."""
A_MINUTE: Final = 30
"""Tool calls of one agent that may come to the operator in a minute."""
INPUT_MAX_BYTES: Final = BODY_MAX_BYTES
"""The operator is shown the whole input, so there is an end to it."""
BYTES_AN_HOUR: Final = 64 * INPUT_MAX_BYTES
"""Of the inputs of one agent together: they are kept for as long as questions are."""

GIVEN_UP: Final = "the call was given up"
OTHER_CALL: Final = "Not allowed: what the operator was shown under the name of this call was another one."
GIVEN_UP_KEPT: Final = 1024
"""Names of calls: requests of one harness may overtake each other, but not by so many."""


class _Calls(msgspec.Struct, frozen=True):
    """Open tool calls of one agent: those of these names, or all."""

    agent: str
    names: tuple[str, ...] | None


class ToolAsks:
    """The tool calls that wait for the operator, and the rules that spare the question."""

    def __init__(self, desk: Desk, questions: Questions, limits: Limits) -> None:
        self.caution_of: Callable[[str], str | None] = lambda _: None
        """What must be said to the operator of an agent's tools; part of every question."""
        self._desk = desk
        self._questions = questions
        self._ttl = limits.tool_ttl_seconds
        self._rates: dict[str, Bucket] = {}
        self._volumes: dict[str, Bucket] = {}
        self._asking: Counter[str] = Counter()
        """Calls of each agent that are on their way to disk: they count as waiting."""
        self._given_up: dict[tuple[str, str], None] = {}
        self._find_op: Operation[_Calls, list[int]] = Operation("find tool calls", _find)
        self._revoke_op: Operation[int, None] = Operation("revoke tool rule", rules.revoke)
        self._forget_op: Operation[str, int] = Operation("forget tool rules", rules.forget)
        questions.on_answer(TOOL, rules.Standing())

    # --- for the harness --------------------------------------------------------------------------------------------

    async def ask(
        self, agent: str, call_id: str, tool: str, tool_input: dict[str, Any], wait_seconds: float
    ) -> ToolVerdict:
        """Whether this call may run. `waiting` where the operator has not answered within `wait_seconds`.

        Args:
            agent: whose call it is.
            call_id: names this call, unique to the agent; said again it stands for the same question.
            tool: the tool's name.
            tool_input: all of its input.
            wait_seconds: how long to wait for an answer.
        """
        digest = rules.input_digest(tool, tool_input)
        number, rule = await self._desk.store.read(partial(_look, agent, call_id, tool, digest))
        if number is None and rule is not None:
            return ToolVerdict(verdict="allow", message=f"the operator's standing rule {rule}")
        if number is None:
            refusal = self._refusal(agent, tool_input)
            if refusal is not None:
                return ToolVerdict(verdict="deny", message=refusal)
            self._asking[agent] += 1
            try:
                number = await self._questions.ask(
                    agent,
                    self._words(agent, tool, digest),
                    options=rules.OPTIONS,
                    ttl_seconds=self._ttl,
                    tool=ToolCall(name=tool, input=tool_input),
                    kind=TOOL,
                    about=call_id,
                    call_id=f"tool {call_id}",
                )
            finally:
                self._asking[agent] -= 1
            if (agent, call_id) in self._given_up:  # word of that came in before the call itself
                await self._questions.withdraw([number], GIVEN_UP)
        row = await self._questions.resolution(number, wait_seconds)
        if row is None:
            return ToolVerdict(id=number, verdict="waiting")
        shown = (row.asker, row.kind, row.tool)
        if row.fault is None and shown != (agent, TOOL, ToolCall(name=tool, input=tool_input)):
            return ToolVerdict(id=number, verdict="deny", message=OTHER_CALL)
        return self._verdict(row)

    async def withdraw(self, agent: str, calls: Iterable[str] | None = None) -> int:
        """Nobody waits for these calls any more (None: for any of this agent's). How many were open still."""
        wanted = None if calls is None else tuple(calls)
        for call_id in wanted or ():
            self._given_up[agent, call_id] = None
        while len(self._given_up) > GIVEN_UP_KEPT:
            del self._given_up[next(iter(self._given_up))]
        # Asked of the writer: a question that is just being stored is there by then.
        ids = await self._desk.store.submit(self._find_op, _Calls(agent, wanted))
        return await self._questions.withdraw(ids, GIVEN_UP)

    def _waiting(self, agent: str) -> int:
        stored = sum(one.kind == TOOL for one in self._questions.open_now(OPERATOR, asker=agent))
        return stored + self._asking[agent]

    def _refusal(self, agent: str, tool_input: dict[str, Any]) -> str | None:
        """Why the operator is not even asked, if so."""
        size = len(msgspec.json.encode(tool_input))
        if size > INPUT_MAX_BYTES:
            return (
                f"Not allowed: the operator would have to be shown its whole input, which is {size} bytes; the limit is"
                f" {INPUT_MAX_BYTES}. Do it in smaller steps."
            )
        waiting = self._waiting(agent)
        if waiting >= OPEN_MAX:
            return (
                f"Not allowed: {waiting} of your tool calls wait for the operator already; the limit is {OPEN_MAX}."
                " Try again when one of them is answered."
            )
        now = self._desk.clock.monotonic()
        calls = self._rates.setdefault(agent, Bucket(A_MINUTE, now))
        volume = self._volumes.setdefault(agent, Bucket(BYTES_AN_HOUR, now))
        if wait := calls.wait(1, A_MINUTE, 60.0, now):
            limit = f"{A_MINUTE} tool calls a minute that ask the operator"
        elif wait := volume.wait(size, BYTES_AN_HOUR, 3600.0, now):
            limit = f"{BYTES_AN_HOUR} bytes of input an hour in tool calls that ask the operator"
        else:
            calls.take(1)
            volume.take(size)
            return None
        return f"Not allowed: the limit is {limit}. Try again in {math.ceil(wait)} s."

    def _words(self, agent: str, tool: str, digest: str) -> str:
        always = f"exactly this input, whenever {agent} gives it" if digest else f"every {tool} of {agent}"
        said = [
            f"{agent} wants to use {tool}.",
            f"`{rules.ALLOW_ALWAYS}` stands for {always}; any other words deny it and are told as the reason.",
            self.caution_of(agent),
        ]
        return " ".join(text for text in said if text)

    def _verdict(self, row: QuestionRow) -> ToolVerdict:
        """What a resolved question means. Only the operator's own word allows."""
        answer = (row.answer or "").strip()
        word = answer.lower()
        if row.answerer == OPERATOR and word in (rules.ALLOW_ONCE, rules.ALLOW_ALWAYS) and row.fault is None:
            return ToolVerdict(id=row.id, verdict="allow", message=f"the operator said {word}")
        if answer == EXPIRED:
            message = f"Not allowed: the operator did not answer within {self._ttl} s."
        elif row.answerer == OPERATOR:
            reason = answer[len(rules.DENY) :].lstrip(" :,-") if word.startswith(rules.DENY) else answer
            message = f"The operator denied this: {reason}" if reason else "The operator denied this."
        else:
            message = f"Not allowed: {answer.strip('[]') or 'the question was ended'}."
        return ToolVerdict(id=row.id, verdict="deny", message=message)

    # --- for the operator -------------------------------------------------------------------------------------------

    async def rules(self) -> list[ToolRule]:
        """The standing rules, oldest first."""
        return await self._desk.store.read(rules.every)

    async def revoke(self, number: int) -> ToolRule:
        """Takes a rule back: the next such call asks again.

        Raises:
            NotFound: there is no such rule.
        """
        found = [rule for rule in await self.rules() if rule.id == number]
        await self._desk.store.submit(self._revoke_op, number)
        if not found:
            raise NotFound(f"there is no tool rule {number}")
        return found[0]

    async def purge(self, agent: str) -> int:
        """The agent is gone for good, and its rules with it."""
        self._rates.pop(agent, None)
        self._volumes.pop(agent, None)
        return await self._desk.store.submit(self._forget_op, agent)


def _look(
    agent: str, call_id: str, tool: str, digest: str, conn: sqlite3.Connection
) -> tuple[int | None, int | None]:
    """The question of this call, and the rule that covers it, as far as there are any."""
    row = conn.execute(_QUESTION_OF, (agent, TOOL, call_id)).fetchone()
    return (None if row is None else int(row[0])), rules.find(conn, agent, tool, digest)


_QUESTION_OF: Final = "SELECT id FROM questions WHERE asker = ? AND kind = ? AND about = ?"


def _find(conn: sqlite3.Connection, batch: Sequence[_Calls]) -> list[list[int]]:
    """The ids of their questions."""
    return [
        [
            int(number)
            for number, name in conn.execute(_OPEN_CALLS, (calls.agent, TOOL))
            if calls.names is None or name in calls.names
        ]
        for calls in batch
    ]


_OPEN_CALLS: Final = (
    "SELECT id, about FROM questions WHERE asker = ? AND kind = ? AND typeof(answered_at) <> 'integer'"
)
