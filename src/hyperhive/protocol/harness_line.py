"""What the core asks a harness over its `attach` line.

The same verbs as the operator's, without a name: the line is the agent's. The harness answers each with a reply of
`replies`, carrying `req` back. Up the same line go the agent's live events.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from hyperhive.protocol.requests import Id, Limit, ShortText, Time, Window


class HarnessCommand(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="cmd"
):
    """Base of the commands that come down the line."""

    req: str | int


class Snapshot(HarnessCommand, frozen=True, kw_only=True, tag="snapshot"):
    """The agent page's state."""


class History(HarnessCommand, frozen=True, kw_only=True, tag="history"):
    """Events before `before`, oldest first; from `since` to `until` (unix seconds), both included."""

    before: Id | None = None
    limit: Limit = 200
    kind: ShortText | None = None
    q: ShortText | None = None
    since: Time | None = None
    until: Time | None = None


class TurnHistory(HarnessCommand, frozen=True, kw_only=True, tag="turns"):
    """Turns, newest first; see `requests.Turns`."""

    limit: Limit = 20
    failed: bool = False
    before: Id | None = None
    since: Time | None = None
    until: Time | None = None
    turn: Id | None = None


class LineStats(HarnessCommand, frozen=True, kw_only=True, tag="stats"):
    """Turn statistics over a window."""

    window: Window = "24h"


class LineCancel(HarnessCommand, frozen=True, kw_only=True, tag="cancel"):
    """Interrupt the running turn."""


class LineCompact(HarnessCommand, frozen=True, kw_only=True, tag="compact"):
    """Compact the session in the background."""


class LineModel(HarnessCommand, frozen=True, kw_only=True, tag="model"):
    """Change the model, from the next turn on."""

    model: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^\S+\Z")]


class LineNewSession(HarnessCommand, frozen=True, kw_only=True, tag="new_session"):
    """The next turn starts a new session."""


class LineLoginStart(HarnessCommand, frozen=True, kw_only=True, tag="login_start"):
    """Start the CLI's login."""


class LineLoginCode(HarnessCommand, frozen=True, kw_only=True, tag="login_code"):
    """Hand it the code."""

    code: Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class LineLoginCancel(HarnessCommand, frozen=True, kw_only=True, tag="login_cancel"):
    """Give the login up."""


class ForgetModel(HarnessCommand, frozen=True, kw_only=True, tag="forget_model"):
    """The model that was set at run time counts no more: from the next turn on it is the config's."""

    note: Annotated[str, Meta(max_length=4096)]
    """Why; the agent's stream says so."""


class Probe(HarnessCommand, frozen=True, kw_only=True, tag="probe"):
    """Start a CLI process of its own, without a turn; answered when its tools are connected, or cannot be."""


class Reread(HarnessCommand, frozen=True, kw_only=True, tag="reread"):
    """The agent's settings are others now: read them again, for the next turn."""


class Drain(HarnessCommand, frozen=True, kw_only=True, tag="drain"):
    """Finish the running turn (or end it, with `now`), requeue, and start no other."""

    now: bool = False


AnyHarnessCommand = (
    Snapshot
    | History
    | TurnHistory
    | LineStats
    | LineCancel
    | LineCompact
    | LineModel
    | LineNewSession
    | LineLoginStart
    | LineLoginCode
    | LineLoginCancel
    | ForgetModel
    | Probe
    | Reread
    | Drain
)
