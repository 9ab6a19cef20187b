"""The table of tools: a request of the protocol, under which name and with which arguments a model makes it.

A new tool is one row. Which of them a session lists follows from the protocol's policy and from what the hive serves;
nothing of that stands here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hyperhive.errors import BadRequest, NotFound
from hyperhive.mcp import render
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import convert_request
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.policy import Actor, may, tool_actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One row.

    `params`: the request's fields that a model may set, each with a description. `takes`: the reply hands something
    over that goes back where it cannot be delivered, so a call that nobody waits for is ended. The three hints are
    MCP's: for the client's eyes, not for security.
    """

    request: type[r.Request]
    description: str
    params: Mapping[str, str]
    show: Callable[[Any], str]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    takes: bool = False

    @property
    def name(self) -> str:
        """The tool's name is the request's."""
        return r.tag_of(self.request)


_AGENT: Final = {"name": "the agent's name"}
_NOW: Final = {**_AGENT, "now": "do not wait for its running turn to end"}

TABLE: Final[tuple[Tool, ...]] = (
    Tool(
        request=r.Send,
        description="Send a message to an agent, to the manager or to the operator. It is durable when this returns, "
        "and wakes the recipient.",
        params={
            "to": "an agent's name, `manager` or `operator`",
            "body": "the text, at most 256 KiB",
            "urgency": "`next_turn` (default), `soon` (reaches a running turn), `interrupt` (ends the running turn; "
            "the manager's alone)",
        },
        show=render.sent,
    ),
    Tool(
        request=r.Recv,
        description="Take the next messages of your own inbox. What you take is part of the turn that runs now.",
        params={
            "wait_seconds": "how long to wait for the first message; 0 looks and returns",
            "max": "how many at most",
            "min_urgency": "only messages of at least this urgency",
        },
        show=lambda reply: render.messages(reply.messages),
        takes=True,
    ),
    Tool(
        request=r.Whoami,
        description="Your name and role, the operator's pronouns, and the hive's revision.",
        params={},
        show=render.identity,
        read_only=True,
        idempotent=True,
    ),
    Tool(
        request=r.Ask,
        description="Ask the operator (default) or an agent. Does not block: the answer comes as a message.",
        params={
            "question": "the question",
            "options": "choices beside a free answer; none means free text",
            "multi": "more than one choice may be taken",
            "ttl_seconds": "after that long it is answered `[expired]`",
            "to": "an agent's name; default the operator",
        },
        show=render.queued_question,
    ),
    Tool(
        request=r.Answer,
        description="Answer a question that you were asked. The first answer wins.",
        params={"id": "the question's id", "answer": "the answer"},
        show=render.done,
    ),
    Tool(
        request=r.GetLooseEnds,
        description="What is still open: questions, reminders and approvals.",
        params={},
        show=render.loose_ends,
        read_only=True,
        idempotent=True,
    ),
    Tool(
        request=r.CancelLooseEnd,
        description="Withdraw a question or a reminder.",
        params={"kind": "`question` or `reminder`", "id": "its id"},
        show=render.done,
        destructive=True,
        idempotent=True,
    ),
    Tool(
        request=r.Remind,
        description="Have a message come back to you later.",
        params={
            "message": "what to be reminded of",
            "delay_seconds": "in how many seconds; or give `due_at`",
            "due_at": "when, in unix seconds",
            "file_path": "write it to this file in your state instead, and get a pointer to it",
        },
        show=render.queued_reminder,
    ),
    Tool(
        request=r.RequestSpawn,
        description="Ask for a new agent. The operator decides.",
        params={"name": "its name: a-z, 0-9 and '-', starting with a letter"},
        show=render.done,
    ),
    Tool(
        request=r.Kill,
        description="Stop an agent.",
        params=_NOW,
        show=render.done,
        destructive=True,
        idempotent=True,
    ),
    Tool(
        request=r.Start,
        description="Start a stopped agent.",
        params=_AGENT,
        show=render.done,
        idempotent=True,
    ),
    Tool(
        request=r.Restart,
        description="Stop and start an agent.",
        params=_NOW,
        show=render.done,
        destructive=True,
    ),
    Tool(
        request=r.Update,
        description="Rebuild an agent's approved config on the hive's current revision.",
        params=_NOW,
        show=render.done,
        idempotent=True,
    ),
    Tool(
        request=r.RequestApplyCommit,
        description="Propose a commit of an agent's proposed repo. The operator sees its diff and decides.",
        params={"agent": "the agent's name", "commit_ref": "7 to 40 hex digits of the commit"},
        show=render.done,
    ),
)

BY_NAME: Final = {tool.name: tool for tool in TABLE}


def served(dispatcher: Dispatcher, actor: Actor) -> list[Tool]:
    """The tools that this actor's session lists: the hive serves them, and the actor may use them."""
    caller = tool_actor(actor)
    return [tool for tool in TABLE if dispatcher.serves(tool.request) and may(caller, tool.request)]


def request_of(tool: Tool, arguments: Mapping[str, object]) -> r.Request:
    """The request that a call makes.

    Raises:
        BadRequest: an argument that the tool does not have, or of a wrong type.
    """
    unknown = arguments.keys() - tool.params.keys()
    if unknown:
        takes = f"it takes {', '.join(tool.params)}" if tool.params else "it takes none"
        raise BadRequest(
            f"{tool.name} has no argument {', '.join(sorted(map(repr, unknown)))[:200]}", hint=takes
        )
    return convert_request(arguments, tool.request)


def find(dispatcher: Dispatcher, actor: Actor, name: str) -> Tool:
    """The tool of that name.

    Raises:
        NotFound: this session has none; the hint lists what it has.
    """
    tools = {tool.name: tool for tool in served(dispatcher, actor)}
    if name not in tools:
        raise NotFound(f"there is no tool {name[:80]!r}", hint=f"there are {', '.join(tools)}")
    return tools[name]
