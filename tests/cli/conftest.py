"""The console script, with a home of its own."""

from pathlib import Path

import pytest

from console import Console


@pytest.fixture
def console(tmp_path: Path) -> Console:
    """Runs `hyperhive` as a user of this test's own."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Console(home)
