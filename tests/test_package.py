"""The package as others get it: what a wheel holds, what it weighs to import, what a type checker sees."""

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hyperhive
from parts import ROOT

USER_PROGRAM = """
from typing import assert_type

from hyperhive import Broker, Delivery, HiveError, Receipt

async def main() -> None:
    async with Broker.open("mail.sqlite") as broker:
        assert_type(broker, Broker)
        assert_type(await broker.send("alice", "bob", "hi"), Receipt)
        assert_type(await broker.recv("bob", max=1, wait_seconds=30.0), list[Delivery])
        assert_type(await broker.ack_turn("bob", ids=None), int)
        assert_type(await broker.pending("bob"), int)
    other = await Broker.open("mail.sqlite")
    assert_type(other, Broker)
    await other.aclose()
"""


def run(*argv: str | Path, cwd: Path = ROOT) -> str:
    """Run a program that must succeed; what it printed."""
    done = subprocess.run(
        argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.needs("git")
def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "src/hyperhive").splitlines()
    # The pages' sources stay outside; what is built of them is held: tests/web/test_frontend.py.
    files = {name.removeprefix("src/") for name in tracked if "/web/frontend/" not in name}
    assert files <= held
    assert "hyperhive/py.typed" in held
    assert any(name.endswith("licenses/LICENSE") for name in held)


def test_the_version_is_said_once() -> None:
    assert importlib.metadata.version("hyperhive") == hyperhive.__version__


@pytest.mark.timeout(120)
def test_a_users_program_is_typed(tmp_path: Path) -> None:
    """Also through the lazy names: nothing is `Any`, and awaiting and entering an `open` give the same type."""
    program = tmp_path / "program.py"
    program.write_text(USER_PROGRAM)
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = true\n")
    run(
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        settings,
        "--cache-dir",
        tmp_path / "cache",
        program,
        cwd=tmp_path,
    )
