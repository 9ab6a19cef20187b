"""Errors as HTTP answers them: problem+json (RFC 9457), and the one table from an error's code to a status.

`detail` is the error's sentence, `hint` says how to mend it, `request_id` finds it in the hive's log.
"""

from http import HTTPStatus
from typing import Final

import msgspec

from hyperhive.errors import HiveError

MEDIA_TYPE: Final = "application/problem+json"

STATUS: Final[dict[str, int]] = {
    # your request was wrong
    "bad_request": 400,
    "invalid_name": 400,
    "path_too_long": 400,
    "bad_config": 422,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "stale_base": 409,
    "moved": 409,
    "unseen": 409,
    "foreign": 409,
    "superseded": 409,
    "limit": 429,
    "not_available": 501,
    # the world was not as it should be
    "world": 502,
    "store_locked": 503,
    "store_failed": 503,
    "unreachable": 503,
    "missing_part": 503,
    "timed_out": 504,
    "closed": 503,
    # a bug of ours
    "bug": 500,
    "error": 500,
    # HTTP's own
    "not_logged_in": 401,
    "bad_origin": 403,
    "method_not_allowed": 405,
    "too_slow": 408,
    "too_large": 413,
    "bad_content_type": 415,
    "bad_host": 421,
}
"""Status by code. A code that is not here (one that a newer part invented) is a conflict."""

_UNKNOWN: Final = 409


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every error answer holds."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    request_id: str


def status_of(code: str) -> int:
    """The status that an error of this code is answered with."""
    return STATUS.get(code, _UNKNOWN)


def problem(code: str, detail: str, request_id: str, hint: str | None = None) -> Problem:
    """An error of this code."""
    status = status_of(code)
    return Problem(
        type=f"urn:hyperhive:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        hint=hint,
        request_id=request_id,
    )


def problem_of(error: HiveError, request_id: str) -> Problem:
    """This error."""
    return problem(error.wire_code, error.message, request_id, error.hint)
