"""Everything anyone can be told: helper events (in mail bodies), live events (one agent), hive events (all agents).

Each union is closed for writers and open for readers: an event of an unknown kind decodes to `UnknownEvent` rather
than failing. Events describe what has happened; nothing here happens.
"""

from typing import Any, Literal

import msgspec

from hyperhive.protocol.types import (
    Approval,
    ContainerView,
    FileRef,
    LoginStatus,
    MessageStateName,
    TokenUsage,
    ToolCall,
    TransientName,
    TurnStateName,
    WaitingReason,
    always,
)

# --- HelperEvent: JSON in the body of a message from `system` -------------------------------------------------------


class HelperEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event"):
    """Base of the events that `system` mails after something happened, also when it failed."""


class ApprovalResolvedMail(HelperEvent, frozen=True, kw_only=True, tag="approval_resolved"):
    """An approval was resolved, for whatever reason."""

    id: int
    agent: str
    commit_ref: str
    status: str
    note: str | None = None


class Spawned(HelperEvent, frozen=True, kw_only=True, tag="spawned"):
    """A new agent was created, or could not be."""

    agent: str
    ok: bool
    note: str | None = None


class Rebuilt(HelperEvent, frozen=True, kw_only=True, tag="rebuilt"):
    """An agent's environment was rebuilt, or could not be."""

    agent: str
    ok: bool
    note: str | None = None


class Killed(HelperEvent, frozen=True, kw_only=True, tag="killed"):
    """An agent was stopped."""

    agent: str


class Destroyed(HelperEvent, frozen=True, kw_only=True, tag="destroyed"):
    """An agent was removed; its state may still be there."""

    agent: str


class ContainerCrash(HelperEvent, frozen=True, kw_only=True, tag="container_crash"):
    """An agent stopped without having been asked to."""

    agent: str
    note: str | None = None


class NeedsLogin(HelperEvent, frozen=True, kw_only=True, tag="needs_login"):
    """An agent's account is no longer logged in."""

    agent: str


class LoggedIn(HelperEvent, frozen=True, kw_only=True, tag="logged_in"):
    """An agent's account is logged in again."""

    agent: str


class NeedsUpdate(HelperEvent, frozen=True, kw_only=True, tag="needs_update"):
    """An agent was built from another revision than the hive's."""

    agent: str


class QuestionAsked(HelperEvent, frozen=True, kw_only=True, tag="question_asked"):
    """Somebody asks the receiver of this mail."""

    id: int
    asker: str
    question: str
    options: tuple[str, ...] = always(())
    multi: bool = always(value=False)


class QuestionAnswered(HelperEvent, frozen=True, kw_only=True, tag="question_answered"):
    """The receiver's question was answered."""

    id: int
    question: str
    answer: str
    answerer: str


AnyHelperEvent = (
    ApprovalResolvedMail
    | Spawned
    | Rebuilt
    | Killed
    | Destroyed
    | ContainerCrash
    | NeedsLogin
    | LoggedIn
    | NeedsUpdate
    | QuestionAsked
    | QuestionAnswered
)


# --- Frames that any stream may carry -------------------------------------------------------------------------------


class StreamEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Base of what a stream carries. `seq` counts the live frames of one stream in one process, from 1; 0 is unset."""

    seq: int = 0


class Resume(StreamEvent, frozen=True, kw_only=True, tag="resume"):
    """Opens every stream: `new`, `ok` (continued where the reader left off) or `gap` (refetch a snapshot).

    `streams`: on a browser's one stream, which streams it carries from here on, and where each of them stands.
    """

    resume: str
    id: str
    streams: dict[str, int] | None = None


class Lagged(StreamEvent, frozen=True, kw_only=True, tag="lagged"):
    """This reader fell behind and `missed` frames are gone: refetch a snapshot."""

    missed: int


class Heartbeat(StreamEvent, frozen=True, kw_only=True, tag="heartbeat"):
    """Nothing happened, and the line is alive."""


class Ended(StreamEvent, frozen=True, kw_only=True, tag="ended"):
    """On a browser's one stream: there is nothing more of that stream, its agent is gone."""


StreamFrame = Resume | Lagged | Heartbeat | Ended


# --- LiveEvent: the stream of one agent -----------------------------------------------------------------------------


class LiveEvent(StreamEvent, frozen=True, kw_only=True):
    """Base of one agent's events. `eid` is the row id in its event log, `turn` the turn it belongs to."""

    eid: int | None = None
    turn: int | None = None


class TurnStart(LiveEvent, frozen=True, kw_only=True, rename={"sender": "from"}, tag="turn_start"):
    """A turn began with this message."""

    sender: str
    body: str
    unread: int


NoteSource = Literal["operator", "cli"]


class Note(LiveEvent, frozen=True, kw_only=True, tag="note"):
    """A line for the reader: stderr of the CLI, a warning, or what the operator did.

    `source`: whose it is, where it is not the hive's own.
    """

    text: str
    source: NoteSource | None = None


class TurnEnd(LiveEvent, frozen=True, kw_only=True, tag="turn_end"):
    """A turn ended."""

    ok: bool
    note: str | None = None


class StatusChanged(LiveEvent, frozen=True, kw_only=True, tag="status_changed"):
    """The agent's login changed."""

    status: LoginStatus


