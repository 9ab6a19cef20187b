"""Text that was made visible, broken into lines of so many columns. Pure."""

from hyperhive.terminal import width


def wrapped(text: str, columns: int) -> list[str]:
    """The lines of `text`, broken at spaces where it can be; an empty text has one empty line."""
    columns = max(1, columns)
    lines: list[str] = []
    while (fits := _fits(text, columns)) < len(text):
        space = text.rfind(" ", 0, fits + 1)
        end = space if space > fits // 3 else fits
        lines.append(text[:end])
        text = text[end:].lstrip(" ") if end == space else text[end:]
    return [*lines, text] if text or not lines else lines


def _fits(text: str, columns: int) -> int:
    """How many characters fit; at least one."""
    if text[:columns].isascii():
        return columns
    room = columns
    for index, char in enumerate(text):
        room -= width(char)
        if room < 0:
            return max(1, index)
    return len(text)
