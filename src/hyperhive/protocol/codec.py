"""Bytes to requests and replies to bytes, and lines out of chunks. No I/O, no policy.

Every parser's way of failing (also RecursionError and UnicodeError) becomes one `BadRequest` here, which says what was
wrong and where. Nothing else in HyperHive decodes untrusted JSON by itself.
"""

from typing import Any, TypeVar

import msgspec

from hyperhive.errors import BadRequest, HiveError
from hyperhive.protocol.replies import AnyReply, Err, Reply
from hyperhive.protocol.requests import BY_TAG, AnyRequest, Request
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES, REQUEST_LINE_MAX_BYTES

T = TypeVar("T")

_PARSE_ERRORS = (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError, OverflowError)
_REQUEST: msgspec.json.Decoder[Request] = msgspec.json.Decoder(AnyRequest)
_REPLY: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(AnyReply)
_ENCODE = msgspec.json.Encoder().encode


class _Envelope(msgspec.Struct):
    """Enough of a line to answer it properly when the rest is wrong."""

    cmd: str | None = None
    req: str | int | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def decode(line: bytes | memoryview, decoder: "msgspec.json.Decoder[T]", what: str) -> T:
    """`line` as the decoder's type.

    Raises:
        BadRequest: it is not; the message names `what` it should have been, the fault and its place.
    """
    try:
        return decoder.decode(line)
    except _PARSE_ERRORS as error:
        raise BadRequest(f"no valid {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    return str(error) or type(error).__name__


def decode_request(line: bytes | memoryview) -> Request:
    """One request line, strictly.

    Raises:
        BadRequest: too long, not a JSON object, an unknown `cmd` or field, or a wrong type.
    """
    if len(line) > REQUEST_LINE_MAX_BYTES:
        raise BadRequest(f"the request line is longer than {REQUEST_LINE_MAX_BYTES} bytes")
    envelope = decode(line, _ENVELOPE, "request")
    if envelope.cmd is None:
        raise BadRequest("no valid request: the field `cmd` is missing")
    if envelope.cmd not in BY_TAG:
        raise BadRequest(f"unknown cmd {envelope.cmd[:80]!r}")
    return decode(line, _REQUEST, f"`{envelope.cmd}` request")


def request_id(line: bytes | memoryview) -> str | int | None:
    """The `req` of a line that may otherwise be wrong; None where there is none to be had."""
    if len(line) > REQUEST_LINE_MAX_BYTES:
        return None
    try:
        return _ENVELOPE.decode(line).req
    except _PARSE_ERRORS:
        return None


def error_reply(error: HiveError, req: str | int | None = None) -> Err:
    """An error as it is answered."""
    return Err(message=error.message, code=error.wire_code, hint=error.hint, req=req)


def encode(value: Reply | Request | msgspec.Struct) -> bytes:
    """One line, without its newline, in the dialect of agents and harnesses."""
    return _ENCODE(value)


def encode_host(reply: Reply) -> bytes:
    """The same reply in the operator's dialect (HostResponse)."""
    fields: dict[str, Any] = msgspec.to_builtins(reply)
    fields.pop("kind")
    if isinstance(reply, Err):
        error = fields.pop("message")
        return _ENCODE({"ok": False, "error": error, **fields})
    return _ENCODE({"ok": True, **fields})


def decode_reply(line: bytes | memoryview) -> Reply:
    """One reply line in the dialect of agents, leniently (unknown fields are ignored).

    Raises:
        BadRequest: it is none.
    """
    return decode(line, _REPLY, "reply")


class LineTooLong(BadRequest):
    """The other side sent a line beyond the limit; the connection cannot be resynchronised."""


class LineSplitter:
    """Chunks in, lines out. Pure; keeps at most one unfinished line of at most `limit` bytes.

    Raises:
        LineTooLong: an unfinished or finished line is longer than `limit` bytes.
    """

    def __init__(self, limit: int = REQUEST_LINE_MAX_BYTES) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, without their newlines, in order."""
        if b"\n" not in chunk:
            self._rest += chunk
            self._check(len(self._rest))
            return []
        head, *lines = chunk.split(b"\n")
        first = bytes(self._rest) + head if self._rest else head
        rest = lines.pop()
        self._rest = bytearray(rest)
        complete = [first, *lines]
        self._check(max(len(line) for line in complete))
        self._check(len(self._rest))
        return complete

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise LineTooLong(f"a line is longer than {self._limit} bytes")


def fits_reply_line(encoded: bytes) -> bool:
    """Whether a reply keeps to the limit of a reply line."""
    return len(encoded) <= REPLY_LINE_MAX_BYTES
