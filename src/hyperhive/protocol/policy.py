"""Who may ask for what: the one table, and the one function that reads a role.

Default is refusal. A grant has a scope: `own` (only what is the caller's) or `any`. Handlers get a `Caller` without a
role, so that no handler can decide by it; what they may see of the scope is `caller.any`.
"""

from functools import lru_cache
from typing import Final, Literal

import msgspec

from hyperhive.errors import Forbidden
from hyperhive.names import MANAGER, OPERATOR, AgentName
from hyperhive.protocol import requests as r
from hyperhive.protocol.types import Role

TOOLS: Final = "tools"
"""The channel of tool calls, and of the socket in an agent's box that they may come in on."""

BOX: Final = "box"
"""The channel of tool calls that came in on that socket: the CLI's own in its turn, or any other program's."""

Scope = Literal["own", "any"]
Grants = dict[Role, Scope]

_AGENT: Final[Grants] = {"agent": "own", "manager": "own"}
_MANAGER: Final[Grants] = {"manager": "any"}
_HARNESS: Final[Grants] = {"harness": "own"}
_OPERATOR: Final[Grants] = {"operator": "any"}
_NOBODY: Final[Grants] = {}

POLICY: Final[dict[type[r.Request], Grants]] = {
    # mail
    r.Send: {**_OPERATOR, **_AGENT},
    r.Recv: _HARNESS,
    r.Status: {**_OPERATOR, **_AGENT},
    r.Recent: _AGENT,
    r.AckTurn: _HARNESS,
    r.RequeueInflight: _HARNESS,
    r.OperatorMsg: _NOBODY,
    r.Inbox: _OPERATOR,
    r.Ack: _OPERATOR,
    r.Dead: _OPERATOR,
    r.Requeue: _OPERATOR,
    r.Drop: _OPERATOR,
    r.StateFileCheck: _OPERATOR,
    r.StateFileRead: _OPERATOR,
    r.Search: _OPERATOR,
    r.Flow: _OPERATOR,
    r.Message: _OPERATOR,
    # questions, reminders, loose ends
    r.Ask: {**_OPERATOR, **_AGENT},
    r.Answer: {**_OPERATOR, **_AGENT},
    r.Questions: _OPERATOR,
    r.CancelQuestion: _OPERATOR,
    r.GetLooseEnds: {"operator": "any", "agent": "own", "manager": "any"},
    r.CancelLooseEnd: {"operator": "any", "agent": "own", "manager": "any"},
    r.Remind: {**_OPERATOR, **_AGENT},
    r.Reminders: _OPERATOR,
    r.CountPendingReminders: _AGENT,
    # who and how
    r.Whoami: {**_OPERATOR, **_AGENT},
    r.Hello: _HARNESS,
    r.ModelAccess: _HARNESS,
    r.AskTool: _HARNESS,
    r.WithdrawTools: _HARNESS,
    r.MayTurn: _HARNESS,
    r.Charge: _HARNESS,
    r.Attach: _HARNESS,
    r.Subscribe: _OPERATOR,
    # lifecycle
    r.Spawn: _OPERATOR,
    r.RequestSpawn: {**_OPERATOR, **_MANAGER},
    r.Start: {**_OPERATOR, "manager": "own"},
    r.Kill: {**_OPERATOR, "manager": "own"},
    r.Restart: {**_OPERATOR, "manager": "own"},
    r.Rebuild: _OPERATOR,
    r.Update: {**_OPERATOR, "manager": "own"},
    r.UpdateAll: _OPERATOR,
    r.Destroy: _OPERATOR,
    r.Restore: _OPERATOR,
    r.List: _OPERATOR,
    r.RequestApplyCommit: _MANAGER,
    r.Pending: _OPERATOR,
    r.Show: _OPERATOR,
    r.Approve: _OPERATOR,
    r.Deny: _OPERATOR,
    r.Rollback: _OPERATOR,
    r.AgentConfig: _OPERATOR,
    r.MetaUpdate: _OPERATOR,
    # one agent's turns
    r.Logs: _OPERATOR,
    r.Events: _OPERATOR,
    r.History: _OPERATOR,
    r.AgentState: _OPERATOR,
    r.AgentLooseEnds: _OPERATOR,
    r.Turns: _OPERATOR,
    r.Stats: _OPERATOR,
    r.Audit: _OPERATOR,
    r.Cancel: _OPERATOR,
    r.Compact: _OPERATOR,
    r.Model: _OPERATOR,
    r.NewSession: _OPERATOR,
    r.LoginStart: _OPERATOR,
    r.LoginCode: _OPERATOR,
    r.LoginCancel: _OPERATOR,
    # the hive's own settings
    r.Account: _OPERATOR,
    r.Budget: _OPERATOR,
    r.ToolRules: _OPERATOR,
    r.Notices: _OPERATOR,
    r.State: _OPERATOR,
    r.Origin: _OPERATOR,
    r.Digest: _OPERATOR,
    r.LoginLink: _OPERATOR,
    r.WebSessions: _OPERATOR,
    r.EndWebSession: _OPERATOR,
    r.Reload: _OPERATOR,
}
"""Every request, and the scope that each role has on it. For lifecycle requests of the manager `own` means: not what
is the operator's own decision (`held_by_operator`), and not the manager itself."""


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks, as the entry point established it (by the socket it came in on), never by what was said."""

    name: AgentName
    role: Role
    channel: str
    """How the request came in: `host`, `tools`, `box`, `harness`, `web`, `library`. For the audit."""

    @classmethod
    def operator(cls, channel: str = "host") -> "Actor":
        """The operator, by way of `channel`."""
        return cls(name=OPERATOR, role="operator", channel=channel)

    @property
    def roles(self) -> tuple[Role, ...]:
        """All roles whose grants count: a harness may also ask what its agent may."""
        if self.role != "harness":
            return (self.role,)
        return ("harness", "manager" if self.name == MANAGER else "agent")

    @property
    def shown_role(self) -> Role:
        """The role that `whoami` reports: a harness is its agent."""
        return self.roles[-1]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler learns of who asks: the name, the channel, and whether the grant reaches beyond its own."""

    name: AgentName
    channel: str
    any: bool
    label: Role


