"""Tool calls and their results in text, as an agent's page shows them (docs/terminal-rendering.md). Pure.

A tool that is not known is printed by its arguments, so nothing is hidden. What comes back is not yet safe to print.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

Json = Mapping[str, Any]
Body = list[tuple[str, str]]
"""Lines with a style each."""

_HIVE: Final = "hyperhive"
_NAME: Final = re.compile(r"mcp__(.+?)__(.+)", re.DOTALL)
_LETTERS: Final = re.compile(r"^---\n(?=(?:\[redelivered[^\n]*\]\n)?from: )", re.MULTILINE)
_COMPARED_LINES_MAX: Final = 400
MAIL: Final = frozenset({"send", "ask", "answer", "recv"})
CHANGES: Final = frozenset({"Edit", "MultiEdit", "Write"})
_OPEN: Final = CHANGES | {"TodoWrite"}


def plain(value: object) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def as_object(value: object) -> Json:
    """An object, or an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: object) -> list[Any]:
    """A list, or an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def first_line(text: str, limit: int = 200) -> str:
    """The first line that is not blank, and an ellipsis where there is more."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    first = lines[0] if lines else ""
    return first[:limit] + (" …" if len(lines) > 1 or len(first) > limit else "")


def body_of(text: str, style: str = "") -> Body:
    """A text as the lines of a body."""
    return [(style, line) for line in text.replace("\r\n", "\n").split("\n")] if text else []


def fields(given: Json, without: frozenset[str] = frozenset()) -> Body:
    """Arguments by their names."""
    found: Body = []
    for name, value in given.items():
        if name not in without and value is not None:
            first, *rest = plain(value).split("\n")
            found += [("", f"{name}: {first}"), *(("", f"  {line}") for line in rest)]
    return found


def call(name: str, given: object) -> tuple[str, str, Body, bool]:
    """A call: its label, its line, its body, whether that is shown from the start."""
    arguments = as_object(given)
    match = _NAME.fullmatch(name)
    server, tool = match.groups() if match else (None, name)
    if server == _HIVE:
        line, body = _HIVE_TOOLS.get(tool, _generic)(arguments)
        return tool, line, body, tool in MAIL
    if server is not None:
        line, body = _generic(arguments)
        return f"{server}.{tool}", line, body, False
    line, body = _BUILT_IN.get(tool, _generic)(arguments)
    return tool or "?", line, body, tool in _OPEN


def result(name: str, content: object) -> str:
    """The text of a result; of what is no text, that it is there."""
    if isinstance(content, str):
        text = content
    else:
        parts = []
        for block in map(as_object, as_list(content)):
            kind = str(block.get("type", "?"))
            parts.append(str(block.get("text", "")) if kind == "text" else f"[{kind}]")
        text = "\n".join(parts)
    text = re.sub(r"\n*^inbox: \d+ unread\s*\Z", "", text, flags=re.MULTILINE)  # the header says it
    if name == "recv":
        return "\n\n".join(_LETTERS.split(re.sub(r"\Apopped \d+ message\(s\)\n---\n", "", text)))
    return re.sub(r"\A<tool_use_error>(.*)</tool_use_error>\Z", r"\1", text, flags=re.DOTALL)


# --- printers -------------------------------------------------------------------------------------------------------

Printed = tuple[str, Body]


def _generic(given: Json) -> Printed:
    words = (f"{name}: {first_line(plain(value), 60)}" for name, value in given.items())
    return first_line(", ".join(words), 160), fields(given)


def differences(before: str, after: str) -> tuple[Body, str]:
    """Lines that went and came, and how many of each."""
    old, new = before.splitlines(), after.splitlines()
    if not old or len(old) + len(new) > _COMPARED_LINES_MAX:
        lines = [*(f"-{line}" for line in old), *(f"+{line}" for line in new)]
    else:
        from difflib import unified_diff

        lines = list(unified_diff(old, new, n=2, lineterm=""))[2:]
    styles = {"+": "green", "-": "red", "@": "dim"}
    body = [(styles.get(line[:1], ""), line) for line in lines]
    came, went = (sum(style == colour for style, _ in body) for colour in ("green", "red"))
    return body, f"+{came} -{went}"


