"""Turns on the real CLI and on the scripted one, both against nothing but 127.0.0.1."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hyperhive.agent_cli import AgentCli
from hyperhive.testing.fake_anthropic import FakeAnthropic
from hyperhive.testing.turns import SCRIPTED_VERSION, install_scripted_cli
from parts import claude_path
from turn_tools import Benches

VERSIONS = [
    pytest.param("2.1.328", marks=pytest.mark.needs("claude")),
    pytest.param("2.1.200", marks=pytest.mark.needs("claude-2.1.200")),
]


@pytest.fixture
def api() -> Iterator[FakeAnthropic]:
    """The stand-in of the Messages API."""
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture(params=VERSIONS)
async def real(request: pytest.FixtureRequest, tmp_path: Path, api: FakeAnthropic) -> AsyncIterator[Benches]:
    """Benches on the real CLI, once for each version that is served."""
    benches = Benches(tmp_path, AgentCli(path=claude_path(request.param), version=request.param), api)
    yield benches
    await benches.aclose()


@pytest.fixture
async def newest(tmp_path: Path, api: FakeAnthropic) -> AsyncIterator[Benches]:
    """Benches on the newest real CLI, for what does not differ between versions; the test needs `claude`."""
    benches = Benches(tmp_path, AgentCli(path=claude_path("2.1.328"), version="2.1.328"), api)
    yield benches
    await benches.aclose()


@pytest.fixture
def scripted_cli(tmp_path: Path) -> AgentCli:
    """The scripted CLI as a program."""
    return AgentCli(path=install_scripted_cli(tmp_path / "claude"), version=SCRIPTED_VERSION)


@pytest.fixture
async def scripted(tmp_path: Path, scripted_cli: AgentCli) -> AsyncIterator[Benches]:
    """Benches on the scripted CLI."""
    benches = Benches(tmp_path, scripted_cli, None)
    yield benches
    await benches.aclose()
