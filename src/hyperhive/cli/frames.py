"""Frames of a stream as lines for a person: who wrote to whom, what an agent says and calls, how turns end.

Pure. What it returns is safe to print: everything that came from outside was made visible. Kinds that it does not
know are shown by their name, for a newer hive may have more.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hyperhive.terminal import cut, visible

Fields = Mapping[str, Any]

_TOOL_PREFIX = "mcp__hyperhive__"
_QUIET = {
    "heartbeat",
    "transient_cleared",
    "container_state_changed",
    "token_usage_changed",
    "reminders_changed",
    "meta_inputs_changed",
}
_QUIET_TYPES = {"system", "result", "stream_event", "rate_limit_event", "control_request", "control_response"}


def hive_line(frame: Fields, columns: int) -> str | None:
    """One frame of the hive's stream as a line of at most `columns`; None for what is only for programs."""
    kind = str(frame.get("kind", ""))
    if kind in _QUIET:
        return None
    known = _HIVE.get(kind)
    return cut(known(frame) if known else _unknown(kind, frame), columns)


def agent_line(frame: Fields, columns: int) -> str | None:
    """One frame of an agent's stream as a line of at most `columns`; None for what is only for programs."""
    kind = str(frame.get("kind", ""))
    if kind in _QUIET:
        return None
    if kind == "stream":
        text = _stream(frame)
        return None if text is None else cut(text, columns)
    known = _AGENT.get(kind)
    return cut(known(frame) if known else _unknown(kind, frame), columns)


def first_line(text: object) -> str:
    """The first line of somebody's text that is not blank, made visible, with an ellipsis where more follows."""
    lines = [line.strip() for line in str(text).strip().splitlines() if line.strip()]
    if not lines:
        return ""
    return visible(lines[0]) + (" …" if len(lines) > 1 else "")


def mail_line(frame: Fields) -> str:
    """What a `sent` frame's message says, in one line; the hive's own messages are JSON, and become words."""
    body = frame.get("body", "")
    if frame.get("from") != "system":
        return first_line(body)
    try:
        event = msgspec.json.decode(str(body))
    except msgspec.DecodeError:
        return first_line(body)
    if not isinstance(event, dict) or "event" not in event:
        return first_line(body)
    about = f" {_text(event, 'agent')}" if "agent" in event else ""
    note = f": {_text(event, 'note')}" if event.get("note") else ""
    failed = " failed" if event.get("ok") is False else ""
    return f"{_text(event, 'event').replace('_', ' ')}{about}{failed}{note}"


def _text(frame: Fields, key: str) -> str:
    return visible(str(frame.get(key, "?")))


def _sent(frame: Fields) -> str:
    way = f"{_text(frame, 'from')} -> {_text(frame, 'to')}"
    return f"{way}  #{_text(frame, 'id')}: {mail_line(frame)}"


def _delivered(frame: Fields) -> str:
    return f"{_text(frame, 'to')} takes #{_text(frame, 'id')} from {_text(frame, 'from')}"


def _message_state(frame: Fields) -> str:
    words = {"acked": "is done", "in_flight": "is in a turn", "pending": "waits", "dead": "was given up"}
    state = words.get(str(frame.get("state")), "is " + _text(frame, "state"))
    note = f": {_text(frame, 'note')}" if frame.get("note") else ""
    return f"#{_text(frame, 'id')} {state}{note}"


def _approval_added(frame: Fields) -> str:
    one = _approval(frame)
    if one.get("status") != "pending":  # a rollback is approved already
        return _approval_moved(frame)
    return f"{_text(one, 'requested_by')} asks for {_about(one)}: hyperhive approve {_text(one, 'id')}"


def _approval_moved(frame: Fields) -> str:
    one = _approval(frame)
    note = f": {first_line(one['note'])}" if one.get("note") else ""
    return f"approval {_text(one, 'id')}, {_about(one)}: {_text(one, 'stage')}{note}"


def _approval(frame: Fields) -> Fields:
    one = frame.get("approval")
    return one if isinstance(one, Mapping) else {}


def _about(approval: Fields) -> str:
    what = "a new agent" if approval.get("kind") == "spawn" else "a change of"
    return f"{what} {_text(approval, 'agent')}"


def _turn_end(frame: Fields) -> str:
    note = f": {_text(frame, 'note')}" if frame.get("note") else ""
    return ("turn ends well" if frame.get("ok") else "turn failed") + note


def _turn_state(frame: Fields) -> str:
    reason = f" ({_text(frame, 'reason')})" if frame.get("reason") else ""
    return f"is {_text(frame, 'state')}{reason}"


def _stream(frame: Fields) -> str | None:
    kind = str(frame.get("type", ""))
    if kind in _QUIET_TYPES:
        return None
    message = frame.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return None
    parts = [part for block in content if isinstance(block, Mapping) and (part := _block(block))]
    return "; ".join(parts) or None


def _block(block: Fields) -> str | None:
    kind = block.get("type")
    if kind == "text":
        return f"says: {first_line(block.get('text', ''))}"
    if kind == "tool_use":
        tool = str(block.get("name", "?")).removeprefix(_TOOL_PREFIX)
        return f"calls {visible(tool)} {_arguments(block.get('input'))}".rstrip()
    if kind == "tool_result" and block.get("is_error"):
        return "its tool call failed"
    return None


def _arguments(given: object) -> str:
    if not isinstance(given, Mapping):
        return ""
    return ", ".join(f"{visible(str(key))}={first_line(_plain(value))}" for key, value in given.items())


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _unknown(kind: str, frame: Fields) -> str:
    about = next((f" {_text(frame, key)}" for key in ("agent", "name", "id") if key in frame), "")
    return f"{visible(kind).replace('_', ' ')}{about}"


_HIVE: dict[str, Callable[[Fields], str]] = {
    "resume": lambda frame: "watching" + (" (something was missed)" if frame.get("resume") == "gap" else ""),
    "lagged": lambda frame: f"{_text(frame, 'missed')} frames were missed",
    "sent": _sent,
    "delivered": _delivered,
    "message_state": _message_state,
    "transient_set": lambda frame: f"{_text(frame, 'agent')} is {_text(frame, 'what')}",
    "container_removed": lambda frame: f"{_text(frame, 'name')} is gone",
    "approval_added": _approval_added,
    "approval_changed": _approval_moved,
    "approval_resolved": _approval_moved,
    "question_added": lambda frame: (
        f"{_text(frame, 'asker')} asks {_text(frame, 'target')}, question {_text(frame, 'id')}: "
        f"{first_line(frame.get('question', ''))}"
    ),
    "question_resolved": lambda frame: (
        f"question {_text(frame, 'id')} is answered by {_text(frame, 'answerer')}: "
        f"{first_line(frame.get('answer', ''))}"
    ),
}

_AGENT: dict[str, Callable[[Fields], str]] = {
    "resume": _HIVE["resume"],
    "lagged": _HIVE["lagged"],
    "turn_start": lambda frame: (
        f"turn starts, from {_text(frame, 'from')}: {first_line(frame.get('body', ''))}"
    ),
    "turn_end": _turn_end,
    "turn_state_changed": _turn_state,
    "note": lambda frame: f"note: {first_line(frame.get('text', ''))}",
    "status_changed": lambda frame: f"login: {_text(frame, 'status').replace('_', ' ')}",
    "model_changed": lambda frame: f"model: {_text(frame, 'model')}",
}
