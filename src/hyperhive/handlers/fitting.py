"""How much fits one reply line."""

from collections.abc import Sequence

import msgspec

from hyperhive.protocol.codec import encode
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES

REPLY_ROOM = REPLY_LINE_MAX_BYTES - 1024
"""What a reply's own frame may take of its line is less than this difference."""


def fitting(rows: Sequence[msgspec.Struct]) -> int:
    """How many of these rows fit one reply line: at least one. Looks at no more of them than it needs."""
    room = REPLY_ROOM
    for count, row in enumerate(rows):
        room -= len(encode(row)) + 1
        if room < 0:
            return max(count, 1)
    return len(rows)
