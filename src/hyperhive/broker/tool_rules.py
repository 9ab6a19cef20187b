"""Standing rules of the operator: which tool an agent may use without asking again. Run by the store's writer.

A rule is made by the answer `allow always`, in that answer's own transaction, and is for one agent and one tool. Where
the tool's input is itself a program (`PROGRAMS`) it is for exactly that input: allowing one command once and for all
must not allow every command. Who may do what with rules is the policy's.
"""

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from hyperhive.broker.questions_sql import QuestionRow
from hyperhive.errors import BadRequest, HiveError, NotFound
from hyperhive.protocol.types import ToolRule

ALLOW_ONCE: Final = "allow once"
ALLOW_ALWAYS: Final = "allow always"
DENY: Final = "deny"
OPTIONS: Final = (ALLOW_ONCE, ALLOW_ALWAYS, DENY)

PROGRAMS: Final = frozenset({"Bash", "Monitor", "Workflow", "CronCreate"})
"""Tools whose input is a program, or says what will be run later."""
LABELS: Final = frozenset({"description"})
"""Fields of such an input that say what it is for and change nothing of what it does."""


def input_digest(tool: str, tool_input: Mapping[str, Any]) -> str:
    """What a rule for this call would cover: empty for the tool as such, else a digest of its input."""
    if tool not in PROGRAMS:
        return ""
    told = {name: value for name, value in tool_input.items() if name not in LABELS}
    return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()


class Standing:
    """Carries out the operator's answer to a tool call. Implements `questions_sql.Errand`."""

    def carry_out(self, conn: sqlite3.Connection, question: QuestionRow, answer: str, at: int) -> None:
        """Writes the rule, where the answer is `allow always`.

        Raises:
            BadRequest: the answer begins like a permission and is none of the two: it is not taken for a denial.
        """
        word = answer.strip().lower()
        if word.startswith("allow") and word not in OPTIONS:
            raise BadRequest(
                f"{answer.strip()[:80]!r} says neither how long it is allowed nor that it is denied",
                hint=f"one of: {', '.join(OPTIONS)}; anything else denies, and is told as the reason",
            )
        call = question.tool
        if word != ALLOW_ALWAYS or call is None:
            return
        digest = input_digest(call.name, call.input)
        text = msgspec.json.encode(call.input).decode() if digest else None
        row = (question.asker, call.name, digest, text, at, question.answerer, question.id)
        conn.execute(_ADD, row)

    def carried_out(self, question: QuestionRow, result: object) -> None:
        """Nothing more is to be done: whoever waits for the answer waits at the question."""
        del question, result


def find(conn: sqlite3.Connection, agent: str, tool: str, digest: str) -> int | None:
    """The rule that covers such a call, if there is one."""
    row = conn.execute(_FIND, (agent, tool, digest)).fetchone()
    return None if row is None else int(row[0])


def every(conn: sqlite3.Connection) -> list[ToolRule]:
    """All rules, oldest first."""
    return [
        ToolRule(
            id=number,
            agent=agent,
            tool=tool,
            input=None if text is None else msgspec.json.decode(text, type=dict[str, Any]),
            allowed_at=at,
            allowed_by=by,
            question=question,
        )
        for number, agent, tool, text, at, by, question in conn.execute(_ALL)
    ]


def revoke(conn: sqlite3.Connection, batch: Sequence[int]) -> list[None | HiveError]:
    """Takes rules back, by id."""
    return [
        None if conn.execute(_REVOKE, (number,)).rowcount else NotFound(f"there is no tool rule {number}")
        for number in batch
    ]


def forget(conn: sqlite3.Connection, batch: Sequence[str]) -> list[int]:
    """Removes all rules of agents that are gone for good: another of the same name starts without."""
    return [int(conn.execute(_FORGET, (agent,)).rowcount) for agent in batch]


_ADD: Final = (
    "INSERT OR IGNORE INTO tool_rules (agent, tool, digest, input, allowed_at, allowed_by, question)"
    " VALUES (?,?,?,?,?,?,?)"
)
_FIND: Final = "SELECT id FROM tool_rules WHERE agent = ? AND tool = ? AND digest = ?"
_ALL: Final = "SELECT id, agent, tool, input, allowed_at, allowed_by, question FROM tool_rules ORDER BY id"
_REVOKE: Final = "DELETE FROM tool_rules WHERE id = ?"
_FORGET: Final = "DELETE FROM tool_rules WHERE agent = ?"
