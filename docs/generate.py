"""Writes docs/reference/ from the code: protocol, configuration, errors and command line; and the OpenAPI document.

`python docs/generate.py` writes, `--check` only says what is stale (exit code 1). tests/test_docs.py runs the same
check. Prose belongs into docstrings; nothing is edited in docs/reference/ by hand.
"""

import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from hyperhive.web.openapi import as_text

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the renderers lie beside this program; docs is not a package

OUT = HERE / "reference"
OPENAPI = HERE.parent / "src" / "hyperhive" / "web" / "frontend" / "openapi.json"
NOTE = "<!-- Written by docs/generate.py (`make docs`). Edit the code's docstrings instead. -->\n\n"
PAGES = {
    "protocol.md": "render_protocol",
    "errors.md": "render_errors",
    "config.md": "render_config",
    "cli.md": "render_cli",
}


def rendered() -> dict[Path, str]:
    """Every file as it should be."""
    pages: dict[Path, str] = {}
    for name, module in PAGES.items():
        render: Callable[[], str] = importlib.import_module(module).render
        pages[OUT / name] = NOTE + render().rstrip() + "\n"
    pages[OPENAPI] = as_text()
    return pages


def stale(pages: dict[Path, str]) -> list[Path]:
    """The files that differ from what is on disk, or that nobody renders any more."""
    differ = [path for path, text in pages.items() if not path.is_file() or path.read_text() != text]
    return differ + sorted(path for path in OUT.glob("*.md") if path not in pages)


def main(argv: Iterable[str]) -> int:
    """The program; returns its exit code."""
    check = "--check" in argv
    pages = rendered()
    old = stale(pages)
    if check:
        for path in old:
            print(f"{path.relative_to(HERE.parent)} is stale: run `make docs`", file=sys.stderr)
        return 1 if old else 0
    OUT.mkdir(exist_ok=True)
    for path in old:
        if path in pages:
            path.write_text(pages[path])
        else:
            path.unlink()
        print(path.relative_to(HERE.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
