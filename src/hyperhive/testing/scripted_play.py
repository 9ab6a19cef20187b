"""What the scripted CLI says and does: a role play for the demo, and `[[directives]]` for tests.

Role play: the manager (whose prompt has a line `Team: ada, ben`) splits the operator's task among its team and reports
when all parts are back; an agent works its part and answers whoever wrote. All of it follows from the message and the
session's memory, word for word the same when a turn runs again.

A message with directives is worked by them, in their order, instead: `[[say TEXT]]`, `[[sleep SECONDS]]`,
`[[call TOOL {"json": "arguments"}]]`, or one of the misbehaviours at the end of this file. `[[once NAME]]` before a
directive makes it run only the first time in this session: `[[once a]][[die]]`.
The variable HYPERHIVE_SCRIPTED holds directives for every message.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from hyperhive.testing.scripted_cli import Interrupted, Json, ScriptedCli

MESSAGE = re.compile(
    r"\[message (\d+) from (\S+), boundary (\w+)\]\n(.*?)\n\[end of message \1, boundary \3\]", re.DOTALL
)
BANNER = re.compile(r"\[(?:redelivered|its turn was interrupted)[^\]\n]*\]\n")
STANDING = "(its text stands above in this session)"
PART = re.compile(r"Part (\d+) of (\d+) of task (\d+): (.*)", re.DOTALL)
DONE = re.compile(r"Done with part (\d+) of (\d+) of task (\d+): (.*)", re.DOTALL)


class Refusal(Exception):
    """The turn ends with this result instead of a good one."""

    def __init__(self, text: str, **fields: object) -> None:
        super().__init__(text)
        self.fields = fields


def take_turns(cli: ScriptedCli) -> None:
    """Turn after turn until the input closes."""
    if "[[hang-at-start]]" in os.environ.get("HYPERHIVE_SCRIPTED", ""):
        hang(cli, "")
    while True:
        message = cli.next_message()
        content = message["message"]["content"]
        text = content if isinstance(content, str) else "\n".join(str(b.get("text", "")) for b in content)
        uuids = [str(message.get("uuid"))]
        if text.startswith("/compact"):
            compact(cli, uuids)
        else:
            take_turn(cli, text, uuids)


def take_turn(cli: ScriptedCli, text: str, uuids: list[str]) -> None:
    """One turn: init, the work, and the result that names the messages it was for."""
    cli.init(uuids)
    cli.remember(kind="prompt", text=text)
    try:
        words = work(cli, text)
        for extra in cli.taken_in():
            uuids.append(str(extra.get("uuid")))
            words = work(cli, str(extra["message"]["content"]))
    except Interrupted:
        cli.result(
            uuids, "", subtype="error_during_execution", is_error=True, terminal_reason="aborted_tools"
        )
    except Refusal as refusal:
        cli.say(str(refusal), error=refusal.fields.get("error"), is_api_error_message=True)
        fields: Json = {"is_error": True, "terminal_reason": "api_error", **refusal.fields}
        fields.pop("error", None)
        cli.result(uuids, str(refusal), **fields)
    else:
        cli.result(uuids, words)
        if "[[die-after-result]]" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if "[[hang-after-result]]" in text:
            hang(cli, "")


def compact(cli: ScriptedCli, uuids: list[str]) -> None:
    """What `/compact` does: a boundary, and a result without turns."""
    cli.emit("system", subtype="status", status="compacting")
    cli.remember(kind="compacted")
    cli.emit("system", subtype="compact_boundary", compact_metadata={"trigger": "manual"})
    cli.result(uuids, "", turns=0, terminal_reason=None)


def work(cli: ScriptedCli, prompt: str) -> str:
    """Everything one prompt asks for; the last words."""
    words = "Nothing to do."
    for found in MESSAGE.finditer(prompt):
        sender, body = found[2], BANNER.sub("", found[4]).strip()
        if body == STANDING:
            body = recall(cli, found[1])
        directives = os.environ.get("HYPERHIVE_SCRIPTED", "") + body
        words = (
            run_directives(cli, directives) if "[[" in directives else play(cli, int(found[1]), sender, body)
        )
    if MESSAGE.search(prompt) is None and "[[" in prompt:
        words = run_directives(cli, prompt)
    cli.say(words)
    return words


def recall(cli: ScriptedCli, message_id: str) -> str:
    """The body of a message as it was told earlier in this session."""
    for entry in reversed(cli.memory):
        for found in MESSAGE.finditer(str(entry.get("text", ""))):
            body = BANNER.sub("", found[4]).strip()
            if found[1] == message_id and body != STANDING:
                return body
    return ""


# --- the role play --------------------------------------------------------------------------------------------------


def play(cli: ScriptedCli, message_id: int, sender: str, body: str) -> str:
    """Work one message as the role that the system prompt gives."""
    team = re.search(r"^Team: (.+)$", cli.system_prompt, re.MULTILINE)
    if team and sender == "operator":
        return split(cli, message_id, body, [name.strip() for name in team[1].split(",")])
    if part := PART.search(body):
        return do_part(cli, sender, part)
    if done := DONE.search(body):
        return collect(cli, sender, done)
    if sender == "system" or body.startswith("You said: "):
        return f"Noted what {sender} wrote."
    cli.call("send", {"to": sender, "body": f"You said: {body}"})
    return f"I answered {sender}."


def split(cli: ScriptedCli, task: int, body: str, team: list[str]) -> str:
    """Give each member of the team a part of the operator's task."""
    pieces = [piece.strip(" .") for piece in re.split(r"(?:;|\n|, and | and )", body) if piece.strip(" .")]
    if len(pieces) < len(team):
        pieces = [f"{body} (share {n + 1})" for n in range(len(team))]
    shares = [" and ".join(pieces[n :: len(team)]) for n in range(len(team))]
    cli.say(f"Task {task} has {len(pieces)} pieces; I share them out to {', '.join(team)}.")
    for n, (member, share) in enumerate(zip(team, shares, strict=True), 1):
        cli.call("send", {"to": member, "body": f"Part {n} of {len(team)} of task {task}: {share}"})
    return f"Task {task} is with {' and '.join(team)}; I report when all parts are back."


