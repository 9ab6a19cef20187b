"""The state diagram in docs/turn-loop.md, made from the turn machine's table of transitions.

`python docs/render_turns.py` writes it between its two marks; tests/harness/test_turn_docs.py says when it is stale.
"""

import sys
from pathlib import Path

from hyperhive.harness.table import ROWS, Row

PAGE = Path(__file__).resolve().parent / "turn-loop.md"
BEGIN = (
    "<!-- the diagram and the table are written by docs/render_turns.py from hyperhive.harness.table -->\n"
)
END = "<!-- end of what render_turns.py writes -->\n"


def render() -> str:
    """The diagram of the ways between states, and the table of all rows."""
    return f"{diagram()}\n{table()}"


def diagram() -> str:
    """Mermaid: one arrow for each pair of states, labelled with the events that lead there."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in ROWS:
        if row.to is not None and row.to is not row.state:
            labels = arrows.setdefault((row.state.value, row.to.value), [])
            label = _event(row)
            if label not in labels:
                labels.append(label)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> cold"]
    lines += [
        f"    {source} --> {target}: {', '.join(labels)}" for (source, target), labels in arrows.items()
    ]
    return "\n".join([*lines, "```", ""])


def table() -> str:
    """Every row, in the order in which rows are tried."""
    lines = ["| in | on | if | does | then |", "| --- | --- | --- | --- | --- |"]
    for row in ROWS:
        deeds = ", ".join(_words(name) for name in row.do) or "–"
        then = row.to.value if row.to is not None else ""
        lines.append(f"| {row.state.value} | {_event(row)} | {_words(row.when)} | {deeds} | {then} |")
    return "\n".join(lines) + "\n"


def _event(row: Row) -> str:
    name = row.on.__name__
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return spaced.removesuffix(" seen")


def _words(name: str) -> str:
    return name.replace("_", " ")


def page(text: str) -> str:
    """The page with what stands between the marks replaced by what should stand there."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


def main() -> int:
    """Bring the page up to date."""
    PAGE.write_text(page(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
