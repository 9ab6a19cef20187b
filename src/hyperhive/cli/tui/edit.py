"""One line of text that is being typed: the send box, a filter, a confirmation. Pure.

A newline in it (pasted, or by Alt-Enter) is shown as `⏎` and kept.
"""

from hyperhive.cli.tui.keys import Paste
from hyperhive.terminal import visible, width

_MAX = 200_000


class Edit:
    """The text and the place of the cursor in it."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self._at = len(text)

    def key(self, key: str) -> bool:
        """Does what this key does to a line that is typed; False where it does nothing to it."""
        if isinstance(key, Paste) or len(key) == 1:
            self._insert(key)
        elif key == "newline":
            self._insert("\n")
        elif key in {"left", "ctrl+b"}:
            self._at = max(0, self._at - 1)
        elif key in {"right", "ctrl+f"}:
            self._at = min(len(self.text), self._at + 1)
        elif key in {"home", "ctrl+a"}:
            self._at = 0
        elif key in {"end", "ctrl+e"}:
            self._at = len(self.text)
        else:
            return self._erase(key)
        return True

    def _erase(self, key: str) -> bool:
        start, end = self._at, self._at
        if key == "backspace":
            start = max(0, self._at - 1)
        elif key == "delete":
            end = min(len(self.text), self._at + 1)
        elif key == "ctrl+u":
            start = 0
        elif key == "ctrl+k":
            end = len(self.text)
        elif key == "ctrl+w":
            before = self.text[: self._at].rstrip()
            start = before.rfind(" ") + 1
        else:
            return False
        self.text, self._at = self.text[:start] + self.text[end:], start
        return True

    def _insert(self, text: str) -> None:
        room = max(0, _MAX - len(self.text))
        text = text[:room]
        self.text = self.text[: self._at] + text + self.text[self._at :]
        self._at += len(text)

    def clear(self) -> str:
        """What was typed; nothing is left."""
        text, self.text, self._at = self.text, "", 0
        return text

    def shown(self, columns: int) -> tuple[str, int]:
        """The part round the cursor that fits into `columns`, and the cursor's column in it."""
        before = visible(self.text[max(0, self._at - columns) : self._at].replace("\n", "⏎"))
        after = visible(self.text[self._at : self._at + columns].replace("\n", "⏎"))
        while before and width(before) > columns - 1:
            before = before[1:]
        room = columns - width(before)
        shown = ""
        for char in after:
            if width(shown + char) > room:
                break
            shown += char
        return before + shown, width(before)
