"""Everything anyone can ask: one union of requests for agents, manager, harness and operator.

A request never says who sends it: the socket it arrived on does. Requests are strict (unknown fields are refused).
Who may send which stands in `policy`, who answers in the hive's handler table; adding a request is one class here, one
row there, one handler.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hyperhive.protocol.types import (
    MODEL_WAIT_MAX_SECONDS,
    RECENT_MAX,
    RECV_MAX,
    RECV_WAIT_DEFAULT_SECONDS,
    RECV_WAIT_MAX_SECONDS,
    MessageStateName,
    Mount,
    TokenUsage,
    Urgency,
)

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=63)]
ShortText = Annotated[str, Meta(max_length=4096)]
LongText = Annotated[str, Meta(max_length=262_144)]
CallName = Annotated[str, Meta(min_length=1, max_length=64)]
ToolName = Annotated[str, Meta(min_length=1, max_length=256)]
Limit = Annotated[int, Meta(ge=1, le=2000)]
Time = Annotated[int, Meta(ge=0, le=2**53)]
Window = Literal["24h", "7d", "30d"]


def _capped(least: int, most: float) -> Meta:
    """A number's bounds, of which the upper one is shown but not insisted on."""
    return Meta(ge=least, extra_json_schema={"maximum": most})


class Request(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="cmd"
):
    """Base of all requests. `req` is echoed in the reply, which may then come out of order."""

    req: str | int | None = None


# --- Mail -----------------------------------------------------------------------------------------------------------


class Send(Request, frozen=True, kw_only=True, tag="send"):
    """Put a message into a durable inbox. Answered when it is durable."""

    to: Name
    body: str
    dedupe_key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    urgency: Urgency = "next_turn"


class Recv(Request, frozen=True, kw_only=True, tag="recv"):
    """Take the next messages of one's own inbox, waiting for the first one. More than the caps is cut to them."""

    wait_seconds: Annotated[float, _capped(0, RECV_WAIT_MAX_SECONDS)] = RECV_WAIT_DEFAULT_SECONDS
    max: Annotated[int, _capped(1, RECV_MAX)] = 1
    min_urgency: Urgency | None = None

    def __post_init__(self) -> None:
        if self.max > RECV_MAX:
            msgspec.structs.force_setattr(self, "max", RECV_MAX)
        if self.wait_seconds > RECV_WAIT_MAX_SECONDS:
            msgspec.structs.force_setattr(self, "wait_seconds", RECV_WAIT_MAX_SECONDS)


class Status(Request, frozen=True, kw_only=True, tag="status"):
    """How many messages wait for the caller; the operator sees the hive, or one agent by `name`."""

    name: Name | None = None


class Recent(Request, frozen=True, kw_only=True, tag="recent"):
    """The newest messages of one's own inbox, newest first. Delivers nothing. More than the cap is cut to it."""

    limit: Annotated[int, _capped(1, RECENT_MAX)] = 30

    def __post_init__(self) -> None:
        if self.limit > RECENT_MAX:
            msgspec.structs.force_setattr(self, "limit", RECENT_MAX)


class AckTurn(Request, frozen=True, kw_only=True, tag="ack_turn"):
    """These messages were part of a turn that ended well.

    Without `ids`: all popped since the last ack or requeue. `taken`: also those that a `recv` tool call took
    since then.
    """

    ids: list[Id] | None = None
    taken: bool = False
    turn: int | None = None


class RequeueInflight(Request, frozen=True, kw_only=True, tag="requeue_inflight"):
    """Popped but unacked messages go back to pending, in order, marked redelivered.

    `blame`: the reason, where the message itself may have made its turn fail (counts towards the dead letter);
    `dead`: give these up with this reason instead. `call_id`: says that a request is the same one, asked again because
    its reply was lost: what it blames counts once.
    """

    ids: list[Id] | None = None
    blame: ShortText | None = None
    dead: ShortText | None = None
    call_id: ShortText | None = None


