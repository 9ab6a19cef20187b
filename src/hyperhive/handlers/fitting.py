"""How much fits one reply line."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from hyperhive.protocol.codec import encode
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES

REPLY_ROOM = REPLY_LINE_MAX_BYTES - 1024
"""What a reply's own frame may take of its line is less than this difference."""


def fitting(rows: Sequence[msgspec.Struct], room: int = REPLY_ROOM) -> int:
    """How many of these rows fit a reply line, or `room` bytes of it: at least one. Looks at no more than it needs."""
    for count, row in enumerate(rows):
        room -= len(encode(row)) + 1
        if room < 0:
            return max(count, 1)
    return len(rows)


Row = TypeVar("Row", bound=msgspec.Struct)


def shortest(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Those of these rows that fit one reply line, and the others: the longest, so that they hide nobody else's."""
    sizes = [len(encode(row)) + 1 for row in rows]
    if sum(sizes) <= REPLY_ROOM:
        return list(rows), []
    fit: set[int] = set()
    room = REPLY_ROOM
    for place in sorted(range(len(rows)), key=sizes.__getitem__):
        room -= sizes[place]
        if room < 0 and fit:
            break
        fit.add(place)
    return [row for place, row in enumerate(rows) if place in fit], [
        row for place, row in enumerate(rows) if place not in fit
    ]
