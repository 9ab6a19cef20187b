"""MCP over stdio for a client in an agent's box, carried to the tools socket.

Started as `python -IS bridge.py /run/hive/mcp.sock`, by any Python from 3.9 on. The standard library alone, and no file
but this one: a box holds no HyperHive. It outlives the core: when the socket is lost it dials again, says `initialize`
once more (and keeps the answer to itself), and asks again what was under way, each tool call under the id that it had,
so that nothing happens twice. It knows no tool.
"""

import errno
import json
import os
import select
import socket
import sys
import time

LINE_MAX = 1024 * 1024
CALL_META = "hyperhive/call"
DIAL_AGAIN_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
LOOK_AGAIN_SECONDS = 0.05
LAST_ANSWERS_SECONDS = 3.0
"""For a client that closed its end and still reads (`… | bridge.py … | …`)."""


class Relay:
    """What must be remembered of one MCP client to serve it across connections to the core. Pure.

    `calls` begins the ids of this client's calls; it must be unlike any other client's.
    """

    def __init__(self, calls: str) -> None:
        self._calls = calls
        self._count = 0
        self._initialize: dict[str, object] | None = None
        self._initialized: bytes | None = None
        self._introduced = False
        self._greeting: str | None = None
        self._under_way: dict[str, bytes] = {}
        self.connected = False

    @property
    def idle(self) -> bool:
        """Whether the client waits for nothing."""
        return not self._under_way

    def from_client(self, line: bytes) -> "tuple[list[bytes], list[bytes]]":
        """A line of the client: what to send to the core now, and what to answer the client at once."""
        message = _object(line)
        number, method = message.get("id"), message.get("method")
        if method is not None and number is not None:
            return self._request(line, message, number, method)
        if method == "notifications/initialized":
            self._initialized = line
        if method == "notifications/cancelled":
            params = message.get("params")
            if isinstance(params, dict):
                self._under_way.pop(_key(params.get("requestId")), None)
        return ([line] if self.connected and self._greeting is None else []), []

    def _request(
        self, line: bytes, message: "dict[str, object]", number: object, method: object
    ) -> "tuple[list[bytes], list[bytes]]":
        if method == "initialize":
            self._initialize = message
        if method == "tools/call":
            line = self._named(message) or line
        if len(line) > LINE_MAX:
            fault = {"code": -32600, "message": f"the request is longer than {LINE_MAX} bytes"}
            return [], [_line({"jsonrpc": "2.0", "id": number, "error": fault})]
        self._under_way[_key(number)] = line
        return ([line] if self.connected and self._greeting is None else []), []

    def _named(self, message: "dict[str, object]") -> "bytes | None":
        """The call with an id of its own, which it keeps however often it is sent."""
        params = message.get("params")
        if not isinstance(params, dict):
            return None
        meta = params.setdefault("_meta", {})
        if not isinstance(meta, dict):
            return None
        self._count += 1
        meta.setdefault(CALL_META, f"{self._calls}:{self._count}")
        return _line(message)

    def from_core(self, line: bytes) -> "tuple[list[bytes], list[bytes]]":
        """A line of the core: what to send to the core now, and what to hand to the client."""
        message = _object(line)
        if "method" in message or message.get("id") is None:
            return [], [line]
        if self._greeting is not None and message["id"] == self._greeting:
            self._greeting = None
            again = [] if self._initialized is None else [self._initialized]
            return again + list(self._under_way.values()), []
        if self._under_way.pop(_key(message["id"]), None) is None:
            return [], []  # cancelled, or answered before
        if self._initialize is not None and message["id"] == self._initialize["id"]:
            self._introduced = True
        return [], [line]

    def dialled(self) -> "list[bytes]":
        """There is a new connection to the core: what to send on it first."""
        self.connected = True
        if self._initialize is None or not self._introduced:
            return list(self._under_way.values())
        self._count += 1
        self._greeting = f"{self._calls}:again:{self._count}"
        return [_line(dict(self._initialize, id=self._greeting))]

    def lost(self) -> None:
        """The connection is gone."""
        self.connected = False
        self._greeting = None


def _object(line: bytes) -> "dict[str, object]":
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _line(message: "dict[str, object]") -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _key(number: object) -> str:
    return json.dumps(number)