class OperatorMsg(Request, frozen=True, kw_only=True, tag="operator_msg"):
    """Known, and always forbidden: an agent could forge the operator's orders with it."""

    body: str


class Inbox(Request, frozen=True, kw_only=True, tag="inbox"):
    """The operator's inbox, newest first. `all`: also what is marked done."""

    limit: Limit = 50
    all: bool = False


class Ack(Request, frozen=True, kw_only=True, tag="ack"):
    """Mark messages of the operator's inbox as done."""

    ids: list[Id]


class Dead(Request, frozen=True, kw_only=True, tag="dead"):
    """The dead letters, newest first, with their reasons."""

    limit: Limit = 100


class Requeue(Request, frozen=True, kw_only=True, tag="requeue"):
    """Give a dead letter another life: it goes back to its recipient's inbox."""

    id: Id


class Drop(Request, frozen=True, kw_only=True, tag="drop"):
    """Put a dead letter away for good, or take back a message of the operator's that nobody has read yet."""

    id: Id


class StateFileCheck(Request, frozen=True, kw_only=True, tag="state_file_check"):
    """Whether a file is there and what it is: the `n`th that a message names (from 1), or an `agent`'s by its `path`.

    The path is as the agent sees it.
    """

    message: Id | None = None
    n: Annotated[int, Meta(ge=1, le=1000)] = 1
    agent: Name | None = None
    path: ShortText | None = None


class StateFileRead(Request, frozen=True, kw_only=True, tag="state_file_read"):
    """The beginning of a file, named as for `state_file_check`."""

    message: Id | None = None
    n: Annotated[int, Meta(ge=1, le=1000)] = 1
    agent: Name | None = None
    path: ShortText | None = None


class Search(Request, frozen=True, kw_only=True, tag="search", rename={"scope": "in"}):
    """Full-text search, newest first: plain words (all of them must be there) and "phrases".

    `in`: `messages` (with questions and decisions), `events` (what agents said and called), or `all`. `before`: the
    `cursor` of the last hit that is known.
    """

    query: ShortText
    limit: Limit = 50
    before: Id | None = None
    scope: Literal["messages", "events", "all"] = "all"


class Flow(Request, frozen=True, kw_only=True, tag="flow", rename={"other": "with"}):
    """Everybody's messages, newest first, before message `before`.

    `agent`: from or to this one; with `with`, between the two. `q`: plain words and "phrases", as for `search`.
    """

    before: Id | None = None
    limit: Limit = 100
    agent: Name | None = None
    other: Name | None = None
    state: MessageStateName | None = None
    q: ShortText | None = None


class Message(Request, frozen=True, kw_only=True, tag="message"):
    """One message, whole, and what has become of it."""

    id: Id


# --- Questions, reminders, loose ends -------------------------------------------------------------------------------


class Ask(Request, frozen=True, kw_only=True, tag="ask"):
    """Ask the operator (default) or an agent; the answer comes as mail. Does not block."""

    question: LongText
    options: tuple[ShortText, ...] = ()
    multi: bool = False
    ttl_seconds: Annotated[int, Meta(ge=1)] | None = None
    to: Name | None = None


class Answer(Request, frozen=True, kw_only=True, tag="answer"):
    """Answer a question. The first answer wins."""

    id: Id
    answer: LongText


class Questions(Request, frozen=True, kw_only=True, tag="questions"):
    """The questions that wait for the operator; with `all`, also those that wait for agents.

    With `id` that one, also where it is resolved.
    """

    all: bool = False
    id: Id | None = None


class CancelQuestion(Request, frozen=True, kw_only=True, tag="cancel_question"):
    """Withdraw a question as the operator."""

    id: Id


class GetLooseEnds(Request, frozen=True, kw_only=True, tag="get_loose_ends"):
    """What is still open: one's own questions, reminders and approvals; the manager sees the hive's."""


