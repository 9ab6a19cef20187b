"""The hive as a process, the real agent CLI, and a stand-in for the Messages API: what stories are told with."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import pytest

from hive_process import DEFAULT_TOML, HivePlace
from hyperhive.testing.fake_anthropic import FakeAnthropic
from parts import claude_path


@dataclass
class Places:
    """Makes places for hives; they are looked through and removed at the end of the test."""

    api: FakeAnthropic
    made: list[HivePlace] = field(default_factory=list)

    def __call__(self, version: str = "2.1.328", *, toml: str = "", **more: Any) -> HivePlace:
        """A place whose agents run the real CLI of this version against the stand-in."""
        place = HivePlace(claude_path(version), self.api.url, toml=DEFAULT_TOML + toml, **more)
        self.made.append(place)
        return place


@pytest.fixture
def api() -> Iterator[FakeAnthropic]:
    """The stand-in of the Messages API."""
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture
async def places(api: FakeAnthropic) -> AsyncIterator[Places]:
    """Places for hives. A process that is left over in one of them, or an error in its log, fails the test."""
    made = Places(api)
    yield made
    try:
        for place in made.made:
            await anyio.to_thread.run_sync(place.end_containers)
            await place.nothing_left()
            assert not place.logged_errors()
    finally:
        for place in made.made:
            await anyio.to_thread.run_sync(place.end_containers)
            place.remove()
