"""Eight hours of a hive's events, replayed fast: what the core keeps for browsers stays what it is."""

import os
from pathlib import Path

import anyio
import pytest

from hyperhive.testing import FakeClock
from hyperhive.web.streaming import Connection, Hub
from hyperhive.web.streaming.hub import HEARTBEAT_SECONDS
from stream_world import Core, Page

HOURS, PER_SECOND = 8, 5
SPAN = 15  # seconds between two looks


def resident() -> float:
    """Megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Soak:
    """A day's browsers: one that reads on, one that reconnects, one that comes and goes for good, one that is stuck."""

    def __init__(self, events_a_look: int) -> None:
        self.core = Core("hive", "alice")
        self.clock = FakeClock()
        self.events_a_look = events_a_look
        self.count = 0

    async def run(self, looks: int) -> list[float]:
        """Memory after each eighth."""
        hub = await self.core.hub(self.clock).start()
        steady, nervous = Page(self.core, "hive", "alice"), Page(self.core, "hive", "alice")
        reading = await self.dial(hub, steady)
        again = await self.dial(hub, nervous)
        await self.dial(hub, Page(self.core, "hive", "alice"))  # reads no more from here on
        sizes = []
        for look in range(looks):
            self.publish()
            await steady.until_level(reading)
            await nervous.until_level(again)
            if look % 10 == 0:
                hub.left(again)
                self.publish()
                again = await self.dial(hub, nervous)
            if look % 40 == 0:
                hub.left(await self.dial(hub, Page(self.core, "hive")))
            for page in (steady, nervous):
                page.applied.clear()  # the test's own
            await self.clock.advance(HEARTBEAT_SECONDS)
            if look % (looks // 8) == looks // 8 - 1:
                sizes.append(resident())
        await steady.until_level(reading)
        assert (steady.gaps, nervous.gaps) == (0, 0)
        assert steady.state == nervous.state == self.core.state
        assert hub.statistics()["streams"] <= 8
        await hub.aclose()
        return sizes

    async def dial(self, hub: Hub, page: Page) -> Connection:
        connection = await hub.open("me", page.last_id, page.wanted)
        await page.read(connection, until_quiet=False)
        return connection

    def publish(self) -> None:
        for _ in range(self.events_a_look):
            self.count += 1
            self.core.publish(
                "alice" if self.count % 3 else "hive", self.count % 50, f"{self.count} " + "x" * 300
            )


async def test_an_hour_leaves_nothing_behind() -> None:
    with anyio.fail_after(50):
        await Soak(events_a_look=5).run(looks=240)


@pytest.mark.campaign
@pytest.mark.timeout(600)
async def test_eight_hours_leave_memory_flat() -> None:
    sizes = await Soak(PER_SECOND * SPAN).run(looks=HOURS * 3600 // SPAN)
    print(f"megabytes, hour by hour: {[round(size, 1) for size in sizes]}")
    assert sizes[-1] - sizes[0] <= 5