class CancelLooseEnd(Request, frozen=True, kw_only=True, tag="cancel_loose_end"):
    """Withdraw one of them."""

    kind: Literal["question", "reminder"]
    id: Id


class Remind(Request, frozen=True, kw_only=True, tag="remind"):
    """Have a message come back later, after `delay_seconds` or at `due_at` (unix seconds).

    With `file_path` it is written to that file in the owner's state, and the mail says where. `to`: whose it is, which
    the operator alone says.
    """

    message: LongText
    delay_seconds: Annotated[int, Meta(ge=0)] | None = None
    due_at: Annotated[int, Meta(ge=0)] | None = None
    file_path: ShortText | None = None
    to: Name | None = None


class Reminders(Request, frozen=True, kw_only=True, tag="reminders"):
    """Everybody's reminders that are still to come, the next one first."""


class CountPendingReminders(Request, frozen=True, kw_only=True, tag="count_pending_reminders"):
    """How many reminders of the caller are still to come."""


# --- Who and how ----------------------------------------------------------------------------------------------------


class Whoami(Request, frozen=True, kw_only=True, tag="whoami"):
    """The caller's name and role, the operator's pronouns, the hive's revision."""


class Hello(Request, frozen=True, kw_only=True, tag="hello"):
    """A harness reports for duty.

    `holding`: the messages that it was handed and has neither acked nor given back. What else is in flight for it (and
    was not taken by a tool call) was lost on the way and goes back to pending. Unset: it says nothing of that.
    """

    protocol: int
    hyperhive_rev: ShortText
    cli_version: ShortText
    holding: list[Id] | None = None


class ModelAccess(Request, frozen=True, kw_only=True, tag="model_access"):
    """Whether this harness's agent may use the model now, and why its last request was refused, if it was.

    `wait_seconds`: while it may not, the reply may take so long, and comes the moment that it may.
    """

    wait_seconds: Annotated[float, Meta(ge=0, le=MODEL_WAIT_MAX_SECONDS)] = 0.0


class AskTool(Request, frozen=True, kw_only=True, tag="ask_tool"):
    """Whether a call of a tool that the config of this harness's agent marks `ask` may run.

    `call_id` names the call: asked again, also by way of another core, it stands for the same question. The reply may
    take `wait_seconds` (more than the cap is cut to it), and comes the moment that the operator has answered.
    """

    call_id: CallName
    tool: ToolName
    input: dict[str, Any]
    wait_seconds: Annotated[float, _capped(0, RECV_WAIT_MAX_SECONDS)] = 0.0

    def __post_init__(self) -> None:
        if self.wait_seconds > RECV_WAIT_MAX_SECONDS:
            msgspec.structs.force_setattr(self, "wait_seconds", RECV_WAIT_MAX_SECONDS)


class WithdrawTools(Request, frozen=True, kw_only=True, tag="withdraw_tools"):
    """Nobody waits for these calls any more: their questions are withdrawn. Without `calls`: any of this agent's."""

    calls: list[CallName] | None = None


class MayTurn(Request, frozen=True, kw_only=True, tag="may_turn"):
    """Whether a turn of this harness's agent may start now, as far as budgets go. More than the cap is cut to it.

    `wait_seconds`: while it may not, the reply may take so long, and comes when that, or the reason, has changed.
    """

    wait_seconds: Annotated[float, _capped(0, RECV_WAIT_MAX_SECONDS)] = 0.0

    def __post_init__(self) -> None:
        if self.wait_seconds > RECV_WAIT_MAX_SECONDS:
            msgspec.structs.force_setattr(self, "wait_seconds", RECV_WAIT_MAX_SECONDS)


