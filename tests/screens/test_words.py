"""What somebody types to find texts."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as some

from hyperhive.screens import index
from hyperhive.screens.index import MESSAGE, Doc
from hyperhive.screens.words import SNIPPET_CHARS, found_in, parse, snippet

TEXT = "The retry loop in client.py fails: time-out after 30 s, über alles. " * 3


@pytest.mark.parametrize(
    ("query", "there"),
    [
        ("retry", True),
        ("RETRY loop", True),
        ("loop retry", True),
        ('"retry loop"', True),
        ('"loop retry"', False),
        ("time-out", True),
        ("client.py", True),
        ("ret", True),  # the last word may be a beginning
        ("ret loop", False),
        ("etry", False),
        ("ÜBER", True),
        ("30", True),
        ("3", False),
        ("retry missing", False),
        ("!!!", False),
        ("", False),
        ('"', False),
        ("AND OR NOT NEAR(", False),
    ],
)
def test_words_and_phrases_are_found_as_the_index_finds_them(query: str, there: bool) -> None:
    parsed = parse(query)
    assert found_in(parsed, TEXT) is there
    conn = _index(TEXT)
    assert bool(parsed.phrases and index.find(conn, parsed, None, 10, [MESSAGE])) is there
    conn.close()


@given(some.text(max_size=60), some.text(max_size=200))
def test_no_query_is_an_error_and_a_snippet_is_a_piece_of_its_text(query: str, text: str) -> None:
    parsed = parse(query)
    conn = _index(text)
    if parsed.phrases:
        index.find(conn, parsed, None, 10, [MESSAGE])
    conn.close()
    pieces = [piece for piece in snippet(parsed, text) if piece.text != "…" or piece.hit]
    assert "".join(piece.text for piece in pieces).replace("…", "") in text.replace("…", "")


def test_a_snippet_is_short_and_marks_every_hit_in_it() -> None:
    pieces = snippet(
        parse('needle "two words"'), "x " * 500 + "a Needle and two  words, a needle" + " y" * 500
    )
    assert [piece.text for piece in pieces if piece.hit] == ["Needle", "two  words", "needle"]
    assert sum(len(piece.text) for piece in pieces) <= SNIPPET_CHARS + 2
    assert (pieces[0].text, pieces[-1].text) == ("…", "…")


def _index(text: str) -> sqlite3.Connection:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    index.make(conn)
    index.add(conn, [Doc(kind=MESSAGE, ref=1, at=1, sender="a", recipient="b", text=text)], {})
    return conn
