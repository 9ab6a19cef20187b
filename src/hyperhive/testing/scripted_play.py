"""What the scripted CLI says and does: a role play for the demo, and `[[directives]]` for tests.

Role play: the manager (whose prompt has a line `Team: ada, ben`) splits the operator's task among its team and reports
when all parts are back; an agent works its part and answers whoever wrote. All of it follows from the message and the
session's memory, word for word the same when a turn runs again.

A message with directives is worked by them, in their order, instead: `[[say TEXT]]`, `[[sleep SECONDS]]`,
`[[call TOOL {"json": "arguments"}]]`, `[[control {..}]]` (a control request to the host; its answer is said),
`[[many-calls N]]` (that many `whoami` at once), or one of the misbehaviours of `scripted_faults`. `[[once NAME]]`
before a directive makes it run only the first time in this session: `[[once a]][[die]]`.
The variable HYPERHIVE_SCRIPTED holds directives for every message.
"""

import json
import os
import re
import signal

from hyperhive.testing.scripted_cli import Interrupted, Json, ScriptedCli
from hyperhive.testing.scripted_faults import MISBEHAVIOURS, Refusal, hang

MESSAGE = re.compile(
    r"\[message (\d+) from (\S+), boundary (\w+)\]\n(.*?)\n\[end of message \1, boundary \3\]", re.DOTALL
)
BANNER = re.compile(r"\[(?:redelivered|its turn was interrupted)[^\]\n]*\]\n")
STANDING = "(its text stands above in this session)"
PART = re.compile(r"Part (\d+) of (\d+) of task (\d+): (.*)", re.DOTALL)
DONE = re.compile(r"Done with part (\d+) of (\d+) of task (\d+): (.*)", re.DOTALL)


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
    if "[[stall-compaction]]" in os.environ.get("HYPERHIVE_SCRIPTED", ""):
        MISBEHAVIOURS["stall"](cli, "")
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
        elif name == "control":
            words = json.dumps(cli.answer_of(cli.ask_host(json.loads(argument))))
        elif name == "many-calls":
            words = many_calls(cli, int(argument))
        elif name in MISBEHAVIOURS:
            MISBEHAVIOURS[name](cli, argument)
    return words


def many_calls(cli: ScriptedCli, count: int) -> str:
    """Several tool calls under way at the same time; how many were answered well."""
    call = {"name": "whoami", "arguments": {}}
    asked = [
        cli.ask_host(
            {
                "subtype": "mcp_message",
                "server_name": "hyperhive",
                "message": {"jsonrpc": "2.0", "id": f"many-{n}", "method": "tools/call", "params": call},
            }
        )
        for n in range(count)
    ]
    answers = [cli.answer_of(one) for one in asked]
    good = [
        one
        for one in answers
        if one.get("subtype") == "success" and "result" in one["response"]["mcp_response"]
    ]
    return f"{len(good)} of {count} answered"


def directives_of(text: str) -> list[tuple[str, str]]:
    """The directives of a text; a `call`'s JSON may hold further ones, for whoever it is sent to."""
    found = []
    at = 0
    while opening := re.compile(r"\[\[([a-z0-9-]+) ?").search(text, at):
        name, start = opening[1], opening.end()
        end = text.find("]]", start)
        brace = text.find("{", start, end if name in {"call", "control"} else start)
        if brace >= 0:
            end = text.find("]]", brace + json.JSONDecoder().raw_decode(text[brace:])[1])
        end = len(text) if end < 0 else end
        found.append((name, text[start:end]))
        at = end
    return found