class Charge(Request, frozen=True, kw_only=True, tag="charge"):
    """A turn has ended, and its messages are not settled yet: what its CLI says it used, and for which messages.

    `key` names the charge: asked again, it counts once. `turn` is unset for one that nobody asked for. Of an agent
    whose requests the gateway meters the numbers are ignored, and so is `limited_until`: the usage limit of its account
    that the turn ran into, by the CLI's word (unix seconds).
    """

    key: Annotated[str, Meta(min_length=1, max_length=128)]
    started_at: Annotated[int, Meta(ge=0, le=2**53)]
    turn: Id | None = None
    model: ShortText = ""
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    messages: list[Id] = []
    limited_until: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class Attach(Request, frozen=True, kw_only=True, tag="attach"):
    """The connection becomes the harness's line to the core: live events go up, harness commands come down."""


class Subscribe(Request, frozen=True, kw_only=True, tag="subscribe"):
    """The connection then carries the frames of `hive` or of one agent, from `after` where still known."""

    stream: Name
    after: ShortText | None = None


# --- Lifecycle ------------------------------------------------------------------------------------------------------


class Spawn(Request, frozen=True, kw_only=True, tag="spawn"):
    """Create an agent and start it at once, past the approval queue: the operator's own privilege."""

    name: Name
    mounts: list[Mount] | None = None


class RequestSpawn(Request, frozen=True, kw_only=True, tag="request_spawn"):
    """Ask for a new agent; the operator approves."""

    name: Name


class Start(Request, frozen=True, kw_only=True, tag="start"):
    """Start a stopped agent; `wait`: after what is going on with it. What the operator stopped only they start."""

    name: Name
    now: bool = False
    wait: bool = False


class Kill(Request, frozen=True, kw_only=True, tag="kill"):
    """Stop an agent: its running turn ends first, unless `now`; `wait`: and what else is going on with it."""

    name: Name
    now: bool = False
    wait: bool = False


class Restart(Request, frozen=True, kw_only=True, tag="restart"):
    """Stop and start an agent."""

    name: Name
    now: bool = False


class Rebuild(Request, frozen=True, kw_only=True, tag="rebuild"):
    """Put right whatever drifted on the host."""

    name: Name
    now: bool = False


class Update(Request, frozen=True, kw_only=True, tag="update"):
    """Rebuild the approved config on the hive's current revision."""

    name: Name
    now: bool = False


class UpdateAll(Request, frozen=True, kw_only=True, tag="update_all"):
    """`update` for every agent that needs it."""


class Destroy(Request, frozen=True, kw_only=True, tag="destroy"):
    """Stop and remove an agent. Its state is kept unless `purge`. Never the manager."""

    name: Name
    purge: bool = False
    now: bool = False


class Restore(Request, frozen=True, kw_only=True, tag="restore"):
    """Bring a destroyed agent back from its tombstone."""

    name: Name


class List(Request, frozen=True, kw_only=True, tag="list"):
    """The names of the managed agents."""


class RequestApplyCommit(Request, frozen=True, kw_only=True, tag="request_apply_commit"):
    """Propose a commit of an agent's proposed repo; the operator approves."""

    agent: Name
    commit_ref: Annotated[str, Meta(pattern=r"^[0-9a-f]{7,40}\Z", examples=["8f31c9d3cfce"])]


class Pending(Request, frozen=True, kw_only=True, tag="pending"):
    """The open approvals."""


class Show(Request, frozen=True, kw_only=True, tag="show"):
    """One approval with its whole diff."""

    id: Id


class Approve(Request, frozen=True, kw_only=True, tag="approve"):
    """Approve exactly what was shown. Answered when the decision is durable."""

    id: Id
    sha: (
        Annotated[
            str,
            Meta(
                pattern=r"^(?:[0-9a-f]{40}|[0-9a-f]{64})\Z",
                examples=["8f31c9d3cfce884aef517964387b134dba319eb8"],
            ),
        ]
        | None
    ) = None
    diff_sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None


class Deny(Request, frozen=True, kw_only=True, tag="deny"):
    """Deny an approval."""

    id: Id
    note: LongText | None = None


class Rollback(Request, frozen=True, kw_only=True, tag="rollback"):
    """Deploy what was deployed under number `to` again."""

    name: Name
    to: Annotated[int, Meta(ge=0)]