def do_part(cli: ScriptedCli, sender: str, part: re.Match[str]) -> str:
    """Work one part of a task: write it up in a file and tell whoever asked."""
    n, of, task, what = part.groups()
    cli.say(f"Working on: {what}")
    note = f"task-{task}-part-{n}.md"
    cli.write_file(note, f"# {what}\n\nWritten by a script, as the shape of an answer.\n")
    answer = f"{what} is written up in {note}"
    cli.call("send", {"to": sender, "body": f"Done with part {n} of {of} of task {task}: {answer}"})
    return f"Part {n} of task {task} is done."


def collect(cli: ScriptedCli, sender: str, done: re.Match[str]) -> str:
    """Keep one part's answer; report to the operator with the last one."""
    n, of, task, answer = done.groups()
    cli.remember(kind="part", task=task, n=n, text=f"{sender}: {answer}")
    parts = {
        entry["n"]: entry["text"]
        for entry in cli.memory
        if entry.get("kind") == "part" and entry["task"] == task
    }
    if len(parts) < int(of):
        return f"{sender} is done; {int(of) - len(parts)} of task {task} still to come."
    lines = "\n".join(f"- {parts[key]}" for key in sorted(parts))
    cli.call("send", {"to": "operator", "body": f"Task {task} is done.\n{lines}"})
    return f"I told the operator that task {task} is done."


# --- directives -----------------------------------------------------------------------------------------------------


def run_directives(cli: ScriptedCli, text: str) -> str:
    """Do what the text's directives say, in their order; the last words."""
    words = "Did as directed."
    skip = False
    for name, argument in directives_of(text):
        if name == "once":
            skip = any(entry.get("kind") == "once" and entry.get("name") == argument for entry in cli.memory)
            if not skip:
                cli.remember(kind="once", name=argument)
        elif skip:
            skip = False
        elif name == "say":
            words = argument
            cli.say(argument)
        elif name == "call":
            tool, _, arguments = argument.partition(" ")
            words = cli.call(tool, json.loads(arguments or "{}"))
        elif name in MISBEHAVIOURS:
            MISBEHAVIOURS[name](cli, argument)
    return words


def directives_of(text: str) -> list[tuple[str, str]]:
    """The directives of a text; a `call`'s JSON may hold further ones, for whoever it is sent to."""
    found = []
    at = 0
    while opening := re.compile(r"\[\[([a-z0-9-]+) ?").search(text, at):
        name, start = opening[1], opening.end()
        end = text.find("]]", start)
        brace = text.find("{", start, end if name == "call" else start)
        if brace >= 0:
            end = text.find("]]", brace + json.JSONDecoder().raw_decode(text[brace:])[1])
        end = len(text) if end < 0 else end
        found.append((name, text[start:end]))
        at = end
    return found


# --- misbehaviour ---------------------------------------------------------------------------------------------------


