"""A broker with an index beside it, with time under the test's control."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hyperhive.broker import Broker
from hyperhive.screens.indexer import Indexer
from hyperhive.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def broker(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Broker]:
    async with Broker.open(tmp_path / "hive.sqlite", clock=clock) as broker:
        yield broker


@pytest.fixture
async def indexer(broker: Broker, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Indexer]:
    """It takes nothing in by itself."""
    indexer = Indexer(database=broker, path=tmp_path / "search" / "words.sqlite", bus=broker.bus, clock=clock)
    await indexer.open()
    yield indexer
    await indexer.aclose()