class AgentConfig(Request, frozen=True, kw_only=True, tag="agent_config"):
    """An agent's config: deployed, applied, proposed, in force; what limits cut, and what can be gone back to.

    `proposal`: the approval whose proposal is to be shown; without it the newest that waits.
    """

    name: Name
    proposal: Id | None = None


class MetaUpdate(Request, frozen=True, kw_only=True, tag="meta_update"):
    """Bump named inputs of the meta flake."""

    inputs: list[ShortText]


# --- One agent's turns ----------------------------------------------------------------------------------------------


class Logs(Request, frozen=True, kw_only=True, tag="logs"):
    """The last lines of an agent's log, oldest first; without a name, of the hive's own.

    `since`, `until`: only what was said from then on and up to then (unix seconds). `before`: only events before this
    one (an `eid`; an agent's log alone).
    """

    name: Name | None = None
    lines: Limit = 200
    since: Time | None = None
    until: Time | None = None
    before: Id | None = None


class Events(Request, frozen=True, kw_only=True, tag="events"):
    """An agent's event history before event `before`, oldest first."""

    name: Name
    before: Id | None = None
    limit: Limit = 200
    kind: ShortText | None = None
    q: ShortText | None = None


class History(Request, frozen=True, kw_only=True, tag="history"):
    """What happened in the hive, at most 30 days ago. `before`: go on from where the last page says (`older`)."""

    before: ShortText | None = None
    limit: Limit = 200


class AgentState(Request, frozen=True, kw_only=True, tag="agent_state"):
    """All that an agent's page begins with. Its `seq`, of the agent's stream, was read before the rest was gathered."""

    name: Name


class AgentLooseEnds(Request, frozen=True, kw_only=True, tag="agent_loose_ends"):
    """What of an agent's own is still open, as it sees it itself."""

    name: Name


class Turns(Request, frozen=True, kw_only=True, tag="turns"):
    """An agent's last turns, newest first.

    `failed`: only those that did not end well. `since`, `until`: those that ended from then on, and before then (unix
    seconds). `before`: those that ended before turn `before`. `turn`: this one.
    """

    name: Name
    limit: Limit = 20
    failed: bool = False
    before: Id | None = None
    since: Time | None = None
    until: Time | None = None
    turn: Id | None = None


class Stats(Request, frozen=True, kw_only=True, tag="stats"):
    """An agent's turn statistics over a window."""

    name: Name
    window: Window = "24h"


class Audit(Request, frozen=True, kw_only=True, tag="audit"):
    """The decisions, newest first; `agent`: those about this one."""

    limit: Limit = 100
    before: Id | None = None
    agent: Name | None = None


class Cancel(Request, frozen=True, kw_only=True, tag="cancel"):
    """Interrupt an agent's running turn. Its messages become dead letters with the reason `cancelled`."""

    name: Name


class Compact(Request, frozen=True, kw_only=True, tag="compact"):
    """Compact an agent's session in the background; refused while a turn runs."""

    name: Name


class Model(Request, frozen=True, kw_only=True, tag="model"):
    """Change an agent's model, from its next turn on, for good."""

    name: Name
    model: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^\S+\Z")]


class NewSession(Request, frozen=True, kw_only=True, tag="new_session"):
    """The agent's next turn starts a new session."""

    name: Name


class LoginStart(Request, frozen=True, kw_only=True, tag="login_start"):
    """Start the agent CLI's own login; the reply has its URL once it printed one. Idempotent while one runs."""

    name: Name


class LoginCode(Request, frozen=True, kw_only=True, tag="login_code"):
    """Hand the login the code that the web page gave."""

    name: Name
    code: Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class LoginCancel(Request, frozen=True, kw_only=True, tag="login_cancel"):
    """Give the login up."""

    name: Name


# --- The hive's own settings ----------------------------------------------------------------------------------------


