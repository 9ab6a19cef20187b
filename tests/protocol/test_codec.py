"""Claims about decoding what comes from outside: one kind of error, bounded work, lines whole (security: S2)."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive import errors
from hyperhive.errors import BadRequest, HiveError
from hyperhive.protocol import codec
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import LineSplitter, LineTooLong
from hyperhive.protocol.types import REQUEST_LINE_MAX_BYTES

TAGS = st.sampled_from(sorted(r.BY_TAG))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4), max_leaves=8
)
FIELDS = sorted({name for kind in r.REQUESTS for name in kind.__struct_fields__})
REQUESTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), VALUES, max_size=6)


def decode_everything(data: bytes) -> None:
    """Every decoder that sees bytes of somebody else's."""
    for decode in (codec.decode_request, codec.decode_reply):
        with contextlib.suppress(BadRequest):
            decode(data)
    with contextlib.suppress(HiveError):
        codec.decode_host_reply(data, r.Inbox)
    codec.request_id(data)


@given(st.binary(max_size=300))
def test_only_bad_request_leaves_the_decoders_whatever_the_bytes(data: bytes) -> None:
    decode_everything(data)


@given(TAGS, REQUESTS)
def test_only_bad_request_leaves_the_decoders_whatever_the_fields(
    tag: str, fields: dict[str, object]
) -> None:
    decode_everything(json.dumps({**fields, "cmd": tag}).encode())
    decode_everything(json.dumps({**fields, "ok": True}).encode())


@given(st.text(st.characters(exclude_categories=()), max_size=50))
def test_what_is_decoded_can_be_encoded_again(body: str) -> None:
    line = json.dumps({"cmd": "send", "to": "bob", "body": body}).encode()
    try:
        request = codec.decode_request(line)
    except BadRequest:
        assert any("\ud800" <= character <= "\udfff" for character in body)
    else:
        assert codec.decode_request(codec.encode(request)) == request


BOMBS = {
    "a million brackets": b"[" * 1_000_000,
    "a million braces": b'{"a":' * 200_000,
    "deep inside a known field": b'{"cmd":"send","to":"bob","body":' + b"[" * 900_000,
    "deep inside an unknown field": b'{"cmd":"status","x":' + b"[" * 900_000,
    "deep inside req": b'{"cmd":"status","req":' + b"[" * 900_000,
    "a million digits": b'{"cmd":"requeue","id":' + b"9" * 1_000_000 + b"}",
    "a huge exponent": b'{"cmd":"recv","wait_seconds":1e999999}',
    "many unknown keys": b'{"cmd":"status",' + b",".join(b'"k%d":1' % n for n in range(80_000)) + b"}",
    "one huge key": b'{"cmd":"status","' + b"k" * 1_000_000 + b'":1}',
    "a huge cmd": b'{"cmd":"' + b"x" * 1_000_000 + b'"}',
    "half a surrogate": b'{"cmd":"send","to":"bob","body":"\\ud800"}',
    "no utf-8": b'{"cmd":"send","to":"bob","body":"\xff\xfe"}',
    "a null byte between": b'{"cmd":"status"}\x00',
    "the tag twice": b'{"cmd":"status","cmd":"send","to":"bob","body":"x"}',
    "an id beyond 64 bits": b'{"cmd":"requeue","id":9223372036854775808}',
    "longer than a line may be": b'{"cmd":"send","to":"bob","body":"' + b"x" * REQUEST_LINE_MAX_BYTES + b'"}',
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_a_bad_request_with_a_short_reason(bomb: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        codec.decode_request(bomb)
    assert len(str(caught.value)) < 1000
    decode_everything(bomb)


def test_arguments_of_a_tool_are_converted_as_strictly() -> None:
    assert codec.convert_request({"max": "3", "wait_seconds": "1.5"}, r.Recv) == r.Recv(
        max=3, wait_seconds=1.5
    )
    wrong: list[dict[str, object]] = [{"max": "three"}, {"max": 1, "colour": 1}, {"max": []}, {"max": None}]
    for fields in wrong:
        with pytest.raises(BadRequest):
            codec.convert_request(fields, r.Recv)


@given(TAGS, REQUESTS)
def test_only_bad_request_leaves_the_conversion_whatever_the_arguments(
    tag: str, fields: dict[str, object]
) -> None:
    with contextlib.suppress(BadRequest):
        codec.convert_request(fields, r.BY_TAG[tag])


# --- lines ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=10), st.data())
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter()
    seen: list[bytes] = []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        seen += splitter.feed(whole[:size])
        whole = whole[size:]
    assert seen == lines
    assert splitter.pending == 0


def test_an_unfinished_line_is_kept_and_counted() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"ab") == []
    assert splitter.pending == 2
    assert splitter.feed(b"c\nd") == [b"abc"]
    assert splitter.pending == 1


@pytest.mark.parametrize(
    "pieces", [[b"x" * 11], [b"x" * 6, b"x" * 5], [b"x" * 11 + b"\n"], [b"ok\n" + b"x" * 11]]
)
def test_a_line_beyond_the_limit_is_refused_as_soon_as_it_is(pieces: list[bytes]) -> None:
    splitter = LineSplitter(10)
    for piece in pieces[:-1]:
        splitter.feed(piece)
    with pytest.raises(LineTooLong):
        splitter.feed(pieces[-1])


def test_a_line_of_exactly_the_limit_passes() -> None:
    assert LineSplitter(10).feed(b"x" * 10 + b"\n") == [b"x" * 10]


# --- errors ---------------------------------------------------------------------------------------------------------


def every_error(root: type[HiveError] = HiveError) -> list[type[HiveError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in every_error(child))]


@pytest.mark.parametrize("kind", [kind for kind in every_error() if "code" in vars(kind)])
def test_an_error_comes_back_as_what_it_was(kind: type[HiveError]) -> None:
    error = codec.error_from(kind.code, "it failed", "mend it")
    assert (error.wire_code, error.message, error.hint) == (kind.code, "it failed", "mend it")
    assert isinstance(error, kind)
    assert codec.error_reply(error, 3) == a.Err(message="it failed", code=kind.code, hint="mend it", req=3)


def test_no_two_errors_share_a_code_but_a_branch_and_its_leaf() -> None:
    by_code: dict[str, list[type[HiveError]]] = {}
    for kind in every_error():
        if "code" in vars(kind):
            by_code.setdefault(kind.code, []).append(kind)
    shared = {code: kinds for code, kinds in by_code.items() if len(kinds) > 1}
    assert shared == {"bad_request": [errors.RequestError, errors.BadRequest]}


def test_a_code_that_nobody_knows_is_an_error_all_the_same() -> None:
    error = codec.error_from("quantum", "it decohered")
    assert (type(error), error.wire_code) == (HiveError, "quantum")
    assert isinstance(codec.error_from("moved", "it moved"), errors.Conflict)
