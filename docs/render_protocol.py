"""docs/reference/protocol.md: every request, reply and event, from the unions and the table of grants."""

import msgspec

from hyperhive.protocol import events, harness_line, replies, requests, types
from hyperhive.protocol.policy import POLICY
from hyperhive.protocol.requests import Request, tag_of
from render_types import doc, field_list, field_table, mentioned, table

ROLES = ("operator", "manager", "agent", "harness")


def _grants(request: type[Request]) -> str:
    grants = POLICY.get(request, {})
    return ", ".join(f"{role} ({grants[role]})" for role in ROLES if role in grants) or "nobody"


def _requests() -> str:
    rows = [
        (f"`{tag_of(request)}`", doc(request), field_list(request, without=["req"]), _grants(request))
        for request in requests.REQUESTS
    ]
    return table(("cmd", "does", "fields", "who may (scope)"), rows)


def _tagged(members: tuple[type[msgspec.Struct], ...], key: str, *, without: tuple[str, ...] = ()) -> str:
    rows = [(f"`{m.__struct_config__.tag}`", doc(m), field_list(m, without=without)) for m in members]
    return table((key, "says", "fields"), rows)


def _members(union: object) -> tuple[type[msgspec.Struct], ...]:
    members: tuple[type[msgspec.Struct], ...] = union.__args__  # type: ignore[attr-defined]
    return members


def render() -> str:
    """The page."""
    helper, live = _members(events.AnyHelperEvent), _members(events.TypedLiveEvent)
    hive, frames = _members(events.AnyDashboardEvent), _members(events.StreamFrame)
    line = _members(harness_line.AnyHarnessCommand)
    everything = [*requests.REQUESTS, *replies.REPLIES, *helper, *live, *hive, *line]
    values = "\n\n".join(
        f"### {struct.__name__}\n\n{doc(struct)}\n\n{field_table(struct)}" for struct in mentioned(everything)
    )
    return f"""# Protocol

One JSON object a line, UTF-8, over unix sockets. Which socket a request arrives on says who speaks; nothing in the
request does. A request line is at most {types.REQUEST_LINE_MAX_BYTES} bytes, a reply line at most
{types.REPLY_LINE_MAX_BYTES}; a message body at most {types.BODY_MAX_BYTES} bytes. Times are unix seconds. Optional
fields that are unset are left out. An unknown `cmd` or field is refused; readers of replies and events ignore what
they do not know. Every request may carry `req` (string or integer): its reply carries it back and may then come out
of order.

## Requests

`own`: only what is the caller's. `any`: everybody's. A harness may also ask what its agent may.

{_requests()}

## Replies

Agents and harnesses get them as they stand here, with the tag `kind`. The operator's socket gives the same fields
beside `ok`: `{{"ok": true, ...}}`, and for `err` `{{"ok": false, "error": MESSAGE, "code": CODE}}`
([codes](errors.md)).

{_tagged(replies.REPLIES, "kind", without=("req",))}

## Live events: the stream of one agent

Beside each stand `seq` (live frames only), `eid` and `turn`. The kind `stream` carries the fields of one stream-json
line of the agent CLI beside the tag; where one clashes it moves into `_line`.

{_tagged(live, "kind", without=("seq", "eid", "turn"))}

## Hive events: the stream of the hive

{_tagged(hive, "kind", without=("seq",))}

## Frames that any stream may carry

{_tagged(frames, "kind", without=("seq",))}

## Helper events: mail from `system`

JSON in the body of a message, after the thing has happened.

{_tagged(helper, "event")}

## What the core asks a harness over its `attach` line

{_tagged(line, "cmd", without=("req",))}

## Values

{values}
"""
