"""A scripted agent CLI: speaks Claude Code's stream-json protocol, and has no model behind it.

`python -m hyperhive.testing.scripted_cli` takes the flags that the Claude driver gives to the real CLI and behaves like
it as far as the hive can see: `initialize`, `interrupt`, `mcp_status`, tools over `mcp_message`, `init`, `assistant`,
`user` and `result` frames with `user_message_uuids`, sessions with a transcript on disk. What it says and does comes
from `scripted_play`: a role play for the demo, and misbehaviour on demand for tests. Standard library only, because it
is started as often as a real CLI would be. It runs no tool of its own but `Write`; it is trusted, and no sandbox.
"""

import json
import os
import queue
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSION = "2.1.328"
MODEL = "scripted-1"
SERVER = "hyperhive"
VALUED_FLAGS = frozenset({
    "--session-id", "--resume", "--model", "--input-format", "--output-format", "--mcp-config", "--setting-sources",
    "--system-prompt-snapshot", "--permission-mode", "--permission-prompts", "--append-system-prompt",
    "--append-system-prompt-file", "--settings", "--tools", "--allowedTools", "--disallowedTools", "--add-dir",
})  # fmt: skip

Json = dict[str, Any]


class Interrupted(Exception):
    """The harness asked for the running turn to end."""


class InputClosed(Exception):
    """Standard input ended: finish and go."""