class Account(Request, frozen=True, kw_only=True, tag="account"):
    """List the accounts, or set one from a `key` or a `token`, or `remove` it. Secrets are never given back."""

    name: Name | None = None
    key: ShortText | None = None
    token: ShortText | None = None
    remove: bool = False


class Budget(Request, frozen=True, kw_only=True, tag="budget"):
    """What was spent, of the hive or of one agent; with `tokens_per_day`, set that limit for today.

    `chains`: also by chain of messages; `days`: also by agent and day, over so many days.
    """

    name: Name | None = None
    chains: bool = False
    days: Annotated[int, Meta(ge=0, le=3660)] = 0
    tokens_per_day: Annotated[int, Meta(ge=0)] | None = None


class ToolRules(Request, frozen=True, kw_only=True, tag="tool_rules"):
    """The tools that the operator always allows, by agent; `revoke` takes one back."""

    revoke: Id | None = None


class Notices(Request, frozen=True, kw_only=True, tag="notices"):
    """What the operator was told of away from the screens, newest first; `test` sends one by that channel."""

    limit: Limit = 50
    test: Name | None = None


class State(Request, frozen=True, kw_only=True, tag="state"):
    """All that the operator's screens begin with. Its `seq` was read before the rest was gathered."""


class Origin(Request, frozen=True, kw_only=True, tag="origin"):
    """What led to a question or an approval: the turn that asked, and the messages that it was answering."""

    question: Id | None = None
    approval: Id | None = None


class Digest(Request, frozen=True, kw_only=True, tag="digest"):
    """What has happened since then (unix seconds), at most 30 days ago."""

    since: Time


class LoginLink(Request, frozen=True, kw_only=True, tag="login_link"):
    """A link to the operator's pages that logs one browser in, once; `ref`: the page to show there, as a path."""

    ref: ShortText | None = None


class WebSessions(Request, frozen=True, kw_only=True, tag="web_sessions"):
    """The browsers that are logged in, newest first."""


class EndWebSession(Request, frozen=True, kw_only=True, tag="end_web_session"):
    """Log a browser out."""

    id: Id


class Reload(Request, frozen=True, kw_only=True, tag="reload"):
    """Read hive.toml again; an invalid one leaves the old in force."""


AnyRequest = (
    Send
    | Recv
    | Status
    | Recent
    | AckTurn
    | RequeueInflight
    | OperatorMsg
    | Inbox
    | Ack
    | Dead
    | Requeue
    | Drop
    | StateFileCheck
    | StateFileRead
    | Search
    | Flow
    | Message
    | Ask
    | Answer
    | Questions
    | CancelQuestion
    | GetLooseEnds
    | CancelLooseEnd
    | Remind
    | Reminders
    | CountPendingReminders
    | Whoami
    | Hello
    | ModelAccess
    | AskTool
    | WithdrawTools
    | MayTurn
    | Charge
    | Attach
    | Subscribe
    | Spawn
    | RequestSpawn
    | Start
    | Kill
    | Restart
    | Rebuild
    | Update
    | UpdateAll
    | Destroy
    | Restore
    | List
    | RequestApplyCommit
    | Pending
    | Show
    | Approve
    | Deny
    | Rollback
    | AgentConfig
    | MetaUpdate
    | Logs
    | Events
    | History
    | AgentState
    | AgentLooseEnds
    | Turns
    | Stats
    | Audit
    | Cancel
    | Compact
    | Model
    | NewSession
    | LoginStart
    | LoginCode
    | LoginCancel
    | Account
    | Budget
    | ToolRules
    | Notices
    | State
    | Origin
    | Digest
    | LoginLink
    | WebSessions
    | EndWebSession
    | Reload
)

REQUESTS: tuple[type[Request], ...] = AnyRequest.__args__
"""Every request class, in the order of the documentation."""


def tag_of(request: type[Request]) -> str:
    """The request's name on the wire (`cmd`)."""
    return str(request.__struct_config__.tag)


BY_TAG: dict[str, type[Request]] = {tag_of(request): request for request in REQUESTS}
