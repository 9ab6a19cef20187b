"""What the headers of a refusing reply say of an account's limits. Pure."""

from typing import Final

from hyperhive.gateway.rules import Headers

LONGEST_SECONDS: Final = 8 * 86_400
"""No limit lasts longer than a week; what says so is not believed."""

_STATUS: Final = b"anthropic-ratelimit-unified-status"
_RESET: Final = b"anthropic-ratelimit-unified-reset"


def limited_until(headers: Headers, now: float) -> float | None:
    """Until which unix time the account is at its limit, by a reply of status 429; None where it does not say."""
    told = dict(headers)
    found = []
    if (seconds := _number(told.get(b"retry-after"))) is not None:
        found.append(now + seconds)
    if told.get(_STATUS) == b"rejected" and (at := _number(told.get(_RESET))) is not None:
        found.append(at)
    until = max(found, default=now)
    return until if now < until <= now + LONGEST_SECONDS else None


def _number(text: bytes | None) -> float | None:
    """A whole number of seconds; a date is not used by this API."""
    return None if text is None or not text.strip().isdigit() else float(text)
