"""What led to a question or an approval, as lines below it: the turn that asked, and what it was answering.

What agents wrote stands behind a bar at the left, as everywhere. Where it cannot be had, there are no lines.
"""

import time
from collections.abc import Iterator
from typing import Final

from hyperhive.cli.common import Session
from hyperhive.cli.render import ago
from hyperhive.errors import HiveError
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import OriginPage
from hyperhive.protocol.screens import OriginMessage
from hyperhive.terminal import visible, visible_lines

BAR: Final = "  | "
LINES_MAX: Final = 12
"""Of one message; `hyperhive messages --id N` has all of it."""


def origin_lines(session: Session, asked: r.Origin) -> list[str]:
    """The lines; none where the hive cannot say, or the operator asked."""
    try:
        page = session.ask(asked).read(OriginPage)
    except HiveError:
        return []
    return list(_lines(page)) if page.messages else []


def _lines(page: OriginPage) -> Iterator[str]:
    turn = "a turn" if page.turn is None else f"turn {page.turn}"
    yield visible(f"asked in {turn} of {page.asker}, which was answering:")
    for message in page.messages:
        yield from _quoted(message)
    if page.more:
        yield f"  and {page.more} more"
    if page.root is not None:
        yield "all of it began with:"
        yield from _quoted(page.root)


def _quoted(message: OriginMessage) -> Iterator[str]:
    when = ago(message.at, time.time())
    yield visible(f"  {message.sender} to {message.recipient}, {when} (message {message.id}):")
    lines = visible_lines(message.body)
    yield from (f"{BAR}{text}" for text in lines[:LINES_MAX])
    if message.cut or len(lines) > LINES_MAX:
        yield f"{BAR}…"
