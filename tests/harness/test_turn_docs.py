"""docs/turn-loop.md shows the machine as it is."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def renderer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("render_turns")


def test_the_diagram_is_fresh(renderer: ModuleType) -> None:
    text = (DOCS / "turn-loop.md").read_text()
    assert renderer.page(text) == text, "run `python docs/render_turns.py`"


def test_every_state_is_in_the_diagram_and_every_named_file_exists() -> None:
    text = (DOCS / "turn-loop.md").read_text()
    for state in ("cold", "starting", "idle", "unasked", "running", "interrupting", "compacting", "ending"):
        assert f"{state} -->" in text
    harness = DOCS.parent / "src/hyperhive/harness"
    for name in (
        "runner",
        "machine",
        "table",
        "moves",
        "ledger",
        "outcome",
        "stream_json",
        "wake",
        "sessions",
    ):
        assert f"{name}.py" in text
        assert (harness / f"{name}.py").is_file()
