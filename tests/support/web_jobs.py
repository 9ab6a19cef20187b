"""What the operator's jobs are told with: a counter of real taps, the keyboard, figures for the report, and news.

A tap is a trusted `pointerdown` in the page: what a script clicks is none. Times are figures: a busy machine decides
them, so that they are reported beside their bars and no test fails by them. Decides nothing of what a page should show.
"""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
from playwright.async_api import Browser, BrowserContext, Locator, StorageState

from config_stage import git
from hive_process import Json
from hyperhive.client import connect
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import SearchHits
from parts import ROOT
from web_world import PHONE, WIDE, Watch, WebWorld

REPORT = ROOT / "build" / "dashboard-jobs.json"

COUNT_TAPS = """
addEventListener('pointerdown', event => {
  if (event.isTrusted) sessionStorage.setItem('test.taps', 1 + Number(sessionStorage.getItem('test.taps') ?? 0));
}, true);
"""
NO_SINGLE_KEYS = "localStorage.setItem('hive.setting.single-keys', 'false')"

TAB_LIMIT = 120


# --- figures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One measured value. `bar`: what is asked for; taps are asserted where they are measured, times are not."""

    job: str
    what: str
    value: float
    unit: str
    bar: float

    def __str__(self) -> str:
        sign = "ok" if self.value <= self.bar else "over"
        return f"{self.job:<4} {self.what:<58} {self.value:>8.4g} {self.unit:<7} (bar {self.bar:g}) {sign}"


@dataclass
class Figures:
    """What the jobs measured, for the report."""

    found: list[Figure] = field(default_factory=list)

    def note(self, job: str, what: str, value: float, unit: str, bar: float) -> None:
        """Remember it."""
        self.found.append(Figure(job, what, value, unit, bar))

    @contextmanager
    def timed(self, job: str, what: str, bar: float) -> Iterator[None]:
        """Seconds from here to the end of the block."""
        begun = time.perf_counter()
        yield
        self.note(job, what, time.perf_counter() - begun, "s", bar)

    def write(self) -> None:
        """Adds them to the report of this checkout, over what the same jobs said before."""
        REPORT.parent.mkdir(exist_ok=True)
        known = json.loads(REPORT.read_text()) if REPORT.exists() else {}
        known.update({f"{one.job} {one.what}": str(one) for one in self.found})
        REPORT.write_text(json.dumps(known, indent=1) + "\n")


# --- the operator -----------------------------------------------------------------------------------------------------


class Operator:
    """One who is signed in, at a page; counts what they touch."""

    def __init__(self, watch: Watch, world: WebWorld) -> None:
        self.watch = watch
        self.world = world
        self.page = watch.page

    async def taps(self) -> int:
        """How often they touched or clicked since the last `fresh`."""
        return int(await self.page.evaluate("() => Number(sessionStorage.getItem('test.taps') ?? 0)"))

    async def fresh(self, path: str = "/") -> None:
        """At this page, with nothing touched yet."""
        await self.watch.open(path)
        await self.page.evaluate("() => sessionStorage.removeItem('test.taps')")

    async def says(self, words: str, selector: str = "main") -> None:
        """Returns when the screen says so."""
        await self.page.locator(selector).filter(has_text=words).first.wait_for()

    async def title(self, is_: str) -> None:
        """Returns when the tab has this title."""

        async def so() -> bool:
            return await self.page.title() == is_

        await self.watch.eventually(so, f"the title {is_}")

    async def tab_to(self, target: Locator, *, back: bool = False) -> None:
        """By Tab alone; fails where the focus does not come there."""
        for _ in range(TAB_LIMIT):
            await self.page.keyboard.press("Shift+Tab" if back else "Tab")
            if await target.evaluate(
                "e => e === document.activeElement || e.contains(document.activeElement)"
            ):
                return
        raise AssertionError(f"{TAB_LIMIT} times Tab did not lead to {target}")

    async def focused(self) -> str:
        """What has the focus, by its accessible words."""
        return str(
            await self.page.evaluate(
                "() => { const e = document.activeElement;"
                " return e.getAttribute('aria-label') || e.title || e.textContent || e.tagName }"
            )
        )


@asynccontextmanager
async def operator_at(
    browser: Browser,
    world: WebWorld,
    login: StorageState,
    *,
    phone: bool = False,
    scripts: tuple[str, ...] = (),
) -> AsyncIterator[Operator]:
    """An operator who signed in before, at the fleet; fails where the page logged an error or asked a stranger."""
    context = await browser.new_context(
        viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]
        has_touch=phone, is_mobile=phone, storage_state=login, locale="en-GB", timezone_id="UTC",
    )  # fmt: skip
    try:
        for script in (COUNT_TAPS, *scripts):
            await context.add_init_script(script)
        watch = Watch(await context.new_page(), world.origin)
        operator = Operator(watch, world)
        await operator.fresh()
        yield operator
        assert watch.unexpected() == []
    finally:
        await context.close()


async def signed_in(context: BrowserContext, world: WebWorld) -> StorageState:
    """What a browser keeps of one login, for others that come later."""
    page = await context.new_page()
    await page.goto(await world.link())
    await page.wait_for_url(lambda url: "/login" not in url)
    return await context.storage_state()


# --- news -------------------------------------------------------------------------------------------------------------


async def ask(world: WebWorld, agent: str, question: str, *options: str) -> int:
    """A question of the agent's to the operator."""
    reply = await world.ask_as(agent, {"cmd": "ask", "question": question, "options": list(options)})
    assert "id" in reply, reply
    return int(reply["id"])


async def propose(world: WebWorld, agent: str, files: dict[str, str], *, on_top: bool = False) -> int:
    """A commit in the agent's proposed repo (`on_top`: of the last one), and the manager's request for it."""
    repo = world.place.state / "proposed" / agent / "config"
    await world.hive.until(lambda: (repo / ".git").exists())
    sha = await anyio.to_thread.run_sync(_commit, repo, world.place.state / "applied" / agent, files, on_top)
    reply = await world.ask_as(
        "manager", {"cmd": "request_apply_commit", "agent": agent, "commit_ref": sha[:12]}
    )
    assert reply["kind"] == "ok", reply
    return int(reply["id"])


def _commit(repo: Path, applied: Path, files: dict[str, str], on_top: bool) -> str:
    if not on_top:
        git(repo, "fetch", "-q", str(applied), "main")
        git(repo, "reset", "-q", "--hard", "FETCH_HEAD")
    for path, text in files.items():
        (repo / path).write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "change")
    return git(repo, "rev-parse", "HEAD")


async def resolved(world: WebWorld, number: int) -> Json:
    """How an approval ended."""

    def ends() -> list[Json]:
        return [
            frame["approval"]
            for frame in world.hive.frames
            if frame.get("kind") == "approval_resolved" and frame["approval"]["id"] == number
        ]

    await world.hive.until(ends)
    return ends()[-1]


async def indexed(world: WebWorld) -> None:
    """Returns when the search knows of everything: it is made beside the work."""
    async with connect(world.place.run) as client:
        for _ in range(300):
            reply = await client.request(r.Search(query="upload", limit=1))
            if isinstance(reply, SearchHits) and not reply.behind:
                return
            await anyio.sleep(0.2)
    raise AssertionError("the index did not catch up")
