"""An agent's events as rows of text: turns, what it says and thinks, tool calls with their results, notes. Pure.

The kinds of rows and what they show are those of its page (docs/terminal-rendering.md). Memory is bounded: so many
rows, each with a body of so many letters. Nothing here is safe to print yet: `log_view` makes it visible.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from hyperhive.cli.render import count, plural
from hyperhive.cli.tui.said import system_line
from hyperhive.cli.tui.tools import (
    CHANGES,
    MAIL,
    Body,
    as_list,
    as_object,
    body_of,
    call,
    first_line,
    plain,
    result,
)

Frame = Mapping[str, Any]

ROWS_MAX: Final = 2000
_BODY_MAX: Final = 16 * 1024
_CALLS_MAX: Final = 500
_SEEN_MAX: Final = 20_000

_SILENT: Final = frozenset(
    {
        "heartbeat", "resume", "token_usage_changed", "stream/command_lifecycle", "stream/control_response",
        "stream/stream_event", "system/background_tasks_changed", "system/task_updated", "system/thinking_tokens",
    }
)  # fmt: skip


class Row:
    """One row. `title` stands beside the label, `body` below it while `level` is above 0 (1: its beginning)."""

    __slots__ = (
        "at",
        "body",
        "depth",
        "eid",
        "error",
        "how",
        "label",
        "level",
        "lines",
        "style",
        "title",
        "tool",
    )

    def __init__(
        self,
        label: str,
        title: str,
        body: Body | None = None,
        *,
        style: str = "",
        open_: bool = False,
        depth: int = 0,
    ) -> None:
        self.label = label
        self.title = title
        self.body = _cut(body or [])
        self.style = style
        self.level = 1 if open_ else 0
        self.depth = depth
        self.at: float | None = None
        self.eid: int | None = None
        self.error = False
        self.tool = ""
        self.how = ""
        """Of a call: that it runs, or what came of it."""
        self.lines: object = None
        """How it was drawn last, kept by whoever draws; None after a change."""


def _cut(body: Body) -> Body:
    room = _BODY_MAX
    for number, (_, line) in enumerate(body):
        room -= len(line) + 1
        if room < 0:
            kept = [*body[:number], (body[number][0], line[: max(0, room + len(line))])]
            return [
                *kept,
                ("dim", f"… {len(body) - number} more lines; `hyperhive events --json` has all of it"),
            ]
    return body


class Rows:
    """The window of an agent's events, oldest first, at most `ROWS_MAX`; the oldest go first."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.first_eid: int | None = None
        self.last_eid: int | None = None
        self._calls: dict[str, Row] = {}
        self._seen: set[int] = set()
        self._out: list[Row] = []
        self._frame: Frame = {}
        self._said = ""

    def add(self, frame: Frame, arrived: float | None = None) -> list[Row] | None:
        """Takes the next event; the rows that it made. None: it is here already."""
        if not self._new(frame):
            return None
        self._out, self._frame = [], frame
        self._take(frame)
        at = _time_of(frame, arrived)
        for row in self._out:
            row.at, row.eid = at, frame.get("eid")
        self.rows += self._out
        if (over := len(self.rows) - ROWS_MAX) > 0:
            del self.rows[:over]
            self.first_eid = next((row.eid for row in self.rows if row.eid is not None), self.first_eid)
        return self._out

    def add_older(self, frames: Sequence[Frame]) -> int:
        """Puts a page of history before all that is here; how many rows that made."""
        older = Rows()
        for frame in frames:
            if self._new(frame):
                older.add(frame)
        self.rows[:0] = older.rows
        if older.first_eid is not None:
            self.first_eid = older.first_eid
        return len(older.rows)

    def gap(self, text: str) -> None:
        """Says that something is missing here."""
        self.rows.append(Row("gap", text, style="amber"))

    def _new(self, frame: Frame) -> bool:
        eid = frame.get("eid")
        if not isinstance(eid, int):
            return True
        if eid in self._seen:
            return False
        if len(self._seen) >= _SEEN_MAX:
            self._seen = {one for one in self._seen if one > (self.last_eid or 0) - _SEEN_MAX // 2}
        self._seen.add(eid)
        self.first_eid = eid if self.first_eid is None else min(self.first_eid, eid)
        self.last_eid = eid if self.last_eid is None else max(self.last_eid, eid)
        return True

    # --- the hive's own events --------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        kind = str(frame.get("kind", "?"))
        match kind:
            case "turn_start":
                self._turn_start(frame)
            case "turn_end":
                self._turn_end(frame)
            case "note":
                self._note(frame)
            case "lagged":
                missed = plain(frame.get("missed", "?"))
                self._put(Row("gap", f"{missed} events are missing here", style="amber"))
            case "stream":
                self._stream(frame)
            case _ if kind not in _SILENT:
                self._other(kind, frame, 0)

    def _turn_start(self, frame: Frame) -> None:
        more = frame.get("unread")
        waits = f"  ({plural(more, 'message')} more)" if isinstance(more, int) and more > 0 else ""
        title = f"from {frame.get('from', '?')}{waits}"
        self._put(Row("turn", title, body_of(plain(frame.get("body", ""))), style="cyan", open_=True))
        self._said = ""

    def _turn_end(self, frame: Frame) -> None:
        well = frame.get("ok") is True
        note = plain(frame.get("note") or "")
        row = Row("done" if well else "failed", first_line(note), style="green" if well else "red")
        row.error = not well
        self._put(row)
        for made in self._calls.values():
            _end_call(made, "" if well else "failed")
        self._calls.clear()

    def _note(self, frame: Frame) -> None:
        text, source = plain(frame.get("text", "")), frame.get("source")
        label, style = {"operator": ("you", "magenta"), "cli": ("stderr", "dim")}.get(
            str(source), ("note", "amber")
        )
        self._put(Row(label, "", body_of(text), style=style, open_=True))

    def _other(self, name: str, frame: Frame, depth: int) -> None:
        said = system_line(name, frame)
        if said is None:
            rest = {
                key: value for key, value in frame.items() if key not in {"kind", "seq", "eid", "turn", "ts"}
            }
            self._put(
                Row(
                    "?",
                    f"{name.removeprefix('stream/')} {first_line(plain(rest), 120)}",
                    body_of(plain(rest)),
                    style="dim",
                )
            )
        elif said.title:
            row = Row(said.label, said.title, said.body, style="red" if said.error else "dim", depth=depth)
            row.error = said.error
            self._put(row)

    def _put(self, row: Row) -> None:
        self._out.append(row)

    # --- the CLI's lines --------------------------------------------------------------------------------------------

    def _stream(self, frame: Frame) -> None:
        kind = str(frame.get("type", "?"))
        depth = 1 if frame.get("parent_tool_use_id") else 0
        if kind == "assistant":
            self._assistant(frame, depth)
        elif kind == "user":
            self._user(frame, depth)
        elif kind == "result":
            self._result(frame)
        else:
            name = f"system/{frame.get('subtype', '?')}" if kind == "system" else f"stream/{kind}"
            if name not in _SILENT:
                self._other(name, frame, depth)

    def _assistant(self, frame: Frame, depth: int) -> None:
        content = as_object(frame.get("message")).get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else as_list(content)
        for block in map(as_object, blocks):
            kind = str(block.get("type", "?"))
            if kind == "text":
                self._words("says", plain(block.get("text", "")), "", depth, open_=True)
            elif kind in {"thinking", "redacted_thinking"}:
                self._words("thinks", plain(block.get("thinking", "(not shown by the model)")), "dim", depth)
            elif kind in {"tool_use", "server_tool_use", "mcp_tool_use"}:
                self._call(block, depth)
            elif kind.endswith("tool_result"):
                self._tool_result(block, frame, depth)
            else:
                self._put(Row("?", f"block {kind}", body_of(plain(block)), style="dim", depth=depth))

    def _words(self, label: str, text: str, style: str, depth: int, *, open_: bool = False) -> None:
        if text.strip():
            self._put(Row(label, "", body_of(text.strip("\n")), style=style, open_=open_, depth=depth))
            self._said = text if label == "says" else self._said

    def _call(self, block: Frame, depth: int) -> None:
        label, line, body, open_ = call(str(block.get("name", "?")), block.get("input"))
        row = Row(label, line, body, style="blue", open_=open_, depth=depth)
        row.tool = label
        row.how = "runs"
        self._put(row)
        if len(self._calls) >= _CALLS_MAX:
            del self._calls[next(iter(self._calls))]
        self._calls[str(block.get("id", ""))] = row

    def _user(self, frame: Frame, depth: int) -> None:
        content = as_object(frame.get("message")).get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else as_list(content)
        for block in map(as_object, blocks):
            if block.get("type") == "tool_result":
                self._tool_result(block, frame, depth)
            elif text := plain(block.get("text", "") if block.get("type") == "text" else block):
                label = "cli" if frame.get("isSynthetic") is True else "prompt"
                self._put(Row(label, "", body_of(text), style="dim", depth=depth))

    def _tool_result(self, block: Frame, frame: Frame, depth: int) -> None:
        error = block.get("is_error") is True
        row = self._calls.pop(str(block.get("tool_use_id", "")), None)
        text = result(row.tool if row else "", block.get("content"))
        if row is None:
            row = Row("result", "", body_of(text), style="red" if error else "", open_=error, depth=depth)
            row.error = error
            self._put(row)
            return
        denied = any(
            as_object(as_object(meta).get("permission_decision")).get("decision") == "reject"
            for meta in as_list(frame.get("tool_result_meta"))
        )
        if row.tool in CHANGES and not error and not denied:  # its differences are there, and say more
            _end_call(row, "")
            return
        lines = len(text.splitlines())
        how = (
            "denied"
            if denied
            else "failed"
            if error
            else plural(lines, "line")
            if row.tool not in MAIL
            else ""
        )
        _end_call(row, how)
        row.body = _cut([*row.body, *body_of(text, "red" if error else "dim")])
        row.error = error
        if error or row.tool == "recv":
            row.level = max(row.level, 1)

    def _result(self, frame: Frame) -> None:
        failed = frame.get("is_error") is True
        usage = as_object(frame.get("usage"))
        used = sum(int(usage.get(name) or 0) for name in _INPUTS if isinstance(usage.get(name), int))
        ms = frame.get("duration_ms")
        turns = frame.get("num_turns")
        parts = [
            str(frame.get("terminal_reason") or frame.get("subtype") or "?"),
            plural(turns, "model turn") if isinstance(turns, int) else "",
            f"{ms / 1000:.1f} s" if isinstance(ms, int | float) else "",
            f"{count(used)} tokens in, {count(int(usage.get('output_tokens') or 0))} out" if used else "",
        ]
        text = plain(frame.get("result") or "")
        body = body_of(text, "red" if failed else "") if text.strip() != self._said.strip() else []
        body += [("red", plain(one)) for one in as_list(frame.get("errors"))]
        for denied in map(as_object, as_list(frame.get("permission_denials"))):
            body.append(
                (
                    "red",
                    f"denied: {denied.get('tool_name')} {first_line(plain(denied.get('tool_input')), 120)}",
                )
            )
        row = Row(
            "result", " · ".join(filter(None, parts)), body, style="red" if failed else "dim", open_=failed
        )
        row.error = failed
        self._put(row)


_INPUTS: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _end_call(row: Row, how: str) -> None:
    row.how = how
    row.style = "red" if how in {"failed", "denied"} else row.style
    row.lines = None


def _time_of(frame: Frame, arrived: float | None) -> float | None:
    """When it happened: by the log, by the CLI, or when it came."""
    for key in ("ts", "since_unix"):
        if isinstance(frame.get(key), int | float):
            return float(frame[key])
    try:
        return datetime.fromisoformat(str(frame.get("timestamp", ""))).timestamp()
    except ValueError:
        return arrived
