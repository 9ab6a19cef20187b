"""Time spans as people type them: `90`, `90s`, `10m`, `2h`, `1d`."""

import time
from typing import Final

from hyperhive.errors import BadRequest

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DIGITS_MAX: Final = 9


def moment(text: str | None, what: str) -> int | None:
    """The time (unix seconds) that is so long ago; a number of ten digits is one itself. None of None.

    Raises:
        BadRequest: as `seconds_of`.
    """
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) > _DIGITS_MAX:
        return int(text)
    return int(time.time()) - seconds_of(text, what)


def seconds_of(text: str, what: str) -> int:
    """How many seconds this is.

    Raises:
        BadRequest: it is no span, or none at all; the message names `what` asked for it.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if not (number.isascii() and number.isdecimal()):
        raise BadRequest(
            f"{what}: {text[:80]!r} is no time span", hint="a number with s, m, h or d behind it: 90s, 2h"
        )
    if len(number) > _DIGITS_MAX:
        raise BadRequest(f"{what}: {text[:80]!r} is too long a time", hint=f"at most {_DIGITS_MAX} digits")
    seconds = int(number) * _UNITS[unit]
    if seconds < 1:
        raise BadRequest(f"{what} takes at least a second")
    return seconds
