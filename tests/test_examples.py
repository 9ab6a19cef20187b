"""The examples do what they say: run as a user runs them, the notebook in a real kernel."""

import subprocess
import sys
from pathlib import Path

import anyio
import nbformat
import pytest
from nbclient import NotebookClient

from parts import CLEAN_ENV, ROOT

EXAMPLES = ROOT / "examples"


def python(*argv: str, cwd: Path) -> str:
    """What a program of the examples printed."""
    done = subprocess.run(
        [sys.executable, *argv],
        env=CLEAN_ENV,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_script_plays_its_story_and_remembers_it(tmp_path: Path) -> None:
    script = str(EXAMPLES / "script.py")
    first = python(script, "mail.sqlite", cwd=tmp_path)
    assert "bob got 1 again: redelivered=True" in first
    assert "1 acknowledged, 0 pending" in first
    assert "alice's inbox: bob: there are 42" in first


async def test_the_notebook_runs_in_a_real_kernel_one_task_a_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened in one cell, used in the next, closed in a third, each in its own task."""
    for name, value in (CLEAN_ENV | {"HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path / "ipython")}).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.reads((EXAMPLES / "notebook.ipynb").read_text(), as_version=4)  # type: ignore[no-untyped-call]
    probe = "import asyncio; print(asyncio.current_task().get_name())"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.source += f"\n{probe}"
    client = NotebookClient(
        notebook, timeout=30, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    with anyio.fail_after(50):
        await client.async_execute()
    printed = [
        output["text"] for cell in code for output in cell.outputs if output["output_type"] == "stream"
    ]
    tasks = {line for text in printed for line in text.splitlines() if line.startswith("Task-")}
    assert len(tasks) > 1
    assert any("alice to bob: hi" in text for text in printed)
    assert any("redelivered: True" in text for text in printed)
