"""A gateway in front of the stand-in API: what its tests are told with."""

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway_world import World
from hyperhive.testing.fake_anthropic import FakeAnthropic


@pytest.fixture
def api() -> Iterator[FakeAnthropic]:
    """The stand-in of the Messages API."""
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture
async def world(api: FakeAnthropic) -> AsyncIterator[World]:
    """A gateway, agents alice and bob of one account, and clients at their sockets."""
    async with World.open(api) as made:
        yield made