class ModelChanged(LiveEvent, frozen=True, kw_only=True, tag="model_changed"):
    """The model for the next turns changed."""

    model: str


class TokenUsageChanged(LiveEvent, frozen=True, kw_only=True, tag="token_usage_changed"):
    """`ctx` is the last inference's usage, `cost` the turn's sum."""

    ctx: TokenUsage | None = None
    cost: TokenUsage | None = None


class TurnStateChanged(LiveEvent, frozen=True, kw_only=True, tag="turn_state_changed"):
    """What the agent is doing changed; transitions only."""

    state: TurnStateName
    since_unix: int
    reason: WaitingReason | None = None


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One stream-json line of the agent CLI.

    `line` is its raw JSON object; on the wire its fields stand beside the tag (see `live.encode_live`), so this
    kind has no struct encoding of its own.
    """

    line: bytes
    seq: int = 0
    eid: int | None = None
    turn: int | None = None


TypedLiveEvent = (
    TurnStart | Note | TurnEnd | StatusChanged | ModelChanged | TokenUsageChanged | TurnStateChanged
)
AnyLiveEvent = TypedLiveEvent | Stream


# --- DashboardEvent: the stream of the hive -------------------------------------------------------------------------

EVENT_BODY_MAX_BYTES = 4096


class DashboardEvent(StreamEvent, frozen=True, kw_only=True):
    """Base of the hive's events."""


class Sent(
    DashboardEvent, frozen=True, kw_only=True, rename={"sender": "from", "recipient": "to"}, tag="sent"
):
    """A message is durable in its inbox."""

    id: int
    sender: str
    recipient: str
    body: str
    at: int
    file_refs: tuple[FileRef, ...] = always(())
    cut: bool = False


class Delivered(
    DashboardEvent, frozen=True, kw_only=True, rename={"sender": "from", "recipient": "to"}, tag="delivered"
):
    """A message was handed to its recipient."""

    id: int
    sender: str
    recipient: str
    body: str
    at: int
    file_refs: tuple[FileRef, ...] = always(())
    cut: bool = False


class MessageState(DashboardEvent, frozen=True, kw_only=True, tag="message_state"):
    """A message moved on."""

    id: int
    state: MessageStateName
    turn: int | None = None
    note: str | None = None


class ApprovalAdded(DashboardEvent, frozen=True, kw_only=True, tag="approval_added"):
    """An approval waits for the operator, with what it would change."""

    approval: Approval
    diff: str


class ApprovalChanged(DashboardEvent, frozen=True, kw_only=True, tag="approval_changed"):
    """An approval reached another status or stage."""

    approval: Approval


class ApprovalResolved(DashboardEvent, frozen=True, kw_only=True, tag="approval_resolved"):
    """An approval is final: deployed, denied or failed."""

    approval: Approval


class QuestionAdded(DashboardEvent, frozen=True, kw_only=True, tag="question_added"):
    """A question was asked."""

    id: int
    asker: str
    target: str
    question: str
    options: tuple[str, ...] = always(())
    multi: bool = always(value=False)
    tool: ToolCall | None = None
    asked_at: int
    expires_at: int | None = None


class QuestionResolved(DashboardEvent, frozen=True, kw_only=True, tag="question_resolved"):
    """A question was answered, cancelled or expired. `channel`: by what way the operator did it (`web`, `host`)."""

    id: int
    answer: str
    answerer: str
    channel: str | None = None


class TransientSet(DashboardEvent, frozen=True, kw_only=True, tag="transient_set"):
    """An action on an agent is under way."""

    agent: str
    what: TransientName


class TransientCleared(DashboardEvent, frozen=True, kw_only=True, tag="transient_cleared"):
    """That action ended."""

    agent: str


class ContainerStateChanged(DashboardEvent, frozen=True, kw_only=True, tag="container_state_changed"):
    """An agent's fleet row changed."""

    container: ContainerView


class ContainerRemoved(DashboardEvent, frozen=True, kw_only=True, tag="container_removed"):
    """An agent is gone from the fleet."""

    name: str


class TombstonesChanged(DashboardEvent, frozen=True, kw_only=True, tag="tombstones_changed"):
    """The set of destroyed agents whose state is kept changed."""


class MetaInputsChanged(DashboardEvent, frozen=True, kw_only=True, tag="meta_inputs_changed"):
    """The inputs of the meta flake changed."""


class RemindersChanged(DashboardEvent, frozen=True, kw_only=True, tag="reminders_changed"):
    """Reminders were added, delivered, removed, or could not be delivered; `owner`: whose."""

    owner: str


AnyDashboardEvent = (
    Sent
    | Delivered
    | MessageState
    | ApprovalAdded
    | ApprovalChanged
    | ApprovalResolved
    | QuestionAdded
    | QuestionResolved
    | TransientSet
    | TransientCleared
    | ContainerStateChanged
    | ContainerRemoved
    | TombstonesChanged
    | MetaInputsChanged
    | RemindersChanged
)


class UnknownEvent(msgspec.Struct, frozen=True):
    """An event of a kind that this version does not know: kept, shown, never refused."""

    kind: str
    fields: dict[str, Any]
