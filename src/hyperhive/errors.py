"""Every error that HyperHive raises on purpose, as one tree.

    HiveError                    code, message, hint
    ├── RequestError             your request was wrong: mend it and ask again
    │   ├── BadRequest ├── Forbidden ├── InvalidName ├── PathTooLong
    │   ├── NotFound   ├── Conflict (StaleBase) ├── LimitReached ├── NotAvailable ├── BadConfig
    ├── WorldError               the request was fine, the world was not
    │   ├── StoreLocked ├── StoreFailed ├── HiveUnreachable ├── MissingPart ├── TimedOut ├── Closed
    └── BugError                 a bug in HyperHive: please report it

`code` is stable and goes over the wire; `message` is a plain sentence for a person; `hint` says how to mend it.
Entry points map codes to exit codes, HTTP statuses and MCP errors, each in one table of its own.
This file raises nothing and logs nothing.
"""

from typing import ClassVar


class HiveError(Exception):
    """Root of the tree. `str()` gives the message, and the hint after it where there is one."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.wire_code = code or self.code

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RequestError(HiveError):
    """The caller's request was wrong; asking again unchanged gives the same answer."""

    code = "bad_request"


class BadRequest(RequestError):
    """A malformed request: unknown command or field, wrong type, not a JSON object, too long, blank body."""

    code = "bad_request"


class Forbidden(RequestError):
    """The role that this request arrived with may not do this. Nothing ran."""

    code = "forbidden"


class InvalidName(RequestError):
    """Not a valid or usable principal's name."""

    code = "invalid_name"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name[:80]!r} is no valid name: {reason}")
        self.name = name


class PathTooLong(RequestError):
    """A unix socket's path does not fit the kernel's limit."""

    code = "path_too_long"

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(
            f"the socket path {path} is longer than {limit} bytes",
            hint="choose a shorter run directory with HYPERHIVE_RUN_DIR or --run-dir",
        )


class NotFound(RequestError):
    """There is no such agent, message, approval, question or reminder."""

    code = "not_found"


class Conflict(RequestError):
    """The request does not fit the present state (already exists, already resolved, something is going on)."""

    code = "conflict"


class StaleBase(Conflict):
    """A proposed commit does not descend from what is deployed now: rebase it and propose the new commit."""

    code = "stale_base"


class LimitReached(RequestError):
    """A named limit was hit: the message says which one and its value, the hint when it ends or what ends it."""

    code = "limit"


class NotAvailable(RequestError):
    """The protocol knows this request, but this version of the hive does not serve it yet."""

    code = "not_available"


class BadConfig(RequestError):
    """A configuration file is wrong. The message lists every fault, each with its file and place."""

    code = "bad_config"

    def __init__(self, faults: list[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(faults), hint=hint)
        self.faults = faults


class WorldError(HiveError):
    """The request was right, but something outside HyperHive failed."""

    code = "world"


class StoreLocked(WorldError):
    """Another process owns this database."""

    code = "store_locked"


class StoreFailed(WorldError):
    """The database refused (disk full, read-only, corrupt). Nothing of this request was stored."""

    code = "store_failed"


class HiveUnreachable(WorldError):
    """No hive answers on any of the sockets that were tried."""

    code = "unreachable"


class MissingPart(WorldError):
    """A program that this needs is not installed or too old; the hint names the way to get it."""

    code = "missing_part"


class TimedOut(WorldError):
    """What was waited for did not happen in time. It may still happen."""

    code = "timed_out"


class Closed(WorldError):
    """The object or connection was closed while this was under way."""

    code = "closed"


class BugError(HiveError):
    """Something that cannot happen did."""

    code = "bug"