class ScriptedCli:
    """One process of the scripted CLI: frames out, input lines in, tools by request and answer."""

    def __init__(self, flags: dict[str, str], cwd: Path, config_dir: Path) -> None:
        self.model = flags.get("--model") or MODEL
        self.session_id = flags.get("--resume") or flags.get("--session-id") or str(uuid.uuid4())
        self.cwd = cwd
        self.system_prompt = ""
        self.deaf = False
        self.tools_status = "pending"
        self.tool_names: list[str] = []
        self.total_cost = 0.0
        self._input: queue.Queue[Json | None] = queue.Queue()
        self._waiting: list[Json] = []
        self._answers: dict[str, Json] = {}
        self._rpc_id = 0
        self._frames_lock = threading.Lock()
        slug = re.sub(r"[^A-Za-z0-9]", "-", str(cwd))
        self.transcript = config_dir / "projects" / slug / f"{self.session_id}.jsonl"
        self.memory: list[Json] = []

    # --- frames out ---------------------------------------------------------------------------------------------

    def raw(self, data: bytes) -> None:
        """Bytes to standard output as they are, for the misbehaving."""
        with self._frames_lock:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def emit(self, type_: str, **fields: object) -> None:
        frame = {"type": type_, **fields, "session_id": self.session_id, "uuid": str(uuid.uuid4())}
        self.raw(json.dumps(frame, separators=(",", ":")).encode() + b"\n")

    def say(self, text: str, **extra: object) -> None:
        self._assistant({"type": "text", "text": text}, **extra)

    def _assistant(self, block: Json, **extra: object) -> None:
        usage = {"input_tokens": 3, "cache_read_input_tokens": self.context_tokens(), "output_tokens": 1}
        message = {"id": f"msg_{uuid.uuid4().hex[:12]}", "type": "message", "role": "assistant", "model": self.model,
                   "content": [block], "stop_reason": None, "usage": usage}  # fmt: skip
        self.emit("assistant", message=message, parent_tool_use_id=None, **extra)

    def context_tokens(self) -> int:
        return 1000 + sum(len(str(entry.get("text", ""))) for entry in self.memory) // 4

    # --- input --------------------------------------------------------------------------------------------------

    def read_input(self) -> None:
        """Runs in a thread of its own, so that an interrupt is noticed whatever the turn is doing."""
        for line in sys.stdin.buffer:
            try:
                message = json.loads(line)
            except ValueError:
                sys.stderr.write("Error parsing streaming input line\n")
                os._exit(1)
            self._input.put(message)
        self._input.put(None)

    def pump(self, timeout: float | None) -> None:
        """Handle what has come in: wait for one thing at most `timeout` seconds.

        Raises:
            Interrupted: an interrupt was asked for.
            InputClosed: standard input ended.
        """
        try:
            message = self._input.get(timeout=timeout)
        except queue.Empty:
            return
        if self.deaf:
            return
        if message is None:
            self._input.put(None)
            raise InputClosed
        if message.get("type") == "user":
            self._waiting.append(message)
        elif message.get("type") == "control_response":
            response = message["response"]
            self._answers[response["request_id"]] = response
        elif message.get("type") == "control_request":
            self._control(message["request_id"], message["request"])

    def _control(self, request_id: str, request: Json) -> None:
        answer: Json = {}
        subtype = request.get("subtype")
        if subtype == "initialize":
            self.system_prompt = str(request.get("appendSystemPrompt") or "")
            self._connect_tools()
        elif subtype == "mcp_status":
            answer = {"mcpServers": [{"name": SERVER, "status": self.tools_status}]}
        elif subtype == "set_model":
            self.model = request.get("model") or MODEL
        elif subtype == "interrupt":
            answer = {"still_queued": [m.get("uuid") for m in self._waiting]}
        elif subtype != "cancel_async_message":
            self._respond(request_id, {"subtype": "error", "error": f"unsupported request {subtype}"})
            return
        self._respond(request_id, {"subtype": "success", "response": answer})
        if subtype == "interrupt":
            raise Interrupted

    def _respond(self, request_id: str, response: Json) -> None:
        line = {"type": "control_response", "response": {"request_id": request_id, **response}}
        self.raw(json.dumps(line).encode() + b"\n")

    def next_message(self) -> Json:
        """The next user message; waits for it. An interrupt between turns has nothing to end."""
        while not self._waiting:
            try:
                self.pump(None)
            except Interrupted:
                continue
        return self._waiting.pop(0)

    def taken_in(self) -> list[Json]:
        """Messages that came while the turn ran, for a tool boundary to hand over."""
        taken, self._waiting = self._waiting, []
        return taken

    def pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.pump(left)

    # --- tools --------------------------------------------------------------------------------------------------

    def rpc(self, method: str, params: Json | None = None) -> Json:
        """One JSON-RPC request to the hive's MCP server, over this process's own pipes."""
        self._rpc_id += 1
        message = {"jsonrpc": "2.0", "id": self._rpc_id, "method": method, "params": params or {}}
        response = self.answer_of(self._send_mcp(message))
        if response.get("subtype") != "success":
            return {"error": {"message": str(response.get("error"))}}
        reply: Json = response["response"]["mcp_response"]
        return reply

    def notify(self, method: str, params: Json | None = None) -> None:
        self._send_mcp({"jsonrpc": "2.0", "method": method, "params": params or {}})

    def _send_mcp(self, message: Json) -> str:
        return self.ask_host({"subtype": "mcp_message", "server_name": SERVER, "message": message})

    def ask_host(self, request: Json) -> str:
        """Send a control request; its id."""
        request_id = str(uuid.uuid4())
        line = {"type": "control_request", "request_id": request_id, "request": request}
        self.raw(json.dumps(line).encode() + b"\n")
        return request_id

    def answer_of(self, request_id: str) -> Json:
        """Wait for the host's answer to a control request."""
        while request_id not in self._answers:
            self.pump(None)
        return self._answers.pop(request_id)

    def _connect_tools(self) -> None:
        reply = self.rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                        "clientInfo": {"name": "scripted-cli", "version": VERSION}})  # fmt: skip
        if "error" in reply:
            self.tools_status = "failed"
            return
        self.notify("notifications/initialized")
        listed = self.rpc("tools/list")
        self.tool_names = [str(tool["name"]) for tool in listed.get("result", {}).get("tools", [])]
        self.tools_status = "connected"

    def call(self, name: str, arguments: Json) -> str:
        """Call one of the hive's tools, with the frames that the real CLI shows for it; the result's text."""
        return self._shown_call(f"mcp__{SERVER}__{name}", arguments, lambda: self._call_hive(name, arguments))

    def _call_hive(self, name: str, arguments: Json) -> tuple[str, bool]:
        try:
            reply = self.rpc("tools/call", {"name": name, "arguments": arguments})
        except Interrupted:
            self.notify("notifications/cancelled", {"requestId": self._rpc_id, "reason": "interrupted"})
            raise
        if "error" in reply:
            return str(reply["error"].get("message")), True
        result = reply["result"]
        text = "\n".join(str(block.get("text", "")) for block in result.get("content", []))
        return text, bool(result.get("isError"))

    def write_file(self, name: str, text: str) -> str:
        def write() -> tuple[str, bool]:
            (self.cwd / name).write_text(text)
            return f"wrote {name}", False

        return self._shown_call("Write", {"file_path": str(self.cwd / name), "content": text}, write)

    def _shown_call(self, tool: str, arguments: Json, run: Callable[[], tuple[str, bool]]) -> str:
        call_id = f"toolu_{uuid.uuid4().hex[:12]}"
        self.open_tool(tool, arguments, call_id)
        text, failed = run()
        self.close_tool(call_id, text, failed)
        return text

    def open_tool(self, tool: str, arguments: Json, call_id: str) -> None:
        self._assistant({"type": "tool_use", "id": call_id, "name": tool, "input": arguments})

    def close_tool(self, call_id: str, text: str, failed: bool) -> None:
        block = {"type": "tool_result", "tool_use_id": call_id, "content": text, "is_error": failed}
        self.emit("user", message={"role": "user", "content": [block]}, parent_tool_use_id=None)

    # --- the session --------------------------------------------------------------------------------------------

    def load(self, resume: bool) -> str | None:
        """Read the transcript; the complaint, worded as the real CLI words it, if the session is not as was said."""
        exists = self.transcript.exists()
        if resume and not exists:
            return f"No conversation found with session ID: {self.session_id}"
        if exists and not resume:
            return f"Error: Session ID {self.session_id} is already in use."
        if exists:
            lines = self.transcript.read_text().splitlines()
            self.memory = [json.loads(line) for line in lines if line.endswith("}")]
        return None

    def remember(self, **entry: object) -> None:
        """Keep something in the session: it is there after a restart of this program."""
        self.memory.append(entry)
        self.transcript.parent.mkdir(parents=True, exist_ok=True)
        with self.transcript.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def result(self, uuids: list[str], text: str, *, turns: int = 1, **fields: object) -> None:
        usage = {"input_tokens": 3 * turns, "cache_read_input_tokens": self.context_tokens() * turns,
                 "cache_creation_input_tokens": 0, "output_tokens": max(1, len(text) // 4)}  # fmt: skip
        cost = sum(usage.values()) * 1e-6
        self.total_cost += cost
        per_model = {"costUSD": cost, "contextWindow": 200000}
        base: Json = {
            "subtype": "success", "is_error": False, "terminal_reason": "completed", "num_turns": turns,
            "result": text, "usage": usage, "total_cost_usd": self.total_cost, "user_message_uuids": uuids,
            "modelUsage": {self.model: per_model}, "model_usage_since_last_result": {self.model: per_model},
            "permission_denials": [],
        }  # fmt: skip
        self.emit("result", **{**base, **fields})

    def init(self, uuids: list[str]) -> None:
        tools = ["Write", *(f"mcp__{SERVER}__{name}" for name in self.tool_names)]
        self.emit("system", subtype="init", cwd=str(self.cwd), tools=tools, model=self.model,
                  mcp_servers=[{"name": SERVER, "status": self.tools_status, "source": "sdk"}],
                  permissionMode="default", claude_code_version=VERSION, user_message_uuids=uuids)  # fmt: skip


def parse_flags(argv: list[str]) -> dict[str, str]:
    """The flags and their first values; what is not known is passed over, as a stand-in may."""
    flags: dict[str, str] = {}
    for at, word in enumerate(argv):
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            follows = argv[at + 1] if at + 1 < len(argv) else ""
            flags[name] = value if equals else follows if name in VALUED_FLAGS else ""
    return flags


def main(argv: list[str]) -> int:
    """Run the CLI with these arguments; its exit code."""
    flags = parse_flags(argv)
    if "--version" in flags or "-v" in flags:
        sys.stdout.write(f"{VERSION} (Claude Code)\n")
        return 0
    config_dir = Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path(os.environ.get("HOME", ".")) / ".claude")
    if argv[:1] == ["auth"]:
        from hyperhive.testing.scripted_auth import auth

        return auth(argv[1:], config_dir)
    cli = ScriptedCli(flags, Path.cwd(), config_dir)
    complaint = cli.load(resume="--resume" in flags)
    if complaint is not None:
        sys.stderr.write(complaint + "\n")
        return 1
    threading.Thread(target=cli.read_input, daemon=True).start()
    from hyperhive.testing.scripted_play import take_turns

    try:
        take_turns(cli)
    except InputClosed:
        return 0
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    # Its own module again, so that there is one set of classes and not a second one under the name __main__.
    from hyperhive.testing import scripted_cli  # noqa: PLW0406

    code = scripted_cli.main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the reading thread may sit in a read for ever