def _text(given: Json, name: str, otherwise: str = "?") -> str:
    value = given.get(name)
    return otherwise if value is None else plain(value)


def _edit(given: Json) -> Printed:
    body, counts = differences(_text(given, "old_string", ""), _text(given, "new_string", ""))
    everywhere = ", every occurrence" if given.get("replace_all") is True else ""
    return f"{_text(given, 'file_path')}  {counts}{everywhere}", body


def _multi_edit(given: Json) -> Printed:
    edits = [as_object(one) for one in as_list(given.get("edits"))]
    bodies = [differences(_text(one, "old_string", ""), _text(one, "new_string", ""))[0] for one in edits]
    return f"{_text(given, 'file_path')}  {len(edits)} edits", [line for body in bodies for line in body]


def _write(given: Json) -> Printed:
    body, counts = differences("", _text(given, "content", ""))
    return f"{_text(given, 'file_path')}  {counts}", body


def _bash(given: Json) -> Printed:
    command = _text(given, "command", "")
    behind = " (in the background)" if given.get("run_in_background") is True else ""
    rest = fields(given, frozenset({"command", "run_in_background", "timeout"}))
    return first_line(command, 160) + behind, [*body_of(f"$ {command}"), *rest]


def _read(given: Json) -> Printed:
    start = f" from line {_text(given, 'offset')}" if "offset" in given else ""
    size = f", {_text(given, 'limit')} lines" if "limit" in given else ""
    return f"{_text(given, 'file_path')}{start}{size}", []


def _grep(given: Json) -> Printed:
    where = given.get("path") or given.get("glob")
    rest = fields(given, frozenset({"pattern", "path", "output_mode"}))
    return f"/{_text(given, 'pattern', '')}/" + (f" in {plain(where)}" if where else ""), rest


def _glob(given: Json) -> Printed:
    return _text(given, "pattern", "") + (f" in {_text(given, 'path')}" if given.get("path") else ""), []


def _todos(given: Json) -> Printed:
    items = [as_object(one) for one in as_list(given.get("todos"))]
    marks = {"completed": "[x]", "in_progress": "[>]"}
    body = [("", f"{marks.get(str(one.get('status')), '[ ]')} {_text(one, 'content', '')}") for one in items]
    done = sum(one.get("status") == "completed" for one in items)
    return f"{done} of {len(items)} done", body


def _task(given: Json) -> Printed:
    prompt = _text(given, "prompt", "")
    what = _text(given, "description", "") or first_line(prompt, 120)
    who = given.get("subagent_type")
    return f"{what} ({plain(who)})" if who else what, body_of(prompt)


def _send(given: Json) -> Printed:
    urgency = given.get("urgency", "next_turn")
    extra = "" if urgency == "next_turn" else f", {plain(urgency)}"
    return f"to {_text(given, 'to')}{extra}", body_of(_text(given, "body", ""))


def _ask(given: Json) -> Printed:
    options = [("", f"  {n}. {plain(one)}") for n, one in enumerate(as_list(given.get("options")), 1)]
    return f"to {_text(given, 'to', 'operator')}", [*body_of(_text(given, "question", "")), *options]


def _answer(given: Json) -> Printed:
    return f"question {_text(given, 'id')}", body_of(_text(given, "answer", ""))


def _recv(given: Json) -> Printed:
    most = f"up to {_text(given, 'max')} messages" if "max" in given else "1 message"
    return most + (f", waiting {_text(given, 'wait_seconds')} s" if "wait_seconds" in given else ""), []


_HIVE_TOOLS: Final[dict[str, Callable[[Json], Printed]]] = {
    "send": _send, "ask": _ask, "answer": _answer, "recv": _recv,
}  # fmt: skip
_BUILT_IN: Final[dict[str, Callable[[Json], Printed]]] = {
    "Bash": _bash, "Read": _read, "Grep": _grep, "Glob": _glob, "Edit": _edit, "MultiEdit": _multi_edit,
    "Write": _write, "TodoWrite": _todos, "Task": _task, "Agent": _task,
}  # fmt: skip