def hang(cli: ScriptedCli, _argument: str) -> None:
    """Alive, and deaf to everything but SIGKILL."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cli.deaf = True
    while True:
        time.sleep(3600)


def stall(cli: ScriptedCli, _argument: str) -> None:
    """No output; an interrupt ends it."""
    while True:
        cli.pump(None)


def open_tool(cli: ScriptedCli, seconds: str) -> None:
    """A tool that runs for long: silence that is no sign of being stuck."""
    call_id = f"toolu_{uuid.uuid4().hex[:12]}"
    cli.open_tool("Bash", {"command": f"sleep {seconds}"}, call_id)
    cli.pause(float(seconds))
    cli.close_tool(call_id, "", failed=False)


def deaf_tool(cli: ScriptedCli, _argument: str) -> None:
    """A tool is open, and the CLI itself hangs."""
    cli.open_tool("Bash", {"command": "true"}, f"toolu_{uuid.uuid4().hex[:12]}")
    hang(cli, "")


def rubbish(cli: ScriptedCli, _argument: str) -> None:
    """Lines that are no frames, or frames of the wrong shape; the turn goes on."""
    deep = b"[" * 5000 + b"]" * 5000
    for line in (
        b"plain words", b"\xff\xfe\x00", b"[1, 2]", b'"text"', b"null", b"{", b'{"type": 7}', b"{}", deep,
        b'{"type":"result","user_message_uuids":7,"is_error":"no"}', b'{"type":"assistant","message":"x"}',
        b'{"type":"future_kind","seq":99,"kind":"turn_end","turn":"x"}', b"\x1b[31mred\x1b[0m",
    ):  # fmt: skip
        cli.raw(line + b"\n")


def flood_frames(cli: ScriptedCli, count: str) -> None:
    """Many well-formed frames that mean nothing."""
    line = b'{"type":"stream_event","event":{"type":"content_block_delta","delta":{"text":"abc"}}}\n'
    for _ in range(int(count or "100000") // 100):
        cli.raw(line * 100)


def flood_noise(cli: ScriptedCli, _argument: str) -> None:
    """Rubbish for ever."""
    while True:
        cli.raw(b"all work and no play\n" * 1000)


def flood_line(cli: ScriptedCli, _argument: str) -> None:
    """One line that never ends."""
    while True:
        cli.raw(b"x" * 65536)


def die(_cli: ScriptedCli, _argument: str) -> None:
    """Gone in the middle of the turn, without a word."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave(_cli: ScriptedCli, code: str) -> None:
    """An exit in the middle of the turn, with this code and a word on standard error."""
    sys.stderr.write("fatal: scripted end\n")
    os._exit(int(code or "0"))


def orphan(cli: ScriptedCli, _argument: str) -> None:
    """A child in a session of its own, as the real CLI's Bash tool starts them; its pid is said."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdin=subprocess.DEVNULL)
    cli.say(f"orphan pid {child.pid}")


def no_tools(cli: ScriptedCli, _argument: str) -> None:
    """An `init` that says that the hive's server failed."""
    cli.tools_status = "failed"
    cli.init([])


def not_connected(cli: ScriptedCli, _argument: str) -> None:
    """A tool call answered as the real CLI answers one to a server that went away."""
    call_id = f"toolu_{uuid.uuid4().hex[:12]}"
    cli.open_tool("mcp__hyperhive__whoami", {}, call_id)
    cli.close_tool(call_id, "MCP server hyperhive is not connected", failed=True)


def unasked(cli: ScriptedCli, _argument: str) -> None:
    """A turn that nobody asked for, as after a background task, in front of the real result."""
    cli.emit("result", subtype="success", is_error=False, terminal_reason="completed", result="a task ended",
             origin={"kind": "task-notification"}, usage={}, total_cost_usd=cli.total_cost)  # fmt: skip


def slow(cli: ScriptedCli, seconds: str) -> None:
    """Works for so many seconds, with a sign of life every tenth."""
    for n in range(round(float(seconds) * 10)):
        cli.say(f"step {n}")
        cli.pause(0.1)


def refusal(
    status: int | None, text: str, error: str, **fields: object
) -> Callable[[ScriptedCli, str], None]:
    """A misbehaviour that ends the turn as an answer of the API does."""

    def refuse(_cli: ScriptedCli, _argument: str) -> None:
        raise Refusal(text, api_error_status=status, error=error, **fields)

    return refuse


def too_long(cli: ScriptedCli, always: str) -> None:
    """The prompt is too long until the session has been compacted (or always)."""
    if always or not any(entry.get("kind") == "compacted" for entry in cli.memory):
        raise Refusal("Prompt is too long", terminal_reason="prompt_too_long", api_error_status=400)


MISBEHAVIOURS: dict[str, Callable[[ScriptedCli, str], Any]] = {
    "hang": hang,
    "stall": stall,
    "open-tool": open_tool,
    "sleep": lambda cli, seconds: cli.pause(float(seconds)),
    "slow": slow,
    "deaf-tool": deaf_tool,
    "rubbish": rubbish,
    "flood-frames": flood_frames,
    "flood-noise": flood_noise,
    "flood-line": flood_line,
    "die": die,
    "exit": leave,
    "orphan": orphan,
    "no-tools": no_tools,
    "not-connected": not_connected,
    "unasked": unasked,
    "api-500": refusal(500, "API Error: 500 scripted", "server_error"),
    "api-429": refusal(429, "API Error: Request rejected (429)", "rate_limit"),
    "api-401": refusal(401, "Invalid API key", "authentication_failed"),
    "api-403": refusal(403, "Failed to authenticate. API Error: 403", "authentication_failed"),
    "max-turns": refusal(None, "", "unknown", subtype="error_max_turns", terminal_reason="max_turns"),
    "too-long": too_long,
}
