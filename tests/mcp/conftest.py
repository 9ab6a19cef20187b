"""Fixtures of the MCP tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory with a short path: socket paths end at 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="hh-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
