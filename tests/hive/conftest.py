"""A real hive of scripted agents: runtime `process`, sockets in a short directory, the shipped scripted CLI."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hyperhive.client import RemoteHive, connect
from hyperhive.config import HiveConfig, load
from hyperhive.host import Hive
from hyperhive.testing.turns import install_scripted_cli

HIVE_TOML = """
idle_seconds = 60

[agents.alice]
model = "sonnet"
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A short directory: a socket's path has 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="hh-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    """The operator's environment of these tests."""
    cli = install_scripted_cli(home / "claude")
    (home / "hive.toml").write_text(HIVE_TOML)
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HYPERHIVE_CONFIG": str(home / "hive.toml"),
        "HYPERHIVE_CLAUDE": str(cli),
        "HYPERHIVE_RUNTIME": "process",
        "ANTHROPIC_API_KEY": "dummy",
    }


@pytest.fixture
def config(home: Path, environ: dict[str, str]) -> HiveConfig:
    """Where this test's hive lives."""
    return load(environ, state_dir=home / "state", run_dir=home / "run")


@pytest.fixture
async def hive(config: HiveConfig, environ: dict[str, str]) -> AsyncIterator[Hive]:
    """A hive with its manager."""
    async with Hive.open(config=config, environ=environ) as hive:
        yield hive


@pytest.fixture
async def operator(hive: Hive) -> AsyncIterator[RemoteHive]:
    """The operator, over the admin socket."""
    async with connect(run_dir=hive.paths.run_dir) as operator:
        yield operator