class Bridge:
    """The loop between stdin, stdout and the socket."""

    def __init__(self, path: str, relay: Relay) -> None:
        self._path = path
        self._relay = relay
        self._socket: socket.socket | None = None
        self._to_core = bytearray()
        self._from_core = bytearray()
        self._from_client = bytearray()
        self._attempts = 0
        self._dial_at = 0.0
        self._ends_at: float | None = None

    def run(self) -> None:
        """Until the client closes stdin (or stdout), and what it still waits for is answered or takes too long."""
        while not (self._ends_at is not None and (self._relay.idle or time.monotonic() >= self._ends_at)):
            if self._ends_at is not None and _nobody_reads(1):
                return
            if self._socket is None and time.monotonic() >= self._dial_at:
                self._dial()
            self._wait()

    def _wait(self) -> None:
        readable: list[int | socket.socket] = [] if self._ends_at is not None else [0]
        writable: list[int | socket.socket] = []
        if self._socket is not None:
            readable.append(self._socket)
            if self._to_core:
                writable.append(self._socket)
        ready, room, _ = select.select(readable, writable, [], self._patience())
        if room:
            self._flush()
        if self._socket is not None and self._socket in ready:
            self._read_core()
        if 0 in ready:
            self._read_client()

    def _patience(self) -> "float | None":
        moments = [] if self._socket is not None else [self._dial_at]
        if self._ends_at is not None:
            moments.append(min(self._ends_at, time.monotonic() + LOOK_AGAIN_SECONDS))
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _dial(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            pause = DIAL_AGAIN_SECONDS[min(self._attempts, len(DIAL_AGAIN_SECONDS) - 1)]
            self._attempts += 1
            self._dial_at = time.monotonic() + pause
            return
        connection.settimeout(0)
        self._socket = connection
        self._to_core.clear()
        self._from_core.clear()
        self._send(self._relay.dialled())

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._relay.lost()
        self._dial_at = (
            time.monotonic() + DIAL_AGAIN_SECONDS[min(self._attempts, len(DIAL_AGAIN_SECONDS) - 1)]
        )
        self._attempts += 1

    def _read_client(self) -> None:
        chunk = os.read(0, 1 << 16)
        if not chunk:
            self._ends_at = time.monotonic() + LAST_ANSWERS_SECONDS
            return
        for line in _lines(self._from_client, chunk):
            to_core, to_client = self._relay.from_client(line)
            self._send(to_core)
            self._tell(to_client)

    def _read_core(self) -> None:
        chunk = b""
        try:
            chunk = self._socket.recv(1 << 18) if self._socket is not None else b""
        except BlockingIOError:
            return
        except OSError:
            pass
        if not chunk:
            self._hang_up()
            return
        for line in _lines(self._from_core, chunk):
            self._attempts = 0  # it speaks: dial again at once when it goes
            to_core, to_client = self._relay.from_core(line)
            self._send(to_core)
            self._tell(to_client)

    def _send(self, lines: "list[bytes]") -> None:
        for line in lines:
            self._to_core += line + b"\n"
        self._flush()

    def _flush(self) -> None:
        try:
            while self._socket is not None and self._to_core:
                del self._to_core[: self._socket.send(self._to_core)]
        except BlockingIOError:
            return
        except OSError:
            self._hang_up()

    def _tell(self, lines: "list[bytes]") -> None:
        data = b"".join(line + b"\n" for line in lines)
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            self._ends_at = 0.0


def _nobody_reads(number: int) -> bool:
    """Whether the other end of this pipe is closed: what it waited for must not be taken in its name."""
    poll = select.poll()
    poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _lines(rest: bytearray, chunk: bytes) -> "list[bytes]":
    """The lines that this chunk completes."""
    rest += chunk
    if b"\n" not in chunk:
        return []
    *lines, left = bytes(rest).split(b"\n")
    rest[:] = left
    return [line for line in lines if line.strip()]


def main(arguments: "list[str]") -> int:
    """`bridge.py SOCKET`."""
    if len(arguments) != 1:
        sys.stderr.write("usage: bridge.py SOCKET\n")
        return 2
    try:
        Bridge(arguments[0], Relay(os.urandom(12).hex())).run()
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
