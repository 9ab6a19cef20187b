"""Writes docs/reference/ from the code: protocol, configuration, errors and command line.

`python docs/generate.py` writes, `--check` only says what is stale (exit code 1). tests/test_docs.py runs the same
check. Prose belongs into docstrings; nothing is edited in docs/reference/ by hand.
"""

import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the renderers lie beside this program; docs is not a package

OUT = HERE / "reference"
NOTE = "<!-- Written by docs/generate.py (`make docs`). Edit the code's docstrings instead. -->\n\n"
PAGES = {
    "protocol.md": "render_protocol",
    "errors.md": "render_errors",
    "config.md": "render_config",
    "cli.md": "render_cli",
}


def rendered() -> dict[str, str]:
    """Every reference page as it should be, by file name."""
    pages: dict[str, str] = {}
    for name, module in PAGES.items():
        render: Callable[[], str] = importlib.import_module(module).render
        pages[name] = NOTE + render().rstrip() + "\n"
    return pages


def stale(pages: dict[str, str]) -> list[str]:
    """Names of the pages that differ from what is on disk, or that nobody renders any more."""
    differ = [
        name for name, text in pages.items() if not (OUT / name).is_file() or (OUT / name).read_text() != text
    ]
    return differ + sorted(path.name for path in OUT.glob("*.md") if path.name not in pages)


def main(argv: Iterable[str]) -> int:
    """The program; returns its exit code."""
    check = "--check" in argv
    pages = rendered()
    old = stale(pages)
    if check:
        for name in old:
            print(f"docs/reference/{name} is stale: run `make docs`", file=sys.stderr)
        return 1 if old else 0
    OUT.mkdir(exist_ok=True)
    for name in old:
        if name in pages:
            (OUT / name).write_text(pages[name])
        else:
            (OUT / name).unlink()
        print(f"docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
