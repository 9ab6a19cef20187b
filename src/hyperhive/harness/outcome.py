"""What a `result` frame means: one table from the CLI's endings to ours.

Measured on 2.1.328 and 2.1.200. A turn is judged by `is_error` and `terminal_reason` together, never by exit code or
`subtype` alone; texts are looked at only where the older version gives nothing else, and never to decide that a login
is needed (a refusal of the network's own gateway reads like one). Decides nothing about retries.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from hyperhive.errors import BugError
from hyperhive.harness.stream_json import Frame, RateLimit
from hyperhive.protocol.types import ResultKind


class Evidence(msgspec.Struct):
    """What the frames before a result said about the API."""

    error: str | None = None
    """`error` of the last API-error message: rate_limit, server_error, authentication_failed, ..."""
    api_error: str | None = None
    retry_status: int | None = None
    retried: bool = False
    limit: RateLimit | None = None

    def observe(self, frame: Frame) -> None:
        """Take in a frame that is no result."""
        if frame.type == "assistant" and frame.error is not None:
            self.error = frame.error
            self.api_error = frame.api_error
        elif frame.type == "rate_limit_event" and frame.rate_limit_info is not None:
            self.limit = frame.rate_limit_info
        elif frame.subtype == "api_retry":
            self.retried = True
            self.retry_status = frame.error_status


class Outcome(NamedTuple):
    """The ending's kind and what follows from it; see `TurnResult` for the fields."""

    kind: ResultKind
    note: str | None = None
    blame: bool = False
    interrupted: bool = False
    reset_at: int | None = None
    park: str | None = None


class _Case(NamedTuple):
    frame: Frame
    seen: Evidence
    status: int | None
    text: str


Rule = tuple[str, Callable[[_Case], bool], Callable[[_Case], Outcome]]


def is_good(frame: Frame) -> bool:
    """The ack rule's condition on a result: both parts are needed, each version lies in one of them."""
    return frame.is_error is False and frame.terminal_reason == "completed"


def _limited(case: _Case) -> Outcome:
    limit = case.seen.limit
    rejected = limit is not None and limit.status == "rejected"
    resets = limit.resetsAt if limit is not None and rejected else None
    return Outcome("limited", case.text, reset_at=int(resets) if resets is not None else None)


def _parked(reason: str) -> Callable[[_Case], Outcome]:
    return lambda case: Outcome("failed", case.text, park=f"{reason}: {case.text}")


RULES: tuple[Rule, ...] = (
    ("good", lambda c: is_good(c.frame), lambda _: Outcome("ok")),
    (
        "aborted",
        lambda c: (
            (c.frame.terminal_reason or "").startswith("aborted")
            or c.frame.subtype == "error_during_execution"
        ),
        lambda _: Outcome("failed", "the turn was interrupted from outside the hive", interrupted=True),
    ),
    (
        "prompt too long",
        lambda c: c.frame.terminal_reason == "prompt_too_long" or c.text.startswith("Prompt is too long"),
        lambda c: Outcome("prompt_too_long", c.text, blame=True),
    ),
    (
        "max turns",
        lambda c: c.frame.terminal_reason == "max_turns" or c.frame.subtype == "error_max_turns",
        lambda c: Outcome("failed", c.text or "too many steps in one turn", blame=True),
    ),
    (
        "CLI budget",
        lambda c: c.frame.terminal_reason == "budget_exhausted" or c.frame.subtype == "error_max_budget_usd",
        _parked("the CLI's own budget is used up"),
    ),
    ("refused", lambda c: c.status == 403, _parked("refused by the API")),
    (
        "not logged in",
        lambda c: c.status == 401 or (c.status is None and c.seen.error == "authentication_failed"),
        lambda c: Outcome("needs_login", c.text),
    ),
    (
        "model unknown",
        lambda c: c.seen.error == "model_not_found" or (c.status == 404 and "model" in c.text),
        _parked("the model cannot be used"),
    ),
    ("billing", lambda c: c.status == 402 or c.seen.error == "billing_error", _parked("billing")),
    ("usage or rate limit", lambda c: c.status == 429 or c.seen.error == "rate_limit", _limited),
    (
        "API down",
        lambda c: (
            (c.status is not None and c.status >= 500) or c.seen.error in {"server_error", "overloaded"}
        ),
        lambda c: Outcome("limited", c.text),
    ),
    (
        "connection failed",
        lambda c: c.seen.api_error == "connection_failed" or (c.seen.retried and c.status is None),
        lambda c: Outcome("limited", c.text),
    ),
    (
        "anything else",
        lambda _: True,
        lambda c: Outcome("failed", c.text or "the turn failed without saying why"),
    ),
)
"""First match wins. The order matters: 403 reads like a failed login, and a usage limit is a 429 as well."""


def classify(result: Frame, seen: Evidence) -> Outcome:
    """What this result means, given what was seen before it."""
    case = _Case(result, seen, result.api_error_status, result.text())
    for _, applies, outcome in RULES:
        if applies(case):
            return outcome(case)
    raise BugError("the last rule always applies")
