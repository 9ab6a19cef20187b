"""A hive that serves its pages, for tests without a browser."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from web_client import Browser, Served, serving


@pytest.fixture
def home() -> Iterator[Path]:
    """A short directory: a socket's path has 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="hh-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
async def served(home: Path) -> AsyncIterator[Served]:
    """A hive with pages."""
    async with serving(home) as served:
        yield served


@pytest.fixture
async def browser(served: Served) -> Browser:
    """A browser that is logged in there."""
    return await served.browser()
