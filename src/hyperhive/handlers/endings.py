"""Why turns ended badly, read from what their events say: the last tool call, the end's own words, the last notes.

Only for those that are asked about (`failed`, or one `turn`): it is a look at the events of each. Decides nothing.
"""

from typing import Any, Final

import msgspec

from hyperhive.errors import HiveError
from hyperhive.handlers.ports import Harnesses
from hyperhive.names import parse_resident
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Answer, Handler
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.types import TurnRow

ROWS_MAX: Final = 10
"""Of one reply; the others come with a page of their own, or one by one."""
EVENTS_MAX: Final = 60
NOTES_MAX: Final = 20
TEXT_MAX: Final = 2000
CALL_MAX: Final = 300


def with_endings(turns: Handler, harnesses: Harnesses) -> Handler:
    """The handler of `turns`, which also says why the first of those ended badly."""

    async def handler(caller: Caller, request: r.Turns) -> p.Reply | Answer:
        reply = await turns(caller, request)
        if not isinstance(reply, p.TurnRows) or not (request.failed or request.turn is not None):
            return reply
        rows = list(reply.turns)
        bad = [place for place, row in enumerate(rows) if row.result_kind != "ok"]
        for place in bad[:ROWS_MAX]:
            rows[place] = await _with_ending(harnesses, request.name, rows[place])
        return p.TurnRows(turns=rows)

    return handler


async def _with_ending(harnesses: Harnesses, name: str, row: TurnRow) -> TurnRow:
    async def events(kind: str, limit: int) -> list[dict[str, Any]]:
        asked = line.History(req=0, limit=limit, kind=kind, since=row.started_at, until=row.ended_at + 1)
        try:
            reply = await harnesses.ask(parse_resident(name), asked)
        except HiveError:  # its harness is away, or older than this hive
            return []
        found = reply.events if isinstance(reply, p.EventPage) else []
        return [one for one in found if row.turn is None or one.get("turn") in (None, row.turn)]

    ends = await events("turn_end", 4)
    notes = [str(one.get("text", "")) for one in await events("note", NOTES_MAX)]
    stream = await events("stream", EVENTS_MAX)
    said = [str(one["note"]) for one in ends if one.get("note")]
    return msgspec.structs.replace(
        row,
        last_tool=last_tool(stream),
        error=said[-1][:TEXT_MAX] if said else None,
        stderr="\n".join(notes)[-TEXT_MAX:] or None,
    )


def last_tool(events: list[dict[str, Any]]) -> str | None:
    """The last tool that was called, and with what, in a few words."""
    for event in reversed(events):
        message = event.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        for block in reversed(content if isinstance(content, list) else []):
            if isinstance(block, dict) and block.get("type") == "tool_use":
                given = msgspec.json.encode(block.get("input")).decode()
                return f"{block.get('name')} {given}"[:CALL_MAX]
    return None
