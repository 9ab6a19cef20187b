"""Reading what a CLI prints: leniently, and never with an exception."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.harness.outcome import Evidence, classify
from hyperhive.harness.stream_json import Frame, parse_frame

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
names = st.sampled_from([*Frame.__struct_fields__, "unknown"])


@given(st.dictionaries(names, json_values, max_size=12))
def test_any_object_is_a_frame_and_wrong_types_count_as_absent(fields: dict[str, object]) -> None:
    frame = parse_frame(json.dumps(fields).encode())
    assert frame is not None
    assert isinstance(frame.type, str)
    assert frame.is_error in {True, False, None}
    classify(frame, Evidence())


@given(st.binary(max_size=60))
def test_no_line_raises(line: bytes) -> None:
    frame = parse_frame(line)
    if frame is not None:
        assert line.strip().startswith(b"{")


@pytest.mark.parametrize(
    "line", [b"", b"words", b"[1]", b'"x"', b"1", b"null", b"{", b'{"a":1}}', b"[" * 9999]
)
def test_what_is_no_object_is_noise(line: bytes) -> None:
    assert parse_frame(line) is None


def test_one_wrong_field_costs_no_other() -> None:
    frame = parse_frame(
        b'{"type":"result","is_error":"no","user_message_uuids":["u1"],"usage":7,"num_turns":2}'
    )
    assert frame is not None
    assert (frame.type, frame.is_error, frame.user_message_uuids, frame.num_turns) == (
        "result",
        None,
        ["u1"],
        2,
    )


def test_unknown_fields_and_kinds_are_passed_over() -> None:
    frame = parse_frame(b'{"type":"from_the_future","payload":{"deep":[1,2,{"x":null}]},"subtype":"s"}')
    assert frame is not None
    assert (frame.type, frame.subtype) == ("from_the_future", "s")


def test_a_long_text_is_cut_for_notes() -> None:
    frame = parse_frame(json.dumps({"type": "result", "result": "x" * 10_000}).encode())
    assert frame is not None
    assert len(frame.text()) == 2001
