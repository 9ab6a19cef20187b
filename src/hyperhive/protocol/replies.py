"""Everything anyone can be answered: one union of replies, and its two shapes on the wire.

On agent and harness sockets a reply is its own tagged object (`kind`). The operator's socket answers in the shape of
HostResponse: `ok` beside the reply's fields, or `ok: false` with `error` and `code`.
"""

from typing import Any, Literal

import msgspec

from hyperhive.protocol.screens import (
    ConfigStand,
    Deployment,
    DigestAgent,
    DigestItem,
    Effective,
    FlowRow,
    HiveSummary,
    MetaInput,
    OriginMessage,
    Proposal,
    ProposedStand,
    Reminder,
    SearchHit,
    Tombstone,
)
from hyperhive.protocol.types import (
    Approval,
    ContainerView,
    DeadLetter,
    Delivery,
    FileRef,
    InboxRow,
    LoginStatus,
    LooseEnd,
    ModelRefusal,
    OperatorInboxRow,
    Role,
    TokenUsage,
    ToolCall,
    ToolRule,
    TransientName,
    TurnRow,
    TurnStateName,
    WaitingReason,
    Wire,
    always,
)


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Base of all replies. `req` is the request's, where it had one."""

    req: str | int | None = None


class Err(Reply, frozen=True, kw_only=True, tag="err"):
    """The request failed, and nothing of it happened unless the message says so."""

    message: str
    code: str
    hint: str | None = None


class Ok(Reply, frozen=True, kw_only=True, tag="ok"):
    """Done, with the id, the count or the marks that the request speaks of."""

    id: int | None = None
    duplicate: bool = False
    held: bool = False
    count: int | None = None
    note: str | None = None


class Messages(Reply, frozen=True, kw_only=True, tag="messages"):
    """What was popped; empty means that nothing is pending."""

    messages: list[Delivery]


class Unread(Reply, frozen=True, kw_only=True, tag="status"):
    """How many messages wait for the caller."""

    unread: int


class RecentRows(Reply, frozen=True, kw_only=True, tag="recent"):
    """The newest messages, newest first."""

    rows: list[InboxRow]


class QuestionQueued(Reply, frozen=True, kw_only=True, tag="question_queued"):
    """The question is durable, under this id."""

    id: int


class LooseEnds(Reply, frozen=True, kw_only=True, tag="loose_ends"):
    """What is still open."""

    loose_ends: list[LooseEnd]


class ReminderQueued(Reply, frozen=True, kw_only=True, tag="reminder_queued"):
    """The reminder is durable, under this id."""

    id: int


class RemindersPending(Reply, frozen=True, kw_only=True, tag="reminders_pending"):
    """How many reminders are still to come."""

    count: int


class Identity(Reply, frozen=True, kw_only=True, tag="whoami"):
    """Who the caller is. `pronouns` are the operator's."""

    name: str
    role: Role
    pronouns: str
    hyperhive_rev: str


class Agents(Reply, frozen=True, kw_only=True, tag="agents"):
    """Names of agents."""

    agents: list[str]


class Approvals(Reply, frozen=True, kw_only=True, tag="approvals"):
    """The open approvals."""

    approvals: list[Approval]


class ApprovalDiff(Reply, frozen=True, kw_only=True, tag="approval"):
    """One approval with its whole diff."""

    approval: Approval
    diff: str
    warnings: tuple[str, ...] = ()
    """What should be said with it: characters that do not show, what would fail, what is cut, what restarts."""


class AuditEntry(Wire, frozen=True, kw_only=True):
    """One decision: who, by which way, on which commit, and why. It never changes."""

    id: int
    at: int
    approval: int
    agent: str
    action: str
    who: str
    channel: str
    sha: str | None = None
    diff_sha256: str | None = None
    why: str | None = None


class AuditRows(Reply, frozen=True, kw_only=True, tag="audit"):
    """The decisions, newest first."""

    entries: list[AuditEntry]


class InboxRows(Reply, frozen=True, kw_only=True, tag="inbox"):
    """The operator's mail, newest first."""

    messages: list[OperatorInboxRow]


class StateFile(Reply, frozen=True, kw_only=True, tag="state_file"):
    """A file of an agent, and how it begins: as `text` where it is UTF-8, else in `base64`; at most 1 MiB of it.

    `truncated`: the file is longer than what is here. A check has neither.
    """

    file: FileRef
    text: str | None = None
    base64: str | None = None
    truncated: bool = False


class DeadLetters(Reply, frozen=True, kw_only=True, tag="dead"):
    """Messages that were given up, newest first."""

    dead: list[DeadLetter]


