"""The dashboard's rows, in Chromium: first paint, usable, a search on the screen, and the weight of what it loads.

One hive of 200 agents and 100,000 messages serves all rounds. Each load is a browser profile's first: nothing is cached
but the login. Usable is when the rows of all agents are drawn; weights are of the files as gzip packs them.
"""

import gzip
import json
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path

import anyio
from playwright.async_api import Browser, StorageState
from tests.bench.hive_rows import fixed
from tests.bench.table import Contender, Goal, Group, Sample

from parts import ROOT
from web_jobs import operator_at, signed_in
from web_seed import LARGE
from web_world import WebWorld, chromium, context_of, seeded_hive

STATIC = ROOT / "src/hyperhive/web/static"
LOADS, SEARCHES = 7, 40
WORDS = ("upload", "importer", "retry loop", "orders", "parser's", "sessions", "naming", "zanzibar-migration")

WATCH = """
new MutationObserver((_, self) => {
  if (window.usable !== undefined || document.querySelectorAll('.fleet-row').length < ROWS) return;
  self.disconnect();
  requestAnimationFrame(() => { window.usable = performance.now() });
}).observe(document, { subtree: true, childList: true });
let typed;
addEventListener('input', () => { typed = performance.now() }, true);
new MutationObserver(() => {
  const count = document.querySelector('.search-count');
  if (typed === undefined || !count || count === window.counted) return;
  window.counted = count;
  const began = typed;
  typed = undefined;
  requestAnimationFrame(() => { window.took = performance.now() - began });
}).observe(document, { subtree: true, childList: true });
""".replace("ROWS", str(LARGE.agents + 1))
LOADED = """async () => {
  while (window.usable === undefined) await new Promise(requestAnimationFrame);
  const [paint] = performance.getEntriesByName('first-contentful-paint');
  const files = performance.getEntriesByType('resource').map(one => new URL(one.name).pathname);
  return JSON.stringify([paint.startTime, window.usable, files.filter(one => one.startsWith('/assets/'))]);
}"""
SEARCHED = """async () => {
  while (window.took === undefined) await new Promise(requestAnimationFrame);
  const took = window.took;
  window.took = undefined;
  return took;
}"""


@cache
def measured() -> dict[str, Iterator[float]]:
    """Everything that is shown, in milliseconds and kilobytes; taken once, given one after the other."""
    taken: dict[str, list[float]] = {}

    async def measure(template: Path) -> None:
        async with seeded_hive(template, LARGE) as world, chromium() as browser:
            async with context_of(browser) as context:
                login = await signed_in(context, world)
            await _loads(browser, world, login, taken)
            await _searches(browser, world, login, taken)

    with tempfile.TemporaryDirectory(prefix="hyperhive-bench-") as template:
        anyio.run(measure, Path(template))
    return {name: cycle(values) for name, values in taken.items()}


async def _loads(
    browser: Browser, world: WebWorld, login: StorageState, taken: dict[str, list[float]]
) -> None:
    files: list[str] = []
    for _ in range(LOADS):
        context = await browser.new_context(storage_state=login, viewport={"width": 1280, "height": 900})
        await context.add_init_script(WATCH)
        page = await context.new_page()
        await page.goto(world.origin)
        paint, usable, files = json.loads(await page.evaluate(LOADED))
        taken.setdefault("first paint", []).append(paint)
        taken.setdefault("usable", []).append(usable)
        await context.close()
    for kind in ("js", "css"):
        packed = [len(gzip.compress((STATIC / one[1:]).read_bytes())) for one in files if one.endswith(kind)]
        taken[kind] = [sum(packed) / 1000]


async def _searches(
    browser: Browser, world: WebWorld, login: StorageState, taken: dict[str, list[float]]
) -> None:
    async with operator_at(browser, world, login, scripts=(WATCH,)) as one:
        await one.fresh("/search")
        times = []
        for number in range(SEARCHES):
            await one.page.get_by_label("Search for").fill(WORDS[number % len(WORDS)])
            times.append(float(await one.page.evaluate(SEARCHED)))
        taken["search"] = [sorted(times)[int(len(times) * 0.95)]]


def of(name: str) -> Contender:
    """The next value that was taken."""
    return lambda _: Sample(next(measured()[name]))


def groups() -> list[Group]:
    """The rows."""
    title = f"dashboard of {LARGE.agents} agents and {LARGE.messages // 1000} k messages in Chromium"
    return [
        Group(
            f"{title}: a first load",
            " ms",
            {
                "goal of paint": fixed(800),
                "first paint": of("first paint"),
                "goal of use": fixed(1500),
                "usable": of("usable"),
            },
            [
                Goal("first paint", "goal of paint", 1.0, at_most=True),
                Goal("usable", "goal of use", 1.0, at_most=True),
            ],
            count_flushes=False,
            rounds=LOADS,
        ),
        Group(
            f"{title}: a search, typed to drawn, p95 of {SEARCHES}",
            " ms",
            {"goal": fixed(300), "search": of("search")},
            [Goal("search", "goal", 1.0, at_most=True)],
            count_flushes=False,
            rounds=1,
        ),
        Group(
            f"{title}: what it loads, packed",
            " kB",
            {"goal of JS": fixed(60), "JS": of("js"), "goal of CSS": fixed(15), "CSS": of("css")},
            [Goal("JS", "goal of JS", 1.0, at_most=True), Goal("CSS", "goal of CSS", 1.0, at_most=True)],
            count_flushes=False,
            rounds=1,
        ),
    ]
