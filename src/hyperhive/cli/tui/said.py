"""What the CLI and the hive say about themselves, in a line: sessions, retries, compaction, limits, logins. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from hyperhive.cli.tui.tools import Body, as_list, as_object, body_of, fields, first_line, plain

Frame = Mapping[str, Any]


class Said(NamedTuple):
    """A line; an empty title: known, and nothing to say to a person."""

    label: str
    title: str
    body: Body = []  # noqa: RUF012 (never changed: rows copy it)
    error: bool = False


NOTHING: Final = Said("", "")

_WAITS: Final = {
    "limited": "for its account's limit to end",
    "login": "for a login",
    "budget": "for its budget",
    "backoff": "before it tries again",
    "operator": "for you",
}


def system_line(name: str, frame: Frame) -> Said | None:
    """A known kind in words; None: it is not known."""
    known = _KNOWN.get(name)
    return known(frame) if known else None


def _turn_state(frame: Frame) -> Said:
    if frame.get("state") == "compacting":
        return Said("state", "compacting")
    if frame.get("state") != "waiting":
        return NOTHING
    reason = str(frame.get("reason") or "")
    return Said("state", f"waits {_WAITS.get(reason, reason)}".rstrip())


def _init(frame: Frame) -> Said:
    servers = [as_object(one) for one in as_list(frame.get("mcp_servers"))]
    bad = [one for one in servers if one.get("status") not in {"connected", "pending"}]
    parts = [
        plain(frame.get("model") or ""),
        f"{len(as_list(frame.get('tools')))} tools",
        ", ".join(f"{one.get('name')} {one.get('status')}" for one in servers),
        plain(frame.get("claude_code_version") or ""),
    ]
    shown = {key: frame.get(key) for key in ("session_id", "cwd", "permissionMode", "apiKeySource", "tools")}
    return Said("session", " · ".join(filter(None, parts)), fields(shown), bool(bad))


def _retry(frame: Frame) -> Said:
    why = " ".join(plain(frame[key]) for key in ("error_status", "error") if frame.get(key) is not None)
    delay = frame.get("retry_delay_ms")
    wait = f", again in {delay / 1000:.1f} s" if isinstance(delay, int | float) else ""
    tries = f"try {plain(frame.get('attempt'))} of {plain(frame.get('max_retries'))}"
    return Said("retry", f"request failed{f' ({first_line(why, 120)})' if why else ''}, {tries}{wait}")


def _limit(frame: Frame) -> Said:
    info = as_object(frame.get("rate_limit_info"))
    status = str(info.get("status", "?"))
    if status == "allowed":
        return NOTHING
    used = info.get("utilization")
    share = f", {used:.0%} used" if isinstance(used, int | float) else ""
    which = str(info.get("rateLimitType") or "usage").replace("_", " ")
    words = "reached" if status == "rejected" else "near"
    return Said("limit", f"{which} limit {words}{share}", fields(info), status == "rejected")


def _permission(frame: Frame) -> Said:
    request = as_object(frame.get("request"))
    if request.get("subtype") != "can_use_tool":
        quiet = request.get("subtype") == "mcp_message"
        return NOTHING if quiet else Said("control", plain(request.get("subtype") or "?"))
    return Said("asks", f"may it use {request.get('tool_name', '?')}?", body_of(plain(request.get("input"))))


def _compacted(frame: Frame) -> Said:
    facts = as_object(frame.get("compact_metadata"))
    sizes = f", {plain(facts['pre_tokens'])} tokens before" if "pre_tokens" in facts else ""
    after = f", {plain(facts['post_tokens'])} after" if "post_tokens" in facts else ""
    return Said("compact", f"the session was compacted ({facts.get('trigger', '?')}{sizes}{after})")


def _hook(frame: Frame) -> Said:
    body = [line for key in ("stdout", "stderr") for line in body_of(plain(frame.get(key) or ""))]
    title = f"{frame.get('hook_name') or frame.get('hook_event') or '?'} {frame.get('outcome') or ''}".strip()
    return Said("hook", title, body, frame.get("exit_code") not in {None, 0})


def _info(frame: Frame) -> Said:
    return Said("info", first_line(plain(frame.get("content") or frame.get("message") or "?")))


def _task_end(frame: Frame) -> Said:
    title = f"{plain(frame.get('summary') or 'a task')}: {plain(frame.get('status') or '?')}"
    return Said("task", title, error=frame.get("status") == "failed")


_KNOWN: Final[dict[str, Callable[[Frame], Said]]] = {
    "turn_state_changed": _turn_state,
    "status_changed": lambda frame: Said("login", str(frame.get("status", "?")).replace("_", " ")),
    "model_changed": lambda frame: Said("model", plain(frame.get("model") or "?")),
    "system/init": _init,
    "system/api_retry": _retry,
    "system/status": lambda frame: (
        Said("state", "compacting the session") if frame.get("status") == "compacting" else NOTHING
    ),
    "system/compact_boundary": _compacted,
    "system/hook_started": lambda _: NOTHING,
    "system/hook_response": _hook,
    "system/informational": _info,
    "system/permission_denied": lambda frame: Said(
        "denied", f"{frame.get('tool_name', '?')}: {plain(frame.get('message') or '')}", error=True
    ),
    "system/task_started": lambda frame: Said(
        "task", f"{plain(frame.get('description') or 'a task')} started"
    ),
    "system/task_progress": lambda _: NOTHING,
    "system/task_notification": _task_end,
    "stream/rate_limit_event": _limit,
    "stream/control_request": _permission,
    "stream/conversation_reset": lambda _: Said("session", "a new conversation begins"),
}