class Question(Wire, frozen=True, kw_only=True):
    """A question. `answered_at`, `answer` (its beginning), `answerer`: how it was resolved, where it is.

    `channel`: by what way it was, where the operator did it (`web`, `host`).
    `cut`: it is too long for the list that it is in; `questions {id}` gives it whole, its options and its tool's input.
    """

    id: int
    asker: str
    target: str
    question: str
    options: tuple[str, ...] = always(())
    multi: bool = always(value=False)
    tool: ToolCall | None = None
    asked_at: int
    expires_at: int | None = None
    answered_at: int | None = None
    answer: str | None = None
    answerer: str | None = None
    channel: str | None = None
    cut: bool = False


class QuestionRows(Reply, frozen=True, kw_only=True, tag="questions"):
    """Open questions, oldest first. `left_out`: those that are too long to be in this reply beside the others."""

    questions: list[Question]
    left_out: list[int] = []


class ToolVerdict(Reply, frozen=True, kw_only=True, tag="tool_verdict"):
    """Whether a call may run; `waiting`: the operator has not answered yet. `id`: the question.

    `message`: by what it may; or why it may not, in words for the model.
    """

    verdict: Literal["allow", "deny", "waiting"]
    id: int | None = None
    message: str | None = None


class ToolRuleRows(Reply, frozen=True, kw_only=True, tag="tool_rules"):
    """What the operator allowed once and for all, oldest first."""

    rules: list[ToolRule]


class Notice(Wire, frozen=True, kw_only=True):
    """One notice by one channel. `told_as`: the key of the notice that told of many at once; `at`: of its state."""

    id: int
    channel: str
    key: str
    agent: str | None = None
    title: str
    state: str
    due_at: int
    at: int
    tries: int = 0
    told_as: str | None = None
    error: str | None = None


class NoticeRows(Reply, frozen=True, kw_only=True, tag="notices"):
    """The delivery log, newest first; the channels that there are."""

    notices: list[Notice]
    channels: list[str]


class AccountView(Wire, frozen=True, kw_only=True):
    """An account without its secret. `kind`: how it authenticates; `env`: taken from the operator's environment."""

    name: str
    kind: Literal["key", "token", "env", "login"]
    agents: tuple[str, ...] = ()
    limited_until: int | None = None
    needs_login: bool = False


class Accounts(Reply, frozen=True, kw_only=True, tag="accounts"):
    """The accounts, without their secrets."""

    accounts: list[AccountView]


class AgentDetail(Wire, frozen=True, kw_only=True):
    """What `status` shows of one agent beyond its fleet row.

    Attributes:
        key: who holds its account's key: the `gateway`, or its CLI's `environment`; None: it has a login of its own.
        needs: what it needs the operator for, and what to do about it.
        warnings: what is not isolated or not enforced.
    """

    view: ContainerView
    mounts: tuple[str, ...] = ()
    cli_version: str | None = None
    session: str | None = None
    warm: bool = False
    last_error: str | None = None
    key: Literal["gateway", "environment"] | None = None
    needs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class HiveInfo(Wire, frozen=True, kw_only=True):
    """The hive itself."""

    revision: str
    runtime: str
    started_at: int
    pid: int
    state_dir: str
    run_dir: str
    dashboard: str | None = None
    operator_unread: int = 0
    questions: int = 0
    dead: int = 0
    held: int = 0
    tombstones: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class HiveStatus(Reply, frozen=True, kw_only=True, tag="hive_status"):
    """The hive and its agents."""

    hive: HiveInfo
    agents: list[AgentDetail]


class LogLines(Reply, frozen=True, kw_only=True, tag="logs"):
    """Lines of a log, oldest first."""

    lines: list[str]


class EventPage(Reply, frozen=True, kw_only=True, tag="events"):
    """Events as they are on the agent's stream, oldest first. `seq`: read before the events were."""

    seq: int
    events: list[dict[str, Any]]


class HivePast(Reply, frozen=True, kw_only=True, tag="history"):
    """The hive's events as they were on its stream, oldest first, each with its `ts` (unix seconds).

    `seq`: read before they were. `older`: to be said as `before` for the page before this one; not there at the end.
    """

    seq: int
    events: list[dict[str, Any]]
    older: str | None = None


class TurnRows(Reply, frozen=True, kw_only=True, tag="turns"):
    """Turns, newest first."""

    turns: list[TurnRow]


class StatsPage(Reply, frozen=True, kw_only=True, tag="stats"):
    """Aggregates over a window, by name; the web page's charts are made of them."""

    window: str
    stats: dict[str, Any]


