"""The seq contract: what is cut off, comes twice or late: a page ends up with what the hive has, and knows of gaps."""

import random

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.testing import FakeClock
from hyperhive.web.streaming import Connection, Hub
from hyperhive.web.streaming.hub import KEEP_SECONDS
from hyperhive.web.streaming.stream import RING_FRAMES
from stream_world import Core, Page, events_in

NAMES = ("hive", "alice", "bob")

publish = st.tuples(st.just("publish"), st.sampled_from(NAMES), st.integers(1, 5))
STEPS = st.lists(
    publish
    | st.sampled_from([("read",), ("cut",), ("twice",), ("lost",), ("restart",), ("stale",), ("away",)])
    | st.tuples(st.just("carry"), st.sampled_from(NAMES[1:])),
    max_size=30,
)


class Story:
    """A page and a hub that live through what hypothesis thinks of."""

    def __init__(self) -> None:
        self.core = Core(*NAMES)
        self.clock = FakeClock()
        self.page = Page(self.core, "hive")
        self.count = 0

    async def run(self, steps: list[tuple[object, ...]]) -> None:
        self.hub = await self.core.hub(self.clock).start()
        self.connection = await self.dial()
        for kind, *rest in steps:
            await getattr(self, f"do_{kind}")(*rest)
        await self.page.until_level(self.connection)
        for name in self.page.wanted:
            assert self.page.state.get(name, {}) == self.core.state[name]
            assert self.page.applied.get(name, []) == sorted(set(self.page.applied.get(name, [])))
        await self.hub.aclose()

    async def dial(self) -> Connection:
        connection = await self.hub.open("me", self.page.last_id, self.page.wanted)
        await self.page.read(connection, until_quiet=False)  # the first frame
        return connection

    async def do_publish(self, name: str, times: int) -> None:
        for _ in range(times):
            self.count += 1
            self.core.publish(name, self.count % 7, f"{name} {self.count}")

    async def chunk(self) -> bytes:
        await anyio.wait_all_tasks_blocked()
        return self.connection._take()

    async def do_read(self) -> None:
        for number, event in events_in(await self.chunk()):
            self.page.take(number, event)

    async def do_cut(self) -> None:
        """The connection dies in the middle of what was written."""
        data = await self.chunk()
        for number, event in events_in(data[: len(data) // 2]):
            self.page.take(number, event)
        self.hub.left(self.connection)
        self.connection = await self.dial()

    async def do_twice(self) -> None:
        events = list(events_in(await self.chunk()))
        for number, event in events + events[len(events) // 2 :]:
            self.page.take(number, event)

    async def do_lost(self) -> None:
        """Something between drops frames: the hole is seen at the next one."""
        events = list(events_in(await self.chunk()))
        carried = [event["stream"] for _, event in events[::2] if "stream" in event]
        for number, event in events[1::2]:
            self.page.take(number, event)
        for name in carried:  # and a next one always comes
            await self.do_publish(name, 1)

    async def do_restart(self) -> None:
        """The core ends and comes back; what it knew is there, its numbers begin anew."""
        await self.hub.aclose()
        gaps = self.page.gaps
        state = self.core.state
        self.core = self.page.core = Core(*NAMES)
        self.core.state = state
        self.hub = await self.core.hub(self.clock).start()
        self.connection = await self.dial()
        assert self.page.gaps == gaps + 1, "it must be told that there is a gap"
        self.page.applied.clear()  # the new core's numbers begin anew

    async def do_stale(self) -> None:
        """The page dials anew while the hub still holds its old connection for alive."""
        old = self.connection
        self.connection = await self.dial()
        assert old.ended

    async def do_away(self) -> None:
        """Away for longer than the stream is kept."""
        self.hub.left(self.connection)
        await self.clock.advance(KEEP_SECONDS + 15)
        assert self.hub.statistics() == {"streams": 0, "connected": 0, "feeds": 0}
        self.connection = await self.dial()

    async def do_carry(self, name: str) -> None:
        if name not in self.page.wanted:
            self.page.wanted.append(name)
            self.page.seqs.setdefault(name, 0)
            await self.hub.subscribe("me", self.page.stream_id, [name], [])
            self.page.refetch(name)


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_snapshot_and_frames_make_the_state(steps: list[tuple[object, ...]]) -> None:
    anyio.run(Story().run, steps)


async def forced_reconnects(hub: Hub, core: Core, times: int) -> Page:
    """A connection that dies again and again in the middle of what is written, at some byte."""
    dice = random.Random(7)
    page = Page(core, "hive")
    connection = await hub.open("me", None, page.wanted)
    await page.read(connection, until_quiet=False)
    for count in range(times):
        for number in range(3):
            core.publish("hive", number, f"{count}")
        await anyio.wait_all_tasks_blocked()
        data = b"".join([connection._take(), connection._take()])
        for last_id, event in events_in(data[: dice.randrange(len(data))]):
            page.take(last_id, event)
        hub.left(connection)
        connection = await hub.open("me", page.last_id, page.wanted)
    await page.until_level(connection)
    return page


async def test_a_thousand_forced_reconnects_lose_nothing_and_double_nothing() -> None:
    core = Core("hive")
    hub = await core.hub().start()
    page = await forced_reconnects(hub, core, 1000)
    await hub.aclose()
    assert page.gaps == 0
    assert page.applied["hive"] == list(range(1, 3001))
    assert page.state["hive"] == core.state["hive"]


async def test_who_was_away_for_more_than_is_kept_is_told_of_a_gap_and_keeps_its_subscriptions() -> None:
    core = Core("hive", "alice", keep=2 * RING_FRAMES + 10)
    hub = await core.hub().start()
    page = Page(core, "hive", "alice")
    connection = await hub.open("me", None, page.wanted)
    await page.read(connection, until_quiet=False)
    hub.left(connection)
    for number in range(RING_FRAMES + 1):
        core.publish("alice", number, "x")
    await anyio.wait_all_tasks_blocked()
    before = page.stream_id
    connection = await hub.open("me", page.last_id)
    await page.read(connection, until_quiet=False)
    assert (page.gaps, page.stream_id) == (1, before)
    core.publish("hive", 1, "more")
    await page.until_level(connection)
    assert page.state == core.state
    await hub.aclose()


@pytest.mark.parametrize("back", [0, 1, 5, RING_FRAMES])
async def test_who_comes_back_in_time_gets_exactly_what_it_missed(back: int) -> None:
    core = Core("hive", keep=2 * RING_FRAMES)
    hub = await core.hub().start()
    page = Page(core, "hive")
    connection = await hub.open("me", None, page.wanted)
    await page.read(connection, until_quiet=False)
    core.publish("hive", 0, "first")
    await page.until_level(connection)
    hub.left(connection)
    for number in range(back):
        core.publish("hive", number, "missed")
    connection = await hub.open("me", page.last_id)
    await page.until_level(connection)
    assert (page.gaps, page.applied["hive"]) == (0, list(range(1, back + 2)))
    await hub.aclose()
