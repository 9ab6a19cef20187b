"""Values that requests, replies and events are made of.

Plain frozen structs with the names of the wire; times are unix seconds (integers), ids positive 64-bit integers.
Nothing here behaves.
"""

from typing import Any, Literal, TypeVar

import msgspec

Role = Literal["operator", "manager", "agent", "harness"]
Urgency = Literal["next_turn", "soon", "interrupt"]
MessageStateName = Literal["pending", "in_flight", "acked", "held", "dead"]
TurnStateName = Literal["idle", "queued", "thinking", "compacting", "waiting"]
WaitingReason = Literal["limited", "login", "budget", "backoff", "operator"]
LoginStatus = Literal["online", "needs_login_idle", "needs_login_in_progress"]
ContainerStateName = Literal["needs_you", "working", "idle", "stopped", "failed"]
TransientName = Literal["starting", "stopping", "restarting", "rebuilding", "destroying", "spawning"]
ModelRefusal = Literal["budget", "limited", "login"]
"""Why the hive's gateway refuses requests for the model: over budget; the account is at its limit, or needs a login."""
ResultKind = Literal[
    "ok", "failed", "prompt_too_long", "needs_login", "limited", "stuck", "cancelled", "crashed"
]
ApprovalKind = Literal["apply_commit", "spawn"]
ApprovalStatus = Literal["pending", "approved", "denied", "failed"]
ApprovalStage = Literal["proposal", "approved", "building", "deployed", "failed", "denied"]
LooseEndKind = Literal["approval", "question", "reminder"]

BODY_MAX_BYTES = 256 * 1024
REQUEST_LINE_MAX_BYTES = 1024 * 1024
REPLY_LINE_MAX_BYTES = 2 * 1024 * 1024
RECV_WAIT_DEFAULT_SECONDS = 30.0
RECV_WAIT_MAX_SECONDS = 180.0
RECV_MAX = 32
MODEL_WAIT_MAX_SECONDS = 15.0
RECENT_MAX = 100


V = TypeVar("V")


def always(value: V) -> V:
    """A field's default that is written out, too: for fields that the wire promises to be there."""
    default: V = msgspec.field(default_factory=lambda: value)
    return default


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of everything on the wire: immutable, unset optional fields left out, unknown ones ignored on reading."""


class FileRef(Wire, frozen=True, kw_only=True):
    """A file that a message's body names, by the path that its sender sees (the operator's: that its recipient sees).

    `size` and `kind` (`text`, `image`, `binary`) are as they were when it was sent. The host's path never leaves the
    core.
    """

    path: str
    size: int
    kind: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"sender": "from"}):
    """A message as it is handed to its recipient.

    `redelivered` means that an earlier attempt did not end well. `recipient` is the library's alone: on the wire it is
    whoever asked, and left out.
    """

    id: int
    sender: str
    recipient: str = ""
    body: str
    at: int
    redelivered: bool = always(False)  # noqa: FBT003 - the default itself
    urgency: Urgency = always("next_turn")
    file_refs: tuple[FileRef, ...] = always(())


class InboxRow(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """A message as it is listed; looking at it delivers nothing."""

    id: int
    sender: str
    body: str
    at: int


class OperatorInboxRow(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"sender": "from"}
):
    """A message to the operator, with its done mark and the files that it names. `cut`: the body goes on."""

    id: int
    sender: str
    body: str
    at: int
    done_at: int | None = None
    file_refs: tuple[FileRef, ...] = ()
    cut: bool = False


class DeadLetter(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"sender": "from", "recipient": "to"},
):
    """A message that was given up, with the reason. It stays until somebody requeues or drops it."""

    id: int
    sender: str
    recipient: str
    body: str
    at: int
    dead_at: int
    reason: str
    tries: int = 0


class Receipt(Wire, frozen=True, kw_only=True):
    """What `send` returns: the message is durable.

    `duplicate`: it already was, under this id; `held`: it waits for the operator's word before it is handed out.
    """

    id: int
    duplicate: bool = False
    held: bool = False


class TokenUsage(Wire, frozen=True, kw_only=True):
    """Token counts as the model's API names them; absent means 0."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0

    @property
    def context_tokens(self) -> int:
        """How much of the model's context this inference filled: input, cache read and cache creation."""
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_input_tokens=self.cache_read_input_tokens + other.cache_read_input_tokens,
            cache_creation_input_tokens=self.cache_creation_input_tokens + other.cache_creation_input_tokens,
        )