class LoginSession(Wire, frozen=True, kw_only=True):
    """A login in progress, or how the last one ended."""

    url: str | None = None
    output: str = always("")
    finished: bool = always(value=False)
    exit_note: str | None = None


class Login(Reply, frozen=True, kw_only=True, tag="login"):
    """The login in progress, if there is one."""

    session: LoginSession | None = None


class AgentSnapshot(Reply, frozen=True, kw_only=True, tag="snapshot"):
    """The agent page's state; `seq` was read before the rest."""

    seq: int
    label: str
    status: LoginStatus
    session: LoginSession | None
    turn_state: TurnStateName
    turn_state_since: int
    model: str
    ctx_usage: TokenUsage | None
    cost_usage: TokenUsage | None
    warm: bool = False
    cli_version: str | None = None
    session_id: str | None = None


class AgentPage(Reply, frozen=True, kw_only=True, tag="agent_state"):
    """An agent's page; `seq`, of its stream, was read before the rest. `inbox`: the 30 newest.

    While the agent does not run, or its harness is not on its line, it says what is known of it: `running` tells.
    """

    seq: int
    label: str
    dashboard_port: int
    status: LoginStatus
    session: LoginSession | None
    inbox: list[InboxRow]
    turn_state: TurnStateName
    turn_state_since: int
    model: str
    ctx_usage: TokenUsage | None
    cost_usage: TokenUsage | None
    running: bool
    waiting_reason: WaitingReason | None = None
    waiting_until: int | None = None
    cli_version: str | None = None
    session_id: str | None = None


class ModelStanding(Reply, frozen=True, kw_only=True, tag="model_standing"):
    """How an agent stands with the model.

    `served`: the hive's gateway answers its CLI, which needs no key then. `refused`: its account cannot be used now,
    for this reason, until then (unix seconds) where that is known. `last`: why its last request was refused or failed,
    and `last_at`, when.
    """

    served: bool = False
    refused: ModelRefusal | None = None
    message: str | None = None
    until: int | None = None
    last: ModelRefusal | None = None
    last_at: int | None = None


class Admission(Reply, frozen=True, kw_only=True, tag="admission"):
    """Whether a turn may start. `refused`: why not; `until`: unix seconds when it may by itself.

    `limited_until`: the agent's account is at its usage limit until then; that is no refusal of this reply's.
    """

    refused: str | None = None
    until: int | None = None
    question: int | None = None
    limited_until: int | None = None


class Charged(Reply, frozen=True, kw_only=True, tag="charged"):
    """What caused a turn: a message, and the first one of its chain. `refused`: the budget that cut it short."""

    message: int | None = None
    chain: int | None = None
    refused: str | None = None


class LoginUrl(Reply, frozen=True, kw_only=True, tag="login_link"):
    """A link that logs one browser in, once, until then (unix seconds). Whoever has it is the operator."""

    url: str
    expires_at: int


class WebSession(Wire, frozen=True, kw_only=True):
    """A browser that is logged in, by what it calls itself. `last_used_at`: since the hive started."""

    id: int
    created_at: int
    expires_at: int
    browser: str = always("")
    last_used_at: int | None = None


class WebSessionRows(Reply, frozen=True, kw_only=True, tag="web_sessions"):
    """The browsers that are logged in, newest first."""

    sessions: list[WebSession]


class BudgetLimit(Wire, frozen=True, kw_only=True):
    """One limit in force: tokens, or US dollars. `raises`: how often the operator granted as much again."""

    setting: str
    limit: float
    spent: float
    until: int
    raises: int = 0


class Spent(Wire, frozen=True, kw_only=True):
    """What an agent, or the `hive`, spent in this hour and on this day (UTC): tokens and US dollars."""

    name: str
    hour_tokens: int = always(0)
    hour_cost: float = always(0.0)
    day_tokens: int = always(0)
    day_cost: float = always(0.0)
    limits: tuple[BudgetLimit, ...] = always(())
    refused: str | None = None
    question: int | None = None


class DaySpent(Wire, frozen=True, kw_only=True):
    """What one agent spent on one day; `day`: when it began."""

    day: int
    agent: str
    tokens: int
    cost: float
    requests: int


class ChainSpent(Wire, frozen=True, kw_only=True):
    """What one chain of messages cost, and the message that it began with, as far as that is known."""

    chain: int
    tokens: int
    cost: float
    requests: int
    agents: tuple[str, ...]
    first_at: int
    last_at: int
    root_from: str | None = None
    root_to: str | None = None
    root_text: str | None = None


