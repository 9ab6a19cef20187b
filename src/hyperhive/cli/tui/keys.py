"""Bytes of a keyboard as keys. Pure but for what it remembers of a sequence that has not come whole.

A key is the character itself, or a name of more than one letter: `enter`, `up`, `ctrl+d`. What was pasted comes as one
`Paste`, so that a pasted newline sends nothing.
"""

import codecs
from typing import Final

ESCAPE: Final = 0x1B
_PASTE_BEGINS: Final = b"\x1b[200~"
_PASTE_ENDS: Final = b"\x1b[201~"
_PASTE_MAX: Final = 256 * 1024
_SEQUENCE_MAX: Final = 32

_CONTROLS: Final = {"\r": "enter", "\n": "newline", "\t": "tab", "\x7f": "backspace", "\x08": "backspace"}
_FINAL_LETTERS: Final = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "H": "home",
    "F": "end",
    "Z": "backtab",
}
_TILDES: Final = {
    "1": "home", "7": "home", "4": "end", "8": "end", "5": "pageup", "6": "pagedown", "3": "delete",
}  # fmt: skip


class Paste(str):
    """Text that was pasted, its line ends as newlines."""

    __slots__ = ()


class Keys:
    """Takes what was read from the terminal, gives the keys."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._paste: bytearray | None = None
        self._text = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def waiting(self) -> bool:
        """Whether a sequence has begun that may still go on: `settle` ends it."""
        return bool(self._raw)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are whole by now."""
        self._raw += data
        found: list[str] = []
        while self._raw:
            took = self._one(found)
            if not took:
                break
            del self._raw[:took]
        return found

    def settle(self) -> list[str]:
        """Nothing followed: an escape that stands alone is the key of that name."""
        if self._paste is not None or not self._raw:
            return []
        rest, self._raw = bytes(self._raw), bytearray()
        return ["esc", *self.feed(rest[1:])] if rest[0] == ESCAPE else []

    def _one(self, found: list[str]) -> int:
        if self._paste is not None:
            return self._pasted(found)
        if self._raw[0] != ESCAPE:
            end = self._raw.find(ESCAPE)
            chunk = bytes(self._raw if end < 0 else self._raw[:end])
            found += [_named(char) for char in self._text.decode(chunk)]
            return len(chunk)
        if self._raw.startswith(_PASTE_BEGINS):
            self._paste = bytearray()
            return len(_PASTE_BEGINS)
        return self._sequence(found)

    def _pasted(self, found: list[str]) -> int:
        assert self._paste is not None  # noqa: S101 (the caller looked)
        end = self._raw.find(_PASTE_ENDS)
        took = len(self._raw) if end < 0 else end
        if end < 0:  # keep what may be the beginning of the end mark
            took = max(0, took - len(_PASTE_ENDS) + 1)
        self._paste += self._raw[: min(took, max(0, _PASTE_MAX - len(self._paste)))]
        if end < 0:
            return took
        text = self._paste.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
        found.append(Paste(text))
        self._paste = None
        return took + len(_PASTE_ENDS)

    def _sequence(self, found: list[str]) -> int:
        """An escape and what belongs to it; 0 where the rest has not come."""
        raw = self._raw
        if len(raw) < 2:
            return 0
        if raw[1] not in b"[O":
            if raw[1] in b"\r\n":
                found.append("newline")
                return 2
            found.append("esc")
            return 1
        for index in range(2, min(len(raw), _SEQUENCE_MAX)):
            if 0x40 <= raw[index] <= 0x7E:
                if name := _sequence_name(raw[2:index].decode("ascii", "replace"), chr(raw[index])):
                    found.append(name)
                return index + 1
        return len(raw) if len(raw) >= _SEQUENCE_MAX else 0


def _named(char: str) -> str:
    if char in _CONTROLS:
        return _CONTROLS[char]
    if char < " ":
        return f"ctrl+{chr(ord(char) + 96)}" if "\x01" <= char <= "\x1a" else "unknown"
    return char


def _sequence_name(parameters: str, final: str) -> str | None:
    if final == "~":
        return _TILDES.get(parameters.split(";", maxsplit=1)[0])
    return _FINAL_LETTERS.get(final)