def check_fields(caller: Caller, request: r.Request) -> None:
    """The few fields that not everyone who may send a request may set.

    Raises:
        Forbidden: one of them is set.
    """
    if isinstance(request, r.Send) and request.urgency == "interrupt" and caller.label == "agent":
        raise Forbidden(
            "only the manager and the operator may interrupt a running turn", hint="use urgency soon"
        )
    if isinstance(request, r.Status) and request.name is not None and not caller.any:
        raise Forbidden("status of another is the operator's to ask")
    if isinstance(request, r.Remind) and request.to is not None and not caller.any:
        raise Forbidden("only the operator sets reminders for others", hint="leave `to` out")


@lru_cache(maxsize=8192)
def authorize(actor: Actor, request: type[r.Request]) -> Caller:
    """The caller, if this actor may send this kind of request.

    Raises:
        Forbidden: it may not. Nothing has run.
    """
    grants = POLICY.get(request, _NOBODY)
    scopes = [grants[role] for role in actor.roles if role in grants]
    if not scopes:
        raise Forbidden(f"{actor.name} may not use {r.tag_of(request)} here")
    return Caller(name=actor.name, channel=actor.channel, any="any" in scopes, label=actor.shown_role)


def tool_actor(actor: Actor) -> Actor:
    """The actor that a tool call of this actor's MCP session runs as.

    An agent takes its mail by the tool `recv`, which on a socket is the harness's alone: the tools' table, not the
    caller, says which requests a session can make.

    Raises:
        Forbidden: the operator has no inbox that a tool may empty.
    """
    if actor.role == "operator":
        raise Forbidden("the operator's socket serves no tools")
    return Actor(name=actor.name, role="harness", channel=TOOLS if actor.role == "harness" else BOX)


def may(actor: Actor, request: type[r.Request]) -> bool:
    """Whether `authorize` would let this actor send such requests."""
    grants = POLICY.get(request, _NOBODY)
    return any(role in grants for role in actor.roles)