class BudgetPage(Reply, frozen=True, kw_only=True, tag="budget"):
    """What was spent. `chains`: the dearest of the last 30 days, dearest first; `days`: newest first."""

    spent: list[Spent]
    days: list[DaySpent] = []
    chains: list[ChainSpent] = []


class ReminderRows(Reply, frozen=True, kw_only=True, tag="reminders"):
    """Reminders that are still to come, the next one first."""

    reminders: list[Reminder]


class HiveSnapshot(Reply, frozen=True, kw_only=True, tag="state"):
    """The hive as its screens show it. Frames up to `seq` are in it; later ones may be, and change nothing then.

    Lists are cut to a size that pages can bear (the newest mail, the oldest questions); `hive` has the counts.
    """

    seq: int
    containers: list[ContainerView]
    approvals: list[Approval]
    questions: list[Question]
    inbox: list[OperatorInboxRow]
    transients: dict[str, TransientName]
    tombstones: list[Tombstone]
    meta_inputs: list[MetaInput]
    reminders: list[Reminder]
    hive: HiveSummary


class FlowPage(Reply, frozen=True, kw_only=True, tag="flow"):
    """Messages, newest first. `more`: older ones may be there, `before` the last row's id."""

    rows: list[FlowRow]
    more: bool = always(value=False)


class OneMessage(Reply, frozen=True, kw_only=True, tag="message"):
    """One message, whole."""

    message: FlowRow


class SearchHits(Reply, frozen=True, kw_only=True, tag="search"):
    """What was found, newest first. `behind`: the index has not caught up, older texts may be missing."""

    hits: list[SearchHit]
    took_ms: int = always(0)
    behind: bool = False


class AgentConfigPage(Reply, frozen=True, kw_only=True, tag="agent_config"):
    """An agent's config.

    Attributes:
        deployed: what runs, with its files; `applied`: main of its applied repo.
        proposed: the proposal that was asked for, else the newest that waits. `waiting`: all that do, newest first.
        effective: the settings in force. `cut`: what the operator's limits took away of what is deployed.
        deployments: newest first, what `rollback` may go to.
    """

    name: str
    deployed: ConfigStand | None = None
    applied: ConfigStand | None = None
    proposed: ProposedStand
    waiting: tuple[Proposal, ...] = always(())
    effective: Effective
    cut: tuple[str, ...] = always(())
    deployments: tuple[Deployment, ...] = always(())


class OriginPage(Reply, frozen=True, kw_only=True, tag="origin"):
    """What led to a question or an approval.

    Attributes:
        asker, at: who asked, and when.
        turn: the turn in which it was asked, as far as its history still says.
        known: what was in hand then was noted; it was not where it was asked of an older version, or 90 days ago.
        messages: what that turn was answering, oldest first.
        more: so many further ones, which are not shown, or not kept any more.
        root: the message that began the chain of these, where it is none of them.
    """

    asker: str
    at: int
    turn: int | None = None
    known: bool = always(value=False)
    messages: tuple[OriginMessage, ...] = always(())
    more: int = always(0)
    root: OriginMessage | None = None


class DigestPage(Reply, frozen=True, kw_only=True, tag="digest"):
    """What has happened: counts, agents by what they used, and the newest of what is worth a line (at most 50).

    `cost`: US dollars; unset where a price is not known.
    """

    since: int
    finished: int = always(0)
    failed: int = always(0)
    answered: int = always(0)
    deployed: int = always(0)
    messages: int = always(0)
    tokens: int = always(0)
    cost: float | None = None
    agents: list[DigestAgent]
    items: list[DigestItem]


AnyReply = (
    Err
    | Ok
    | Messages
    | Unread
    | RecentRows
    | QuestionQueued
    | LooseEnds
    | ReminderQueued
    | RemindersPending
    | Identity
    | Agents
    | Approvals
    | ApprovalDiff
    | AuditRows
    | InboxRows
    | StateFile
    | DeadLetters
    | QuestionRows
    | ToolVerdict
    | ToolRuleRows
    | NoticeRows
    | Accounts
    | HiveStatus
    | LogLines
    | EventPage
    | HivePast
    | AgentPage
    | TurnRows
    | StatsPage
    | Login
    | AgentSnapshot
    | ModelStanding
    | Admission
    | Charged
    | BudgetPage
    | LoginUrl
    | WebSessionRows
    | ReminderRows
    | HiveSnapshot
    | FlowPage
    | OneMessage
    | SearchHits
    | AgentConfigPage
    | OriginPage
    | DigestPage
)

REPLIES: tuple[type[Reply], ...] = AnyReply.__args__
