"""Bytes to requests and replies to bytes, and lines out of chunks. No I/O, no policy.

Every parser's way of failing (also RecursionError and UnicodeError) becomes one `BadRequest` here, which says what was
wrong and where. Nothing else in HyperHive decodes untrusted JSON by itself.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from hyperhive.errors import BadRequest, Closed, Conflict, HiveError
from hyperhive.protocol.answers import ANSWERS
from hyperhive.protocol.replies import AnyReply, Err, Reply
from hyperhive.protocol.requests import BY_TAG, AnyRequest, Request, tag_of
from hyperhive.protocol.types import REQUEST_LINE_MAX_BYTES
from hyperhive.wording import in_words

T = TypeVar("T")
R = TypeVar("R", bound=Request)

REASON_MAX = 300
"""How much of a parser's complaint is passed on: it may quote the whole line."""

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


def _reason(error: Exception, kind: type[msgspec.Struct] | None = None) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    return (in_words(str(error), kind) or type(error).__name__)[:REASON_MAX]


def decode_request(line: bytes | memoryview) -> Request:
    """One request line, strictly.

    Raises:
        BadRequest: too long, not a JSON object, an unknown `cmd` or field, or a wrong type.
    """
    if len(line) > REQUEST_LINE_MAX_BYTES:
        raise BadRequest(f"the request line is longer than {REQUEST_LINE_MAX_BYTES} bytes")
    try:
        return _REQUEST.decode(line)
    except _PARSE_ERRORS as error:
        raise _what_is_wrong(line, error) from error


def _what_is_wrong(line: bytes | memoryview, error: Exception) -> BadRequest:
    """Look again, at the envelope alone, for a sentence that names the command."""
    try:
        cmd = _ENVELOPE.decode(line).cmd
    except _PARSE_ERRORS as worse:
        return BadRequest(f"no valid request: {_reason(worse)}")
    if cmd is None:
        return BadRequest("no valid request: the field `cmd` is missing")
    if cmd not in BY_TAG:
        return BadRequest(f"unknown cmd {cmd[:80]!r}")
    return BadRequest(f"no valid `{cmd}` request: {_reason(error, BY_TAG[cmd])}")


def convert_request(fields: Mapping[str, object], request: type[R]) -> R:
    """A request from decoded fields (a tool call's arguments), as strict about names as a request line.

    Numbers and booleans that arrive as strings are taken for what they say: models write them so.

    Raises:
        BadRequest: an unknown field or a wrong type.
    """
    try:
        return msgspec.convert(dict(fields), request, strict=False)
    except _PARSE_ERRORS as error:
        raise BadRequest(f"no valid `{tag_of(request)}` request: {_reason(error, request)}") from error


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


def decode_host_reply(line: bytes | memoryview, request: type[Request]) -> Reply:
    """The reply to such a request, from a line in the operator's dialect. Unknown fields are ignored.

    Raises:
        HiveError: what the hive answered, as the class of its code.
        BadRequest: the line is no reply.
    """
    head = decode(line, _HOST_HEAD, "reply")
    if not head.ok:
        raise error_from(head.code or "error", head.error or "the hive gave no reason", head.hint)
    fields = decode(line, _FIELDS, "reply")
    try:
        return msgspec.convert({**fields, "kind": ANSWERS[request].__struct_config__.tag}, ANSWERS[request])
    except _PARSE_ERRORS as error:
        raise BadRequest(f"no valid reply to `{tag_of(request)}`: {_reason(error)}") from error


class _HostHead(msgspec.Struct):
    ok: bool
    error: str | None = None
    code: str | None = None
    hint: str | None = None


_HOST_HEAD = msgspec.json.Decoder(_HostHead)
_FIELDS = msgspec.json.Decoder(dict[str, Any])


def _by_code(root: type[HiveError]) -> dict[str, type[HiveError]]:
    # A class without a code of its own (LineTooLong) is its parent on the wire; of two with one code the deeper wins.
    found = {root.code: root} if "code" in vars(root) else {}
    for child in root.__subclasses__():
        found |= _by_code(child)
    return found


_CODES: dict[str, type[HiveError]] = {
    **_by_code(HiveError),
    # codes that refine a class
    "moved": Conflict, "unseen": Conflict, "foreign": Conflict, "superseded": Closed,
}  # fmt: skip


def error_from(code: str, message: str, hint: str | None = None) -> HiveError:
    """The error that the other side raised, as the class of its code; an unknown code gives a `HiveError`."""
    kind = _CODES.get(code, HiveError)
    error = kind.__new__(kind)
    HiveError.__init__(error, message, hint=hint, code=code)
    return error


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
        end = chunk.find(b"\n")
        if end < 0:
            self._rest += chunk
            self._check(len(self._rest))
            return []
        if (
            end == len(chunk) - 1 and not self._rest
        ):  # one whole line: what a peer that waits for its answers sends
            self._check(end)
            return [chunk[:end]]
        head, *lines = chunk.split(b"\n")
        first = bytes(self._rest) + head if self._rest else head
        rest = lines.pop()
        self._rest = bytearray(rest)
        complete = [first, *lines]
        self._check(max(len(line) for line in complete))
        self._check(len(self._rest))
        return complete

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished line wait for their newline."""
        return len(self._rest)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise LineTooLong(f"a line is longer than {self._limit} bytes")
