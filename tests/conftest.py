"""Fixtures every test may use, and the rules every test is held to.

Parts: a test that runs a real part (the agent CLI, bubblewrap, npm ...) says so with `@pytest.mark.needs("bwrap")`;
`parts.py` beside this file says how a part is found and where to get it.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that HyperHive is served on."""
    return "asyncio"


@pytest.fixture(scope="session")
def claude_cli() -> Path:
    """The agent CLI 2.1.328."""
    return Path(os.environ.get("HYPERHIVE_TEST_CLAUDE") or ROOT / ".parts/claude-2.1.328/claude")


@pytest.fixture(scope="session")
def claude_cli_200() -> Path:
    """The agent CLI 2.1.200."""
    return Path(os.environ.get("HYPERHIVE_TEST_CLAUDE_200") or ROOT / ".parts/claude-2.1.200/claude")
