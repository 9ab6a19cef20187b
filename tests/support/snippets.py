"""Python in documentation, as programs: fenced blocks of Markdown pages and `>>>` examples of docstrings.

Both may use top-level await, as a notebook does. This file finds and runs them; tests/test_docs.py says which.
"""

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Snippet:
    """A piece of Python in a page: where it stands, its text, and whether it asks to be run."""

    where: str
    source: str

    @property
    def runs(self) -> bool:
        return self.source.startswith("# run:")


def snippets(page: Path, root: Path) -> Iterator[Snippet]:
    """The fenced Python of a page, in order."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        yield Snippet(f"{page.relative_to(root)}:{line}", match.group(1))


def check(source: str, where: str) -> None:
    """Raise SyntaxError where it is no Python."""
    compile(source, where, "exec", FLAGS)


def run(source: str, where: str, space: dict[str, object], loop: asyncio.Runner, mode: str = "exec") -> str:
    """Run a program that may await at its top level; what it printed. One that does not may start a loop itself."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        result = eval(compile(source, where, mode, FLAGS), space)
        if inspect.iscoroutine(result):
            loop.run(result)
    return out.getvalue()


def examples(module: ModuleType) -> list[doctest.DocTest]:
    """The docstrings of a module that have `>>>` examples."""
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


def run_examples(test: doctest.DocTest) -> None:
    """Run one docstring's examples in one namespace and compare what they print.

    Raises:
        AssertionError: an example printed something else.
    """
    space = dict(test.globs)
    checker = doctest.OutputChecker()
    with asyncio.Runner() as loop:
        for example in test.examples:
            # No path of the package: the example is a user's code, and may block its own loop.
            where = f"<{test.name}:{(test.lineno or 0) + example.lineno + 1}>"
            got = run(example.source, where, space, loop, "single")
            options = OPTIONS | sum(flag for flag, on in example.options.items() if on)
            if not checker.check_output(example.want, got, options):
                raise AssertionError(f"{where}\n{example.source}wanted:\n{example.want}got:\n{got}")
