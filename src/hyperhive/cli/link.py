"""The command line's line to a running hive: one blocking unix socket, requests out, replies in.

Standard library and msgspec only, because every command pays for its imports. It finds the hive, frames lines and
turns error replies into errors; it decides nothing and prints nothing.
"""

import errno
import socket
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from hyperhive.errors import Closed, HiveError, HiveUnreachable, TimedOut
from hyperhive.protocol.requests import Request, Subscribe

T = TypeVar("T")

SOCKET_NAME = "host.sock"
SYSTEM_RUN_DIR = Path("/run/hyperhive")


class _Head(msgspec.Struct):
    """Enough of a HostResponse to know how it went."""

    ok: bool = False
    req: str | int | None = None
    error: str = "the hive answered without a reason"
    code: str = "error"
    hint: str | None = None


class Answer:
    """One reply of the hive that says ok, as it came."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def read(self, kind: type[T]) -> T:
        """The reply as a struct of `protocol.replies`; fields that this version does not know are ignored.

        Raises:
            HiveError: it is none.
        """
        tag = getattr(kind, "__struct_config__").tag  # noqa: B009 (not every T is known to be a struct)
        try:
            fields: dict[str, object] = msgspec.json.decode(self.raw)
            return msgspec.convert({**fields, "kind": tag}, kind)
        except msgspec.MsgspecError as error:
            raise HiveError(
                f"the hive's answer cannot be read: {error}",
                hint="is it of another version? --json shows it as it is",
            ) from error


def run_dirs(flag: Path | None, environ: Mapping[str, str], state_dir: Path | None) -> list[Path]:
    """Where a client looks for the hive's sockets.

    What was named (by flag, else by variable) is the only place: a command must not reach another hive than the one
    it was told. Without a name: the user's own, then the system's.
    """
    if flag is not None:
        return [flag]
    if named := environ.get("HYPERHIVE_RUN_DIR"):
        return [Path(named)]
    places = []
    if runtime_dir := environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(runtime_dir) / "hyperhive")
    if state_dir is not None:
        places.append(state_dir / "run")
    return [*places, SYSTEM_RUN_DIR]


class Link:
    """A connection to the hive's admin socket. A context manager; opening it raises `HiveUnreachable`."""

    def __init__(self, places: Sequence[Path], *, timeout: float | None = 30.0) -> None:
        self.timeout = timeout
        self._socket, self.run_dir = _connect(places)
        # A command ends with its process: whoever does not hang up has it done for them, without a warning.
        self._hang_up = weakref.finalize(self, self._socket.close)
        self._rest = bytearray()
        self._until: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up. Idempotent."""
        self._hang_up()

    def ask(self, request: Request, *, timeout: float | None = -1.0) -> Answer:
        """One request, its reply.

        Args:
            request: what to ask.
            timeout: seconds to wait for the reply; None waits for ever; by default the link's.

        Raises:
            HiveError: what the hive answered, with its code.
            TimedOut: no reply in time; what was asked may still happen.
            Closed: the hive went away.
        """
        self._deadline(self.timeout if timeout == -1.0 else timeout)
        self._send(request)
        return _checked(self._next_line())

    def ask_all(self, requests: Sequence[Request], *, timeout: float | None) -> list[Answer | HiveError]:
        """Many requests at once, their outcomes in the same order."""
        self._deadline(timeout)
        for number, request in enumerate(requests):
            self._send(msgspec.structs.replace(request, req=number))
        outcomes: dict[str | int | None, Answer | HiveError] = {}
        while len(outcomes) < len(requests):
            line = self._next_line()
            try:
                outcomes[msgspec.json.decode(line, type=_Head).req] = _checked(line)
            except HiveError as error:
                outcomes[msgspec.json.decode(line, type=_Head).req] = error
        return [outcomes[number] for number in range(len(requests))]

    def subscribe(self, stream: str, *, after: str | None = None) -> "Frames":
        """The frames of a stream. The link carries nothing else from then on.

        Raises:
            HiveError: the hive refused, or knows no such stream.
        """
        self._deadline(self.timeout)
        self._send(Subscribe(stream=stream, after=after))
        first = self._next_line()
        if b'"kind"' not in first or "kind" not in msgspec.json.decode(first, type=dict):
            _checked(first)
            first = b""
        return Frames(self, first)

    def fileno(self) -> int:
        """The socket's, for whoever waits for several things at once: `post` and `arrived` go with it."""
        return self._socket.fileno()

    def post(self, request: Request) -> None:
        """Sends a request whose reply will be among what has `arrived`.

        Raises:
            Closed: the hive went away.
        """
        self._socket.settimeout(self.timeout)
        self._send(request)

    def arrived(self) -> list[bytes]:
        """The lines that are there by now; waits for nothing.

        Raises:
            Closed: the hive went away, and every line of it was given out.
        """
        self._socket.settimeout(0)
        try:
            chunk = self._socket.recv(1 << 18)
        except BlockingIOError:
            pass
        except OSError as error:
            raise Closed("the hive closed the connection") from error
        else:
            if not chunk:
                raise Closed("the hive closed the connection", hint="it may have been stopped")
            self._rest += chunk
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return lines

    def next_line(self, timeout: float | None) -> bytes:
        """The next line of a stream; `TimedOut` after `timeout` seconds without one, `Closed` at its end."""
        self._deadline(timeout)
        return self._next_line()

    def _send(self, request: Request) -> None:
        try:
            self._socket.sendall(msgspec.json.encode(request) + b"\n")
        except OSError as error:
            raise Closed("the hive closed the connection") from error

    def _deadline(self, timeout: float | None) -> None:
        self._until = None if timeout is None else time.monotonic() + timeout

    def _next_line(self) -> bytes:
        while (end := self._rest.find(b"\n")) < 0:
            self._rest += self._receive()
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    def _receive(self) -> bytes:
        while True:
            left = None if self._until is None else self._until - time.monotonic()
            if left is not None and left <= 0:
                raise TimedOut("the hive did not answer in time")
            self._socket.settimeout(left)
            try:
                chunk = self._socket.recv(1 << 18)
            except TimeoutError:
                continue
            except OSError as error:
                raise Closed("the hive closed the connection") from error
            if not chunk:
                raise Closed("the hive closed the connection", hint="it may have been stopped")
            return chunk


