"""The wire, held: every variant of every union as its exact bytes.

`golden/UNION.jsonl` has for each variant a line with its required fields alone and, where there are more, one with all
of them. A change of the wire shows as a change of these files, and nothing else may change them.
"""

import functools
import operator
from pathlib import Path

import msgspec
import pytest

from hyperhive.errors import BadRequest
from hyperhive.protocol import codec, events, harness_line, replies, requests
from hyperhive.protocol.answers import ANSWERS

GOLDEN = Path(__file__).parent / "golden"

UNIONS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "requests": requests.REQUESTS,
    "replies": replies.REPLIES,
    "harness_line": harness_line.AnyHarnessCommand.__args__,
    "helper_events": events.AnyHelperEvent.__args__,
    "live_events": events.TypedLiveEvent.__args__,
    "dashboard_events": events.AnyDashboardEvent.__args__,
    "stream_frames": events.StreamFrame.__args__,
}
CASES = [
    (union, kind, line)
    for union, kinds in UNIONS.items()
    for line in (GOLDEN / f"{union}.jsonl").read_bytes().splitlines()
    for kind in kinds
    if kind.__struct_config__.tag == msgspec.json.decode(line).get(kind.__struct_config__.tag_field)
]


def test_every_line_is_of_a_known_variant_and_every_variant_has_its_lines() -> None:
    for union, kinds in UNIONS.items():
        lines = (GOLDEN / f"{union}.jsonl").read_bytes().splitlines()
        assert len(lines) == len(set(lines)) == sum(case[0] == union for case in CASES)
        for kind in kinds:
            mine = [
                set(msgspec.json.decode(line)) for name, one, line in CASES if (name, one) == (union, kind)
            ]
            wire = {field.encode_name for field in msgspec.structs.fields(kind)}
            full = set().union(*mine) - {kind.__struct_config__.tag_field}
            assert full == wire, f"{union}: {kind.__name__} lacks {wire - full} in its golden lines"


@pytest.mark.parametrize(("union", "kind", "line"), CASES)
def test_a_variant_is_exactly_these_bytes(union: str, kind: type[msgspec.Struct], line: bytes) -> None:
    del kind
    whole: msgspec.json.Decoder[msgspec.Struct] = msgspec.json.Decoder(_union(UNIONS[union]))
    assert msgspec.json.encode(whole.decode(line)) == line


def _union(kinds: tuple[type[msgspec.Struct], ...]) -> type:
    whole: type = functools.reduce(operator.or_, kinds)
    return whole


@pytest.mark.parametrize("line", [line for union, _, line in CASES if union == "requests"])
def test_a_request_is_read_strictly(line: bytes) -> None:
    request = codec.decode_request(line)
    assert codec.encode(request) == line
    fields = msgspec.json.decode(line)
    with pytest.raises(BadRequest, match="colour"):
        codec.decode_request(msgspec.json.encode({**fields, "colour": "red"}))


@pytest.mark.parametrize("line", [line for union, _, line in CASES if union == "replies"])
def test_a_reply_is_read_leniently(line: bytes) -> None:
    fields = msgspec.json.decode(line)
    assert codec.decode_reply(msgspec.json.encode({**fields, "colour": "red"})) == codec.decode_reply(line)


@pytest.mark.parametrize("line", [line for union, _, line in CASES if union == "replies"])
def test_the_operators_dialect_has_the_same_fields_and_ok_in_place_of_the_kind(line: bytes) -> None:
    fields = msgspec.json.decode(line)
    host = msgspec.json.decode(codec.encode_host(codec.decode_reply(line)))
    if fields.pop("kind") == "err":
        fields["error"] = fields.pop("message")
        assert host == {"ok": False, **fields}
    else:
        assert host == {"ok": True, **fields}


def test_every_request_has_its_reply() -> None:
    assert set(ANSWERS) == set(requests.REQUESTS)
    assert set(ANSWERS.values()) <= set(replies.REPLIES)


@pytest.mark.parametrize("request_kind", requests.REQUESTS, ids=requests.tag_of)
def test_a_reply_in_the_operators_dialect_is_read_back_by_what_was_asked(
    request_kind: type[requests.Request],
) -> None:
    for _, kind, line in CASES:
        if kind is ANSWERS[request_kind]:
            reply = codec.decode_reply(line)
            assert codec.decode_host_reply(codec.encode_host(reply), request_kind) == reply


def test_more_than_a_cap_is_cut_to_it_and_less_than_nothing_is_refused() -> None:
    recv = codec.decode_request(b'{"cmd":"recv","wait_seconds":9999,"max":9999}')
    assert recv == requests.Recv(wait_seconds=180, max=32)
    assert codec.decode_request(b'{"cmd":"recent","limit":5000}') == requests.Recent(limit=100)
    for line in (
        b'{"cmd":"recv","max":0}',
        b'{"cmd":"recv","wait_seconds":-1}',
        b'{"cmd":"recent","limit":0}',
    ):
        with pytest.raises(BadRequest):
            codec.decode_request(line)