class Mount(Wire, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A directory of the operator's that an agent sees. `target` lies under /workspace."""

    source: str
    target: str
    mode: Literal["ro", "rw"] = "ro"


class Approval(Wire, frozen=True, kw_only=True):
    """One approval, as stored. `commit_ref` is empty for a spawn."""

    id: int
    agent: str
    kind: ApprovalKind = "apply_commit"
    commit_ref: str
    requested_at: int
    status: ApprovalStatus
    stage: ApprovalStage | None = None
    resolved_at: int | None = None
    note: str | None = None
    base_ref: str | None = None
    diff_sha256: str | None = None
    requested_by: str | None = None
    resolved_by: str | None = None


class ToolCall(Wire, frozen=True, kw_only=True):
    """A tool call that waits for the operator, with its full input."""

    name: str
    input: dict[str, Any]


class ToolRule(Wire, frozen=True, kw_only=True):
    """What the operator allowed once and for all. `input`: only calls with exactly this one (its labels apart)."""

    id: int
    agent: str
    tool: str
    input: dict[str, Any] | None = None
    allowed_at: int
    allowed_by: str
    question: int


class ApprovalEnd(Wire, frozen=True, kw_only=True, tag_field="kind", tag="approval"):
    """Loose end: an approval that nobody has resolved."""

    id: int
    agent: str
    approval_kind: ApprovalKind
    commit_ref: str
    age_seconds: int


class QuestionEnd(Wire, frozen=True, kw_only=True, tag_field="kind", tag="question"):
    """Loose end: a question without an answer."""

    id: int
    asker: str
    target: str
    question: str
    age_seconds: int


class ReminderEnd(Wire, frozen=True, kw_only=True, tag_field="kind", tag="reminder"):
    """Loose end: a reminder that is still to come, or that failed."""

    id: int
    owner: str
    message: str
    due_at: int
    age_seconds: int
    failure: str | None = None


LooseEnd = ApprovalEnd | QuestionEnd | ReminderEnd


class ContainerView(Wire, frozen=True, kw_only=True):
    """All that a fleet row shows of one agent."""

    name: str
    role: Literal["manager", "agent"]
    running: bool
    state: ContainerStateName
    turn_state: TurnStateName
    turn_state_since: int
    unread: int
    model: str
    isolation: str
    network: str
    account: str
    waiting_reason: WaitingReason | None = None
    waiting_until: int | None = None
    budget_used: float | None = None
    deployed_sha: str | None = None
    needs_login: bool
    needs_update: bool
    held_by_operator: bool
    pending_reminders: int
    ctx_tokens: int | None = None
    transient: TransientName | None = None
    page_port: int | None = None


class TurnRow(Wire, frozen=True, kw_only=True):
    """One row of turn statistics, as stored."""

    started_at: int
    ended_at: int
    duration_ms: int
    model: str
    wake_from: str
    result_kind: ResultKind
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    last_input_tokens: int | None = None
    last_output_tokens: int | None = None
    last_cache_read_input_tokens: int | None = None
    last_cache_creation_input_tokens: int | None = None
    tool_call_count: int = 0
    tool_call_breakdown_json: str = "{}"
    open_threads_count: int = 0
    open_reminders_count: int = 0
    cost: float = 0.0
    turn: int | None = None
    message: int | None = None
    """The message that caused it, and the first one of that one's chain; `root`: who wrote that."""
    chain: int | None = None
    root: str | None = None
    last_tool: str | None = None
    """Of a turn that did not end well, where its events tell: the last tool that it called, in a few words; what its
    end said; the last lines of its notes, among them the CLI's stderr."""
    error: str | None = None
    stderr: str | None = None
