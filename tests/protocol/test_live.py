"""What the per-agent stream looks like as bytes, and that hostile lines cannot break it."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.errors import BadRequest
from hyperhive.protocol.events import (
    AnyLiveEvent,
    ModelChanged,
    Note,
    StatusChanged,
    Stream,
    TokenUsageChanged,
    TurnEnd,
    TurnStart,
    TurnStateChanged,
    UnknownEvent,
)
from hyperhive.protocol.live import clean_line, decode_live, encode_live, fit_live, kind_of, note_of
from hyperhive.protocol.types import TokenUsage

EVENTS: list[AnyLiveEvent] = [
    TurnStart(sender="operator", body="hi\n", unread=2, turn=7),
    Note(text="é"),
    TurnEnd(ok=False, note="limited"),
    StatusChanged(status="needs_login_idle"),
    ModelChanged(model="haiku"),
    TokenUsageChanged(ctx=TokenUsage(input_tokens=3), cost=TokenUsage()),
    TurnStateChanged(state="waiting", since_unix=5, reason="limited"),
    Stream(line=b'{"type":"assistant"}', turn=7),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["kind", "seq", "eid", "turn", "_line", "type"]) | st.text()
json_objects = st.dictionaries(keys, json_values, max_size=6)


@pytest.mark.parametrize("event", EVENTS, ids=kind_of)
def test_every_kind_comes_back_as_it_went(event: AnyLiveEvent) -> None:
    assert decode_live(encode_live(event, seq=3, eid=9)) == msgspec.structs.replace(event, seq=3, eid=9)
    assert decode_live(encode_live(event)) == event


def test_a_streams_fields_stand_beside_the_tag() -> None:
    wire = encode_live(Stream(line=b'{"type":"system","subtype":"init"}'), seq=1, eid=2, turn=3)
    assert wire == b'{"kind":"stream","seq":1,"eid":2,"turn":3,"type":"system","subtype":"init"}'


def test_clashing_keys_move_into_line_and_back() -> None:
    line = b'{"kind":"turn_end","seq":99,"type":"x","_line":1}'
    wire = json.loads(encode_live(Stream(line=line), seq=4))
    assert wire == {
        "kind": "stream",
        "seq": 4,
        "type": "x",
        "_line": {"kind": "turn_end", "seq": 99, "_line": 1},
    }
    back = decode_live(encode_live(Stream(line=line), seq=4))
    assert isinstance(back, Stream)
    assert json.loads(back.line) == json.loads(line)


def test_an_escaped_key_cannot_forge_a_kind() -> None:
    wire = encode_live(Stream(line=b'{"\\u006bind":"turn_end","ok":true}'), seq=4)
    assert json.loads(wire)["kind"] == "stream"


@given(json_objects, st.booleans())
def test_any_object_keeps_its_fields_and_never_ours(fields: dict[str, object], ascii_only: bool) -> None:
    event = Stream(line=clean_line(json.dumps(fields, ensure_ascii=ascii_only).encode(errors="replace")))
    wire = encode_live(event, seq=5, turn=6)
    shown = json.loads(wire)
    assert (shown["kind"], shown["seq"], shown["turn"]) == ("stream", 5, 6)
    assert b"\n" not in wire
    back = decode_live(wire)
    assert isinstance(back, Stream)
    assert json.loads(back.line) == json.loads(event.line)
    assert (back.seq, back.turn) == (5, 6)


@given(
    st.binary(max_size=200).filter(lambda line: b"\n" not in line)
    | json_objects.map(lambda o: json.dumps(o).encode()[:-1])
)
def test_whatever_a_box_prints_becomes_valid_json(line: bytes) -> None:
    wire = encode_live(note_of(clean_line(line)), seq=1)
    assert json.loads(wire)["kind"] == "note"


def test_a_note_of_a_line_is_cut_where_it_is_long() -> None:
    assert note_of(b"plain") == Note(text="plain", source="cli")
    assert note_of("ä".encode() * 9000) == Note(text="ä" * 4096 + "…", source="cli")


def test_an_event_that_is_too_long_becomes_a_note_with_its_numbers() -> None:
    long = encode_live(Stream(line=b'{"type":"user","x":"' + b"y" * 1000 + b'"}'), seq=4, eid=5, turn=6)
    assert fit_live(long, len(long)) == long
    note = Note(text=f"(an event of {len(long)} bytes)", seq=4, eid=5, turn=6)
    assert decode_live(fit_live(long, len(long) - 1)) == note
    assert decode_live(fit_live(b"x" * 100, 99)) == Note(text="(an event of 100 bytes)")


def test_an_unknown_kind_is_kept() -> None:
    assert decode_live(b'{"kind":"later","x":[1]}') == UnknownEvent(kind="later", fields={"x": [1]})


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"kind":7}', b'{"kind":"note"}', b'{"kind":"stream","seq":"x"}']
)
def test_what_is_no_live_event_gets_one_clear_error(data: bytes) -> None:
    with pytest.raises(BadRequest, match="no valid live event"):
        decode_live(data)
