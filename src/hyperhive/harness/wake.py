"""The text that wakes an agent: its messages with their provenance, how many more wait, and what may have been done.

Pure. A message's body cannot end its own frame: the boundary code is fresh for every prompt, and the role prompt says
that a message ends only where its own code stands. Whether the session still has a text is the caller's knowledge.
"""

from collections.abc import Collection, Sequence

from hyperhive.harness.prompts import fill, load
from hyperhive.protocol.types import Delivery

_TEMPLATE = load("wake")  # read at import, where blocking is no fault

REDELIVERED = "[redelivered after harness restart — may already be handled]"


def wake_prompt(
    messages: Sequence[Delivery],
    *,
    boundary: str,
    unread: int = 0,
    standing: Collection[int] = (),
    interrupted_by: str | None = None,
) -> str:
    """The prompt of one turn.

    Args:
        boundary: a code that none of the writers can have known.
        unread: how many others still wait in the inbox.
        standing: ids whose text stands in the session already (their turn failed in the API): told of, not repeated.
        interrupted_by: what the turn that these messages were in was interrupted for.
    """
    again = all(message.id in standing for message in messages)
    count = "1 message" if len(messages) == 1 else f"{len(messages)} messages"
    summary = f"Again: {count}." if again else f"You have {count}."
    sections = [_section(one, boundary, one.id in standing, interrupted_by) for one in messages]
    return fill(_TEMPLATE, summary=summary, more=_more(unread), messages="\n\n".join(sections)).strip() + "\n"


def injected_prompt(message: Delivery, *, boundary: str) -> str:
    """The text of a message that is handed to a running turn."""
    return f"A message came while you were working:\n\n{_section(message, boundary, False, None)}\n"  # noqa: FBT003


def _section(message: Delivery, boundary: str, standing: bool, interrupted_by: str | None) -> str:
    lines = [f"[message {message.id} from {message.sender}, boundary {boundary}]"]
    if message.redelivered or standing:
        lines.append(banner(interrupted_by))
    lines.append("(its text stands above in this session)" if standing else message.body)
    lines.append(f"[end of message {message.id}, boundary {boundary}]")
    return "\n".join(lines)


def banner(interrupted_by: str | None = None) -> str:
    """The mark of a message whose earlier attempt did not end well."""
    if interrupted_by is None:
        return REDELIVERED
    return f"{REDELIVERED}\n[its turn was interrupted: {interrupted_by}]"


def _more(unread: int) -> str:
    if unread <= 0:
        return ""
    return f"\n{unread} more {'waits' if unread == 1 else 'wait'} in your inbox; take them with recv(max: {unread})."


def again_prompt(messages: Sequence[Delivery], *, boundary: str) -> str:
    """The prompt for a second try within one turn, in the session that has the texts: the first one got stuck."""
    ids = ", ".join(str(message.id) for message in messages)
    sections = [_section(one, boundary, True, "it gave no sign of life") for one in messages]  # noqa: FBT003
    return (
        f"The turn for message {ids} got stuck and was interrupted. Carry on.\n\n"
        + "\n\n".join(sections)
        + "\n"
    )
