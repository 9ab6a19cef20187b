"""What somebody types to find texts: plain words, and "phrases". Pure.

A query is never wrong: what has no letter or digit in it looks for nothing. All words must be there; the last one may
be the beginning of a word, as it is typed. How words are told apart is FTS5's `unicode61`, followed here for snippets.
"""

import re
from typing import Final

import msgspec

from hyperhive.protocol.screens import SnippetPiece

TERMS_MAX: Final = 32
PREFIX_MIN: Final = 3
"""A shorter beginning is taken for a word: it would be in nearly every text."""
BEFORE_CHARS: Final = 60
SNIPPET_CHARS: Final = 240
LOOKED_THROUGH_CHARS: Final = 256 * 1024

_CHUNKS: Final = re.compile(r'"([^"]*)"?|([^\s"]+)')
_WORD: Final = re.compile(r"[^\W_]+")


class Query(msgspec.Struct, frozen=True):
    """A query, taken apart: its phrases, each one or more words; `prefix`: the last one's last word may go on."""

    phrases: tuple[tuple[str, ...], ...]
    prefix: bool = False

    @property
    def match(self) -> str:
        """For FTS5's `MATCH`: every word in quotes, so that none of it is an operator."""
        quoted = [f'"{" ".join(phrase)}"' for phrase in self.phrases]
        return " ".join(quoted) + ("*" if self.prefix else "")

    @property
    def patterns(self) -> list[re.Pattern[str]]:
        """One for each phrase, for texts in lower case."""
        found = []
        for place, phrase in enumerate(self.phrases):
            end = "" if self.prefix and place == len(self.phrases) - 1 else r"(?![^\W_])"
            words = r"[\W_]+".join(re.escape(word) for word in phrase)
            found.append(re.compile(rf"(?<![^\W_]){words}{end}"))
        return found


def parse(text: str) -> Query:
    """A query as somebody typed it."""
    phrases = []
    plain = False
    for quoted, word in _CHUNKS.findall(text)[:TERMS_MAX]:
        words = tuple(_WORD.findall((quoted or word).lower()))
        if words:
            phrases.append(words)
            plain = bool(word)
    prefix = plain and not text[-1:].isspace() and len(phrases[-1][-1]) >= PREFIX_MIN
    return Query(tuple(phrases), prefix)


def found_in(query: Query, text: str) -> bool:
    """Whether a text has all of the query."""
    lowered = text.lower()
    return bool(query.phrases) and all(pattern.search(lowered) for pattern in query.patterns)


def snippet(query: Query, text: str) -> tuple[SnippetPiece, ...]:
    """A piece of the text around the first thing that was looked for; its beginning where that is not found."""
    text = text[:LOOKED_THROUGH_CHARS]
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters grow; their places would be wrong
        lowered = "".join(low if len(low := char.lower()) == 1 else char for char in text)
    patterns = query.patterns
    first = min((hit.start() for one in patterns if (hit := one.search(lowered)) is not None), default=0)
    start = max(0, first - BEFORE_CHARS)
    end = start + SNIPPET_CHARS
    spans = sorted(hit.span() for one in patterns for hit in one.finditer(lowered, start, end))
    pieces: list[SnippetPiece] = []
    at = start
    for here, there in spans:
        if here < at:
            continue
        _add(pieces, text[at:here], hit=False)
        _add(pieces, text[here:there], hit=True)
        at = there
    _add(pieces, text[at:end], hit=False)
    if start:
        pieces.insert(0, SnippetPiece(text="…"))
    if end < len(text):
        pieces.append(SnippetPiece(text="…"))
    return tuple(pieces)


def _add(pieces: list[SnippetPiece], text: str, *, hit: bool) -> None:
    if text:
        pieces.append(SnippetPiece(text=text, hit=hit))
