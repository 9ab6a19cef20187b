"""LiveEvents as bytes: one JSON object each, a `stream` event carrying its stream-json line's own fields.

A stream-json line is not decoded to be passed on: its bytes stand behind the tag as they came. Only where the line has
a field named like one of ours (`kind`, `seq`, `stream`, ..., `_line`) is it taken apart, and those move into `_line`.
Whether a line is a frame that means something is the harness's business, not this file's.
"""

from typing import Final

import msgspec

from hyperhive.errors import BadRequest
from hyperhive.protocol.events import AnyLiveEvent, LiveEvent, Note, Stream, TypedLiveEvent, UnknownEvent

NOTE_MAX: Final = 4096
"""Characters of one line that was no frame."""

_OURS: Final = ("kind", "seq", "eid", "turn", "stream")
_LINE: Final = "_line"
_SUSPECT: Final = (b'"kind"', b'"seq"', b'"eid"', b'"turn"', b'"stream"', b'"_line"', b"\\u00")
"""A line with none of these cannot have a clashing key: every one of our names is ASCII, and so are its escapes."""

_ENCODE = msgspec.json.Encoder().encode
_FIELDS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TYPED: msgspec.json.Decoder[TypedLiveEvent] = msgspec.json.Decoder(TypedLiveEvent)
_PARSE_ERRORS = (msgspec.MsgspecError, RecursionError, UnicodeError)


def clean_line(line: bytes) -> bytes:
    """The line as valid UTF-8, without white space round it. Bytes that are none become U+FFFD."""
    line = line.strip()
    if line.isascii():
        return line
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode(errors="replace").encode()
    return line


def note_of(line: bytes) -> Note:
    """A line of the CLI's that is no frame, as a note, cut where it is long."""
    text = line[: NOTE_MAX * 4].decode(errors="replace")
    return Note(text=text if len(text) <= NOTE_MAX else text[:NOTE_MAX] + "…", source="cli")


def encode_live(
    event: AnyLiveEvent, *, seq: int | None = None, eid: int | None = None, turn: int | None = None
) -> bytes:
    """The event as one JSON object without newline.

    Args:
        seq: its number on a live stream; default: the event's own.
        eid: its row in the event log; default: the event's own.
        turn: the turn that it belongs to; default: the event's own.
    """
    seq = event.seq if seq is None else seq
    eid = event.eid if eid is None else eid
    turn = event.turn if turn is None else turn
    if isinstance(event, Stream):
        return _encode_stream(event.line, seq, eid, turn)
    if (seq, eid, turn) != (event.seq, event.eid, event.turn):
        event = msgspec.structs.replace(event, seq=seq, eid=eid, turn=turn)
    return _ENCODE(event)


def fit_live(event: bytes, limit: int) -> bytes:
    """An encoded event as it is, or, where it is longer than `limit` bytes, a note in its place that says so."""
    if len(event) <= limit:
        return event
    try:
        ours = msgspec.json.decode(event, type=_Ours)
    except _PARSE_ERRORS:
        ours = _Ours()
    note = Note(text=f"(an event of {len(event)} bytes)", seq=ours.seq, eid=ours.eid, turn=ours.turn)
    return _ENCODE(note)


def _encode_stream(line: bytes, seq: int, eid: int | None, turn: int | None) -> bytes:
    head = b'{"kind":"stream"'
    if seq:
        head += b',"seq":%d' % seq
    if eid is not None:
        head += b',"eid":%d' % eid
    if turn is not None:
        head += b',"turn":%d' % turn
    for suspect in _SUSPECT:
        if suspect in line:
            line = _move_clashes(line)
            break
    rest = line[1:].lstrip()
    return head + (rest if rest == b"}" else b"," + rest)


def _move_clashes(line: bytes) -> bytes:
    fields = _FIELDS.decode(line)
    clashing = {name: fields.pop(name) for name in (*_OURS, _LINE) if name in fields}
    if not clashing:
        return line
    return _ENCODE({_LINE: clashing, **fields})


def decode_live(data: bytes | memoryview) -> AnyLiveEvent | UnknownEvent:
    """What `encode_live` made. A `Stream` comes back with the same fields in its line, our own taken out again.

    Raises:
        BadRequest: no JSON object with a `kind`, or a known kind with a field of the wrong type.
    """
    try:
        fields = _FIELDS.decode(data)
        kind = msgspec.json.decode(fields["kind"], type=str)
        if kind == "stream":
            return _decode_stream(fields)
        if kind not in _KNOWN:
            del fields["kind"]
            return UnknownEvent(
                kind=kind, fields={name: msgspec.json.decode(raw) for name, raw in fields.items()}
            )
        return _TYPED.decode(data)
    except KeyError:
        raise BadRequest("no valid live event: it has no field `kind`") from None
    except _PARSE_ERRORS as error:
        raise BadRequest(f"no valid live event: {str(error)[:300]}") from error


class _Ours(msgspec.Struct):
    seq: int = 0
    eid: int | None = None
    turn: int | None = None


def _decode_stream(fields: dict[str, msgspec.Raw]) -> Stream:
    del fields["kind"]
    ours = msgspec.json.decode(_ENCODE({n: fields.pop(n) for n in _OURS if n in fields}), type=_Ours)
    moved = fields.pop(_LINE, None)
    if moved is not None:
        fields = {**_FIELDS.decode(moved), **fields}
    return Stream(line=_ENCODE(fields), seq=ours.seq, eid=ours.eid, turn=ours.turn)


def kind_of(event: AnyLiveEvent) -> str:
    """The event's tag."""
    return "stream" if isinstance(event, Stream) else str(event.__struct_config__.tag)


_KNOWN: Final = frozenset(str(kind.__struct_config__.tag) for kind in LiveEvent.__subclasses__())
