"""Documentation cannot rot: references are fresh, links lead somewhere, snippets and docstring examples run."""

import asyncio
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hyperhive
from parts import ROOT
from snippets import Snippet, check, examples, run, run_examples, snippets

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")
SNIPPETS = [snippet for page in PAGES for snippet in snippets(page, ROOT)]


def docstrings() -> list[doctest.DocTest]:
    """Every docstring of the package that has examples."""
    modules = [hyperhive] + [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(hyperhive.__path__, "hyperhive.")
        if not found.name.endswith("__main__")
    ]
    return [test for module in modules for test in examples(module)]


DOCSTRINGS = docstrings()


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_references_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.where)
def test_every_snippet_is_python_and_runs_where_it_says_so(
    snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(snippet.source, snippet.where)
    if snippet.runs:
        with asyncio.Runner() as loop:
            run(snippet.source, snippet.where, {"__name__": "__snippet__"}, loop)


def test_the_readme_has_a_snippet_that_runs() -> None:
    assert any(snippet.runs and snippet.where.startswith("README.md") for snippet in SNIPPETS)


@pytest.mark.parametrize("test", DOCSTRINGS, ids=lambda test: test.name)
def test_every_example_in_a_docstring_does_what_it_shows(
    test: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_examples(test)


@pytest.mark.parametrize("name", ["Broker", "Bus", "Hive", "Lifecycle", "TurnRunner", "connect"])
def test_each_part_of_the_library_shows_an_example(name: str) -> None:
    thing = getattr(hyperhive, name)
    home = f"{thing.__module__}.{thing.__qualname__}"
    assert any(test.name == home or test.name.startswith(f"{home}.") for test in DOCSTRINGS), home


def test_every_name_in_the_glossary_stands_once_and_in_order() -> None:
    words = re.findall(r"^\*\*([^*]+)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(words) > 40
    assert words == sorted(set(words), key=str.lower)


def test_a_wrong_example_is_noticed() -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", "wrong.py", 0)
    with pytest.raises(AssertionError, match="wanted"):
        run_examples(wrong)


def test_an_example_may_await_and_keeps_its_names() -> None:
    source = """
    >>> import anyio
    >>> await anyio.lowlevel.checkpoint()
    >>> number = 4
    >>> number + 1
    5
    """
    run_examples(doctest.DocTestParser().get_doctest(source, {}, "right", "right.py", 0))


SECURITY_IDS = (
    [f"G{n}" for n in range(1, 13)]
    + [f"W{n}" for n in range(1, 6)]
    + [f"S{n}" for n in range(1, 9)]
    + ["C1", "C2", "C3"]
)


def test_every_attack_is_listed_with_its_state_and_what_covers_it_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| ([A-Z]\d+) \| [^|]+ \| (\w+) \| ([^|]*)\|$", page, re.MULTILINE)
    assert [row[0] for row in rows] == SECURITY_IDS
    for row, state, by in rows:
        assert state in {"covered", "part", "open"}, row
        named = re.findall(r"tests/[\w/.-]*\w", by)
        assert named or state == "open", f"{row} names no test"
        assert all((ROOT / name.partition("::")[0]).exists() for name in named), row


def test_every_dependency_says_what_it_is_for() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    lines = [line for path in (ROOT / "requirements").glob("*.in") for line in path.read_text().splitlines()]
    names = {line for line in lines if line and not line.startswith(("#", "-"))}
    assert {
        name for name in names if not re.search(rf"^\|.*\b{re.escape(name)}\b.*\|", page, re.MULTILINE)
    } == set()
