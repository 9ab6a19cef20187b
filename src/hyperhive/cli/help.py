"""How one command's help looks: plain text in two aligned columns, wrapped to the terminal."""

import textwrap
from typing import TYPE_CHECKING

from cyclopts.help import PlainFormatter

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

_LABEL_COLUMNS = 24


class TwoColumns(PlainFormatter):
    """cyclopts' plain help, with the descriptions under each other."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        del options
        if not panel.entries:
            return
        lines = [f"{panel.title}:"] if panel.title else []
        for entry in panel.entries:
            lines += _entry(", ".join(entry.display_labels_with_metavar), _description(entry), console.width)
        console.print("\n".join(lines) + "\n", highlight=False, markup=False, soft_wrap=True)


def _description(entry: "HelpEntry") -> str:
    words = [" ".join(_plain(entry.description).split())]
    if entry.choices:
        words.append(f"[choices: {', '.join(entry.choices)}]")
    if entry.default is not None and entry.default != "False":
        words.append(f"[default: {entry.default}]")
    return " ".join(word for word in words if word)


def _plain(renderable: object) -> str:
    from rich.console import Console

    console = Console(width=10_000, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(renderable or "", highlight=False, markup=False)
    return captured.get()


def _entry(label: str, description: str, columns: int) -> list[str]:
    room = max(30, columns - _LABEL_COLUMNS - 4)
    wrapped = textwrap.wrap(description, room) or [""]
    indent = " " * (_LABEL_COLUMNS + 4)
    if len(label) > _LABEL_COLUMNS:
        return [f"  {label}", *(indent + line for line in wrapped)]
    first = f"  {label:<{_LABEL_COLUMNS}}  {wrapped[0]}".rstrip()
    return [first, *(indent + line for line in wrapped[1:])]
