r"""Text on its way to a terminal: the one place where control, format and direction characters lose their power.

Whatever an agent wrote may be printed after it went through here: no character is left that moves a cursor, writes a
clipboard, hides or reorders text. Escapes are written `\u{1b}`; a backslash that would look like one is itself
escaped, so that the shown form is never ambiguous. This file prints nothing and knows nothing of colours.
"""

import unicodedata
from typing import Final

_HARMFUL: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_TAB: Final = "    "


def visible(text: str) -> str:
    r"""`text` on one line, every control, format, surrogate, private and unassigned character as `\u{..}`.

    Newlines and tabs are escaped as well. What is plain already comes back unchanged.
    """
    if text.isprintable() and "\\u{" not in text:
        return text
    return "".join(map(_shown, text.replace("\\u{", "\\u{5c}u{")))


def visible_lines(text: str) -> list[str]:
    r"""`text` as its lines, each `visible`; a tab counts as four spaces, and `\r\n` as the end of a line."""
    return [visible(line.replace("\t", _TAB)) for line in text.replace("\r\n", "\n").split("\n")]


def visible_json(document: str) -> str:
    """A JSON document with the same characters written as JSON's own escapes: the same document to every reader.

    Such characters can only stand inside a document's strings; newlines between values stay.
    """
    if document.isascii() and document.isprintable():
        return document
    return "".join(
        char if char == "\n" or not _harmful(char) else "".join(f"\\u{unit:04x}" for unit in _utf16(char))
        for char in document
    )


def width(text: str) -> int:
    """How many columns `text` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def cut(text: str, columns: int) -> str:
    """`text` in at most `columns` columns, ending in `…` where something was left off."""
    if width(text) <= columns:
        return text
    kept, room = [], columns - 1
    for char in text:
        room -= _columns(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + "…" if columns > 0 else ""


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """`text` filled up with spaces to `columns` columns; `right` aligns it there."""
    space = " " * max(0, columns - width(text))
    return space + text if right else text + space


def _harmful(char: str) -> bool:
    return unicodedata.category(char) in _HARMFUL


def _shown(char: str) -> str:
    return f"\\u{{{ord(char):x}}}" if _harmful(char) else char


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _utf16(char: str) -> tuple[int, ...]:
    raw = char.encode("utf-16-be", "surrogatepass")
    return tuple(int.from_bytes(raw[index : index + 2], "big") for index in range(0, len(raw), 2))
