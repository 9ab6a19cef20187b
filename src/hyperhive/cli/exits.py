"""Error codes to exit codes: the one table."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
UNREACHABLE: Final = 5
TIMED_OUT: Final = 6
INTERRUPTED: Final = 130

EXIT_CODES: Final[dict[str, int]] = {
    "bad_request": USAGE,
    "invalid_name": USAGE,
    "usage": USAGE,
    "not_found": NOT_FOUND,
    "conflict": CONFLICT,
    "foreign": CONFLICT,
    "moved": CONFLICT,
    "unseen": CONFLICT,
    "stale_base": CONFLICT,
    "superseded": CONFLICT,
    "store_locked": CONFLICT,
    "unreachable": UNREACHABLE,
    "closed": UNREACHABLE,
    "timed_out": TIMED_OUT,
    "interrupted": INTERRUPTED,
}
"""What a script may branch on. Every other code means that the command failed."""


def exit_code(code: str) -> int:
    """The process's exit code for an error code."""
    return EXIT_CODES.get(code, FAILED)
