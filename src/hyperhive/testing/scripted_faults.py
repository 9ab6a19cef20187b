"""How the scripted CLI misbehaves on demand: each fault is a directive of `scripted_play`, named in MISBEHAVIOURS.

They are the ways in which real CLIs have been seen to fail, so that a harness can be shown to survive each of them.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from hyperhive.testing.scripted_cli import ScriptedCli


class Refusal(Exception):
    """The turn ends with this result instead of a good one."""

    def __init__(self, text: str, **fields: object) -> None:
        super().__init__(text)
        self.fields = fields


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


def flood_system(cli: ScriptedCli, _argument: str) -> None:
    """Frames that are no rubbish and say nothing, for ever."""
    while True:
        cli.raw(b'{"type":"system"}\n' * 1000)


def flood_stderr(_cli: ScriptedCli, _argument: str) -> None:
    """Words on standard error for ever."""
    while True:
        sys.stderr.write("y\n" * 1000)


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
    "flood-system": flood_system,
    "flood-stderr": flood_stderr,
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
