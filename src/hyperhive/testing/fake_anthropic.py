"""A scriptable stand-in for the Messages API on 127.0.0.1, for driving agent CLIs without a network or an account.

In a test: `with FakeAnthropic(scenario) as api:` and give the CLI `api.url` as ANTHROPIC_BASE_URL with any key;
`api.requests` lists what was asked, `api.scenario` may be set meanwhile. As a program:
`python -m hyperhive.testing.fake_anthropic --port 0 --scenario s.json --log requests.jsonl --port-file port.txt`;
there GET /__log and POST /__scenario do the same. Standard library only; it never sees a real key's worth.

A scenario is `{"rules": [RULE, ...], "default": STEP}`; the first rule that fits answers. A RULE may have `match`
(regex on the last user text, <system-reminder> blocks left out), `system` (on the system prompt), `model`, `path`,
`nth` (the n-th request for a message, from 1), `tools` (whether the request offers any) and `times` (how often it may
answer), and then one STEP's keys or `steps: [STEP, ...]`, indexed by how many tool results have come back since that
text (the last step repeats). A STEP is `blocks` (a list of "plain text", {"text": ..}, {"thinking": ..} or
{"tool": NAME, "input": {..}}), `usage` (over the computed figures), `delay` (seconds before the headers),
`chunk_delay` (between deltas), `stop_reason`, `headers`, `cut_after` (drop the connection after so many events),
`sse_error` (an error event inside the stream), or `error`: {"status": 529, "type": "overloaded_error", "message": ""}.
`{text}` and `{tool_result}` in a text are filled in from the request.
"""

import argparse
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from socket import socket
from typing import ClassVar, Self

from hyperhive.testing.fake_messages import Json, events_of, expand, flat, message_for, read_turn

DEFAULT_STEP: Json = {"blocks": ["ok: {text}"]}
SECRET_HEADERS = frozenset({"authorization", "x-api-key"})


def error(status: int, kind: str, message: str, **headers: str) -> Json:
    """A scenario in which every request is answered by this error."""
    return {"default": {"error": {"status": status, "type": kind, "message": message, "headers": headers}}}


def tool_turn(match: str, *calls: tuple[str, Json], end: str = "done: {tool_result}") -> Json:
    """A rule: on this text these tools are called one after the other, then `end` is said."""
    steps: list[Json] = [{"blocks": [{"tool": name, "input": arguments}]} for name, arguments in calls]
    return {"match": match, "steps": [*steps, {"blocks": [end]}]}


class FakeAnthropic:
    """The stand-in, serving in threads of this process between `start` and `stop` (or as a context manager)."""

    def __init__(self, scenario: Json | None = None, *, port: int = 0, log: Path | None = None) -> None:
        self._scenario = scenario or {}
        self._log_path = log
        self._lock = threading.Lock()
        self._used: dict[int, int] = {}
        self._messages_seen = 0
        self.ids = count(1)
        self.log: list[Json] = []
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What ANTHROPIC_BASE_URL should be."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Json]:
        """The requests for a message so far, each with its `body`, `text` and `headers`."""
        with self._lock:
            return [entry for entry in self.log if "nth" in entry]

    @property
    def scenario(self) -> Json:
        """What it answers by. Setting it starts all counts anew."""
        return self._scenario

    @scenario.setter
    def scenario(self, scenario: Json) -> None:
        with self._lock:
            self._scenario, self._used, self._messages_seen = scenario, {}, 0

    def start(self) -> Self:
        """Begin to serve."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving; connections under way are dropped."""
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def record(self, entry: Json) -> None:
        """Add to the log."""
        with self._lock:
            self.log.append(entry)
            if self._log_path is not None:
                with self._log_path.open("a") as file:
                    file.write(json.dumps(entry) + "\n")

    def choose(self, path: str, body: Json) -> tuple[Json, Json]:
        """The step that answers this request, and what the request was found to say."""
        text, rounds, tool_text = read_turn(body)
        facts: Json = {"text": text, "tool_result": tool_text, "round": rounds}
        with self._lock:
            self._messages_seen += 1
            facts["nth"] = self._messages_seen
            for at, rule in enumerate(self._scenario.get("rules", [])):
                if self._fits(at, rule, path, body, facts):
                    self._used[at] = self._used.get(at, 0) + 1
                    steps: list[Json] = rule.get("steps") or [rule]
                    return steps[min(rounds, len(steps) - 1)], facts
            default: Json = self._scenario.get("default", DEFAULT_STEP)
        return default, facts

    def _fits(self, at: int, rule: Json, path: str, body: Json, facts: Json) -> bool:
        texts = {
            "match": facts["text"],
            "system": flat(body.get("system")),
            "model": body.get("model", ""),
            "path": path,
        }
        return (
            all(key not in rule or re.search(rule[key], text, re.DOTALL) for key, text in texts.items())
            and rule.get("nth", facts["nth"]) == facts["nth"]
            and ("tools" not in rule or rule["tools"] == bool(body.get("tools")))
            and self._used.get(at, 0) < rule.get("times", sys.maxsize)
        )


