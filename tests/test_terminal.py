"""Text on its way to a terminal."""

import json
import unicodedata
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.terminal import cut, pad, visible, visible_json, visible_lines, width

EVERYTHING = st.text(st.characters(exclude_categories=()))
HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def harmful(text: str) -> list[str]:
    return [char for char in text if unicodedata.category(char) in HARMFUL]


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.campaign), 0x40])
def test_no_code_point_that_steers_a_terminal_is_left(step: int) -> None:
    """Whole where alphabets, controls and tags are; every so many of the ideographs and of what nobody assigned."""
    dense, sparse = (
        (range(0x20000), range(0xE0000, 0xE1000)),
        (range(0x20000, 0xE0000, step), range(0xE1000, 0x110000, step)),
    )
    every = "".join(map(chr, chain(*dense, *sparse)))
    assert not harmful(visible(every))
    assert not harmful("".join(visible_lines(every)))


@given(EVERYTHING)
def test_visible_text_is_one_line_without_harmful_characters(text: str) -> None:
    shown = visible(text)
    assert not harmful(shown)
    assert "\n" not in shown


@given(EVERYTHING)
def test_what_is_shown_can_be_told_apart(text: str) -> None:
    """Undoing the escapes gives the text back: nothing an agent writes looks like an escape that is none."""
    shown, parts = visible(text), []
    while (start := shown.find("\\u{")) >= 0:
        end = shown.index("}", start)
        parts += [shown[:start], chr(int(shown[start + 3 : end], 16))]
        shown = shown[end + 1 :]
    assert "".join([*parts, shown]) == text


def test_plain_text_comes_back_unchanged() -> None:
    for text in ("", "hello", "größer 日本 🐝", "C:\\users"):
        assert visible(text) is text or visible(text) == text


def test_known_tricks_are_shown() -> None:
    assert visible("\x1b]52;c;ZQ==\x07") == "\\u{1b}]52;c;ZQ==\\u{7}"
    assert visible("\x9b31m") == "\\u{9b}31m"
    assert visible("user\u202etxt.exe") == "user\\u{202e}txt.exe"
    assert visible_lines("a\r\nb\rc\td") == ["a", "b\\u{d}c    d"]


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_a_json_document_stays_the_same_document(value: object) -> None:
    document = json.dumps(value, ensure_ascii=False)
    shown = visible_json(document)
    assert not harmful(shown)
    assert json.loads(shown) == value


@given(EVERYTHING, st.integers(1, 40))
def test_cutting_keeps_to_the_columns(text: str, columns: int) -> None:
    shown = visible(text)
    assert width(cut(shown, columns)) <= columns
    assert cut(shown, 10_000_000) == shown
    assert width(pad(cut(shown, columns), columns)) == columns


def test_wide_and_combining_characters_count_as_a_terminal_shows_them() -> None:
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert cut("日本語", 4) == "日…"
    assert pad("ab", 4, right=True) == "  ab"
