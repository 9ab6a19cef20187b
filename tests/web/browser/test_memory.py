"""What a page keeps of a busy agent is bounded: elements, listeners and memory, however long it stands open.

The hive is in this process, so that its own display can tell of a day's events in a minute; they take the whole way:
the log, the bus, the one stream, the worker, the page. Figures are printed; bounds are asserted.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from playwright.async_api import Browser, CDPSession

from hyperhive.crew import Embedded
from hyperhive.harness.display import Display
from hyperhive.protocol.events import AnyLiveEvent, Note, Stream, TurnEnd, TurnStart
from web_client import Served, serving
from web_world import Watch, context_of

pytestmark = [pytest.mark.needs("chromium", "npm"), pytest.mark.timeout(300)]

ROWS_MAX = 2_000
NODES_A_ROW, LISTENERS_A_ROW = 20, 3
DAY_HOURS, PER_SECOND = 8, 5


@pytest.fixture
async def served(anyio_backend: str) -> AsyncIterator[Served]:
    """A hive of this process with its pages; its manager has no work of its own."""
    del anyio_backend
    home = Path(tempfile.mkdtemp(prefix="hh-", dir="/tmp"))
    try:
        async with serving(home) as served:
            yield served
    finally:
        shutil.rmtree(home)


@pytest.fixture
async def watch(browser: Browser, served: Served) -> AsyncIterator[Watch]:
    """The manager's page."""
    async with context_of(browser) as context:
        watch = Watch(await context.new_page(), f"http://localhost:{served.port}")
        await watch.page.goto(served.hive.access.link().url)
        await watch.page.wait_for_url(lambda url: "/login" not in url)
        await watch.open("/agents/manager")
        yield watch
        assert not watch.unexpected()


def turn(number: int, lines: int) -> list[AnyLiveEvent]:
    """What is seen of one turn."""
    said: list[AnyLiveEvent] = [TurnStart(sender="operator", body="go on", unread=0, turn=number)]
    for n in range(lines):
        text = f"turn {number} line {n}: **looked** at `file_{n}.py`, " + "and so on " * (n % 20)
        said.append(
            Stream(
                line=b'{"type":"assistant","parent_tool_use_id":null,"message":{"id":"m","role":"assistant",'
                b'"model":"m","content":[{"type":"text","text":"%s"}]}}' % text.encode(),
                turn=number,
            )
        )
    return [*said, TurnEnd(ok=True, turn=number)]


class Day:
    """Events, as fast as the page takes them."""

    def __init__(self, served: Served, watch: Watch) -> None:
        member = served.hive._crew.find("manager")
        assert isinstance(member, Embedded)
        self.display: Display = member._harness.display
        self.watch = watch
        self.turns = 0

    async def pass_by(self, events: int) -> None:
        """So many more events; returns when the page shows the last of them."""
        for _ in range(events // 50):
            self.turns += 1
            for event in turn(self.turns, 48):
                self.display.emit(event)
            if self.turns % 10 == 0:
                await self.shown(f"turn {self.turns} line 47")
        self.display.emit(Note(text=f"the end of {self.turns}"))
        await self.shown(f"the end of {self.turns}")

    async def shown(self, text: str) -> None:
        """Returns when the page shows this."""
        there = "text => (document.querySelector('.log-box')?.textContent ?? '').includes(text)"
        await self.watch.eventually(lambda: self.watch.page.evaluate(there, text), text, 90)


async def measured(line: CDPSession) -> dict[str, float]:
    """What the page holds once what it let go of is collected: all of that is, by the second or third go at rest."""
    looks = []
    for _ in range(4):
        idle = "new Promise(done => requestIdleCallback(done))"
        await line.send("Runtime.evaluate", {"expression": idle, "awaitPromise": True})
        await line.send("HeapProfiler.collectGarbage")
        found = await line.send("Performance.getMetrics")
        looks.append({one["name"]: float(one["value"]) for one in found["metrics"]})
    return {
        name: min(known[name] for known in looks) for name in ("Nodes", "JSEventListeners", "JSHeapUsedSize")
    }


async def test_thousands_of_events_leave_a_page_of_bounded_size(served: Served, watch: Watch) -> None:
    line = await watch.page.context.new_cdp_session(watch.page)
    await line.send("Performance.enable")
    day = Day(served, watch)
    await day.pass_by(7_000)
    after = await measured(line)
    print(f"after 7,000 events: {after}")
    assert await watch.page.locator(".lrow").count() <= ROWS_MAX
    # Two generations of rows at most: those that are shown, and those whose place they took. Seven thousand are more.
    assert after["Nodes"] <= 2 * ROWS_MAX * NODES_A_ROW
    assert after["JSEventListeners"] <= 2 * ROWS_MAX * LISTENERS_A_ROW
    assert after["JSHeapUsedSize"] <= 60e6


async def test_a_burst_leaves_the_page_usable_and_whole(served: Served, watch: Watch) -> None:
    """Ten thousand at once: what is not shown is said to be missing, and can be had."""
    day = Day(served, watch)
    await day.pass_by(200)
    for number in range(200):
        for event in turn(1000 + number, 48):
            day.display.emit(event)
        await anyio.lowlevel.checkpoint()
    day.display.emit(Note(text="the burst is over"))
    await day.shown("the burst is over")
    box = watch.page.locator(".composer textarea")
    with anyio.fail_after(60):
        await box.fill("still here")
    assert await box.input_value() == "still here"
    assert await watch.page.locator(".lrow").count() <= ROWS_MAX
    texts = await watch.page.locator(".lrow[data-kind=text] .markdown").all_inner_texts()
    named = [text.split(":")[0] for text in texts]
    assert len(named) == len(set(named)), "nothing twice"
    order = [(int(words[1]), int(words[3])) for words in map(str.split, named)]
    assert order == sorted(order)
    newest = [f"turn {number} line {n}" for number in range(1190, 1200) for n in range(48)]
    gaps = await watch.page.locator(".lrow.tone-gap").count()
    assert gaps or named[-len(newest) :] == newest, "whole, or it says where it is not"


@pytest.mark.campaign
@pytest.mark.timeout(3600)
async def test_eight_hours_leave_the_page_flat(served: Served, watch: Watch) -> None:
    line = await watch.page.context.new_cdp_session(watch.page)
    await line.send("Performance.enable")
    day = Day(served, watch)
    hours = []
    for hour in range(DAY_HOURS):
        await day.pass_by(PER_SECOND * 3600)
        hours.append(await measured(line))
        print(f"hour {hour + 1}: {hours[-1]}")
    # How much of the last rows is still held goes up and down; what is held at most does not grow.
    for name, most in (("Nodes", 1.05), ("JSEventListeners", 1.05), ("JSHeapUsedSize", 1.2)):
        assert max(each[name] for each in hours[4:]) <= max(each[name] for each in hours[:4]) * most
