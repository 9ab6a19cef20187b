"""A parser's complaint becomes a sentence about a field; one that is not known stays as it is."""

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from hyperhive.wording import in_words

Size = Annotated[str, Meta(pattern=r"^[1-9][0-9]*[KMGT]?\Z", examples=["16M", "4G"])]


class Row(msgspec.Struct, forbid_unknown_fields=True):
    ttl: Annotated[int, Meta(ge=1)] = 1
    share: Annotated[float, Meta(gt=0)] = 1.0
    name: Annotated[str, Meta(min_length=1)] = "x"
    words: Annotated[list[str], Meta(max_length=1)] = []
    size: Size | None = None
    kind: Literal["ntfy", "webhook"] = "ntfy"
    on: bool = True


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"ttl": 0}, "ttl: expected a whole number of at least 1"),
        ({"ttl": "1h"}, "ttl: expected a whole number, not text"),
        ({"share": -1.0}, "share: expected a number above 0.0"),
        ({"name": ""}, "name: expected text of at least 1 characters"),
        ({"words": ["a", "b"]}, "words: expected a list of at most 1 entries"),
        ({"words": "a"}, "words: expected a list, not text"),
        ({"words": [1]}, "words[0]: expected text, not a whole number"),
        ({"on": "yes"}, "on: expected true or false, not text"),
        ({"ttl": None}, "ttl: expected a whole number, not nothing"),
        ({"tll": 1}, "there is no field tll here"),
        ([], "expected a table of keys, not a list"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_with_its_field(value: object, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Row)
    assert in_words(str(caught.value)) == said


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ("4 GB", Size | None, "expected text such as 16M or 4G"),
        ("slack", Literal["ntfy", "webhook"], "'slack' is none of ntfy, webhook"),
        ("slack", tuple[Literal["a", "b"], ...] | None, "expected a list, not text"),
        ({"size": "4 GB"}, Row, "size: expected text such as 16M or 4G"),
        ("x", Annotated[str, Meta(pattern="^y")], "expected text of the form ^y"),
    ],
    ids=str,
)
def test_choices_and_examples_are_named_where_the_type_is_known(
    value: object, kind: object, said: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, kind)
    assert in_words(str(caught.value), kind) == said


@given(st.text())
def test_any_other_text_is_left_as_it_is(text: str) -> None:
    assert isinstance(in_words(text), str)
    assert in_words(f"JSON is malformed: {text}x") == f"JSON is malformed: {text}x"