# --- HTTP -------------------------------------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        """A client that was killed is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    api: ClassVar[FakeAnthropic]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each streamed answer waits 40 ms for a delayed acknowledgement

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        del format, args

    def do_HEAD(self) -> None:
        self.api.record({"at": time.time(), "method": "HEAD", "path": self.path})
        self._json(200, {})

    def do_GET(self) -> None:
        if self.path == "/__log":
            self._json(200, self.api.log)
            return
        self.api.record({"at": time.time(), "method": "GET", "path": self.path})
        if self.path.startswith("/v1/models"):
            self._json(200, {"data": [], "has_more": False, "first_id": None, "last_id": None})
        else:
            self._error({"status": 404, "type": "not_found_error", "message": f"not found: {self.path}"})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        path = self.path.split("?")[0]
        headers = {
            name.lower(): text for name, text in self.headers.items() if name.lower() not in SECRET_HEADERS
        }
        entry: Json = {
            "at": time.time(),
            "method": "POST",
            "path": self.path,
            "headers": headers,
            "body": body,
        }
        if path == "/__scenario":
            self.api.scenario = body
            self._json(200, {"ok": True})
        elif path == "/v1/messages":
            self._message(path, body, entry)
        elif path == "/v1/messages/count_tokens":
            self.api.record(entry)
            self._json(200, {"input_tokens": len(raw) // 4})
        else:
            self.api.record(entry)
            self._error({"status": 404, "type": "not_found_error", "message": f"not found: {path}"})

    def _message(self, path: str, body: Json, entry: Json) -> None:
        step, facts = self.api.choose(path, body)
        self.api.record({**entry, **facts})
        time.sleep(step.get("delay", 0))
        if "error" in step:
            self._error({"headers": step.get("headers"), **step["error"]})
            return
        message = message_for(body, step, expand(step, facts, self.api.ids), self.api.ids)
        if body.get("stream"):
            self._stream(step, message)
        else:
            self._json(200, message, step.get("headers"))

    def _json(self, status: int, value: object, headers: Json | None = None) -> None:
        data = json.dumps(value).encode()
        self._head(
            status, {"content-type": "application/json", **(headers or {}), "content-length": len(data)}
        )
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, error: Json) -> None:
        body = {"type": "error", "error": {"type": error["type"], "message": error["message"]}}
        self._json(error["status"], body, error.get("headers"))

    def _head(self, status: int, headers: Json) -> None:
        self.send_response(status)
        self.send_header("request-id", f"req_fake{next(self.api.ids):06d}")
        for name, text in headers.items():
            self.send_header(name, str(text))
        self.end_headers()

    def _stream(self, step: Json, message: Json) -> None:
        kind = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
        try:
            self._head(200, {**kind, "cache-control": "no-cache", **step.get("headers", {})})
            for at, sent in enumerate(events_of(message)):
                data: Json = sent
                if at == step.get("cut_after"):
                    self.close_connection = True
                    self.connection.close()
                    return
                if at and "sse_error" in step:
                    data = {"type": "error", "error": step["sse_error"]}
                piece = f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
                if data["type"] == "error":
                    break
                time.sleep(step.get("chunk_delay", 0))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.api.record({"at": time.time(), "event": "client went away", "message": message["id"]})
            self.close_connection = True


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--scenario", type=Path)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--port-file", type=Path)
    args = parser.parse_args()
    api = FakeAnthropic(
        json.loads(args.scenario.read_text()) if args.scenario else {}, port=args.port, log=args.log
    )
    if args.port_file:
        args.port_file.write_text(str(api.port))
    sys.stdout.write(f"listening on {api.url}\n")
    sys.stdout.flush()
    api.start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        api.stop()


if __name__ == "__main__":
    main()
