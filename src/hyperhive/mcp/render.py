"""Replies as plain text for a model. Pure.

What other agents wrote stands last and after a header of ours, and cannot start a message of its own: see `_quoted`.
"""

import re
from collections.abc import Sequence

from hyperhive.errors import HiveError
from hyperhive.protocol import replies as a
from hyperhive.protocol.types import ApprovalEnd, Delivery, LooseEnd, QuestionEnd

REDELIVERED = "[redelivered after harness restart — may already be handled]"
EMPTY = "(empty)"
SEPARATOR = "---"

_FORGED = re.compile(rf"^{SEPARATOR}$(?=\n(?:{re.escape(REDELIVERED)}\n)?from: )", re.MULTILINE)


def error(fault: HiveError | a.Err) -> str:
    """What went wrong, and how to mend it."""
    return f"error: {fault.message}" + (f"\nhint: {fault.hint}" if fault.hint else "")


def status_line(unread: int) -> str:
    """The last line of every result."""
    return f"inbox: {unread} unread"


def messages(deliveries: Sequence[Delivery]) -> str:
    """What `recv` shows."""
    if not deliveries:
        return EMPTY
    if len(deliveries) == 1:
        return _message(deliveries[0], deliveries[0].body)
    blocks = [_message(delivery, _quoted(delivery.body)) for delivery in deliveries]
    return f"\n{SEPARATOR}\n".join([f"popped {len(deliveries)} message(s)", *blocks])


def _message(delivery: Delivery, body: str) -> str:
    banner = f"{REDELIVERED}\n" if delivery.redelivered else ""
    files = "".join(f"\n[file: {ref.path}, {ref.size} bytes]" for ref in delivery.file_refs)
    return f"{banner}from: {delivery.sender}\n\n{body}{files}"


def _quoted(body: str) -> str:
    """The body, so that no part of it reads as the next message."""
    return _FORGED.sub(f" {SEPARATOR}", body)


def sent(reply: a.Ok) -> str:
    """What `send` shows."""
    if reply.duplicate:
        return f"already sent as message {reply.id}; nothing was sent again"
    if reply.held:
        return f"message {reply.id} is stored, and held until the operator releases it"
    return f"sent as message {reply.id}"


def done(reply: a.Ok) -> str:
    """What tools show that only do something."""
    return (
        "done"
        + (f", id {reply.id}" if reply.id is not None else "")
        + (f": {reply.note}" if reply.note else "")
    )


def identity(reply: a.Identity) -> str:
    """What `whoami` shows."""
    match reply:
        case a.Identity(name=name, role=shown, pronouns=pronouns, hyperhive_rev=revision):
            return f"name: {name}\nrole: {shown}\noperator's pronouns: {pronouns}\nhyperhive: {revision}"


def queued_question(reply: a.QuestionQueued) -> str:
    """What `ask` shows."""
    return f"asked as question {reply.id}; the answer comes as a message"


def queued_reminder(reply: a.ReminderQueued) -> str:
    """What `remind` shows."""
    return f"reminder {reply.id} is set"


def loose_ends(reply: a.LooseEnds) -> str:
    """What `get_loose_ends` shows."""
    return "\n".join(_loose_end(end) for end in reply.loose_ends) or "nothing is open"


def _loose_end(end: LooseEnd) -> str:
    age = f"{end.age_seconds} s ago"
    if isinstance(end, ApprovalEnd):
        return f"approval {end.id} ({end.approval_kind} {end.agent} {end.commit_ref}), {age}"
    if isinstance(end, QuestionEnd):
        return f"question {end.id}, {end.asker} to {end.target}, {age}: {_below(end.question)}"
    failed = f" (failed: {end.failure})" if end.failure else ""
    return f"reminder {end.id} of {end.owner}, due at {end.due_at}, {age}: {_below(end.message)}{failed}"


def _below(text: str) -> str:
    """Somebody's text, so that no line of it reads as a loose end of its own."""
    return "\n    ".join(text.splitlines())
