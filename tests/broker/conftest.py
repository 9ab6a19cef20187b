"""A broker on a file of its own, with time under the test's control."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hyperhive.broker import Broker
from hyperhive.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hive.sqlite"


@pytest.fixture
async def broker(path: Path, clock: FakeClock) -> AsyncIterator[Broker]:
    async with Broker.open(path, clock=clock) as broker:
        yield broker