class Frames:
    """An endless stream of frames, each as its line."""

    def __init__(self, link: Link, first: bytes) -> None:
        self.link = link
        self._first = first

    def arrived(self) -> list[bytes]:
        """The frames that are there by now; waits for nothing. Raises Closed as `Link.arrived`."""
        first, self._first = self._first, b""
        return [first, *self.link.arrived()] if first else self.link.arrived()

    def next(self, timeout: float | None = None) -> bytes:
        """The next frame.

        Raises:
            TimedOut: none came within `timeout` seconds; asking again goes on where this left off.
            Closed: the hive went away.
        """
        if self._first:
            first, self._first = self._first, b""
            return first
        return self.link.next_line(timeout)


def _connect(places: Sequence[Path]) -> tuple[socket.socket, Path]:
    tried = []
    for place in places:
        path = place / SOCKET_NAME
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            tried.append(f"{path} ({_why(error)})")
        else:
            return connection, place
    raise HiveUnreachable(
        f"no hive is running: tried {', '.join(tried) or 'no place'}", hint="start one with `hyperhive up`"
    )


def _why(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "not there"
    if error.errno == errno.ECONNREFUSED:
        return "nobody listens"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "not yours"
    return error.strerror or str(error)


def answer_of(line: bytes) -> tuple[str | int | None, Answer | HiveError]:
    """The number that a reply bears, and the reply, or the error that it is."""
    try:
        return msgspec.json.decode(line, type=_Head).req, _checked(line)
    except HiveError as error:
        return msgspec.json.decode(line, type=_Head).req, error
    except msgspec.MsgspecError as error:
        return None, HiveError(f"the hive answered with what is no reply: {error}")


def _checked(line: bytes) -> Answer:
    try:
        head = msgspec.json.decode(line, type=_Head)
    except msgspec.MsgspecError as error:
        raise HiveError(f"the hive answered with what is no reply: {error}") from error
    if not head.ok:
        raise HiveError(head.error, hint=head.hint, code=head.code)
    return Answer(line)
