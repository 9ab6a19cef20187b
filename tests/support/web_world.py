"""A real hive with its dashboard, and real browsers that look at it.

`WebWorld` is one seeded hive as a process (the scripted agent CLI, no isolation), `Watch` one page and everything that
must not happen on it: errors in its console, requests to anywhere but the hive, violations of its content policy.
Decides nothing of what a page should show.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright

from hive_process import HivePlace, HiveProcess, Json
from parts import ROOT
from scripted_login import LOGGED_OUT, install_cli_that_logs_in
from web_seed import TYPICAL, Scale, Seeded, seed

CHROMIUM = "/usr/bin/chromium-headless-shell"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
AXE = ROOT / "src/hyperhive/web/frontend/node_modules/axe-core/axe.min.js"
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")

# A heading that sticks lies over what is scrolled under it: axe takes a button there for too small, and by chance.
AXE_RUN = """async tags => {
  const sticky = [...document.querySelectorAll('*')].filter(e => getComputedStyle(e).position === 'sticky');
  sticky.forEach(e => { e.style.position = 'static' });
  try {
    return await axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']});
  } finally {
    sticky.forEach(e => { e.style.position = '' });
  }
}"""

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
PATIENCE_MS = 30_000.0

HIVE_TOML = """
max_turns = 12
backoff_seconds = 0.2
backoff_max_seconds = 1.0
"""

Scheme = Literal["light", "dark"]


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """One browser without a profile."""
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


# --- the hive ---------------------------------------------------------------------------------------------------------


class WebWorld:
    """A seeded hive. `start` and `hive.kill` may follow each other: the port stays the same."""

    def __init__(self, place: HivePlace, seeded: Seeded) -> None:
        self.place = place
        self.seeded = seeded
        self.port = free_port()
        self.hive = self._life()

    @property
    def origin(self) -> str:
        """Where the dashboard is."""
        return f"http://localhost:{self.port}"

    def _life(self) -> HiveProcess:
        return HiveProcess(self.place, ("up", "--json", "--port", str(self.port)))

    async def start(self) -> None:
        """The next life of the hive."""
        self.hive = self._life()
        await self.hive.__aenter__()

    async def aclose(self) -> None:
        """Ends the hive and removes what it left."""
        await self.hive.__aexit__(None, None, None)
        await anyio.to_thread.run_sync(self.place.remove)

    async def cli(self, *words: str) -> Json:
        """A command of the operator's, its answer as JSON."""

        def run() -> Json:
            done = subprocess.run(
                [sys.executable, "-m", "hyperhive.cli", *words, "--json"],
                env=self.place.environ, cwd=self.place.root, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
            found: Json = json.loads(done.stdout)
            return found

        return await anyio.to_thread.run_sync(run)

    async def link(self) -> str:
        """A fresh login link to this hive."""
        return str((await self.cli("open"))["url"])

    async def ask_as(self, agent: str, request: Json) -> Json:
        """A request as anything in the agent's box may make it."""
        directory = "manager" if agent == "manager" else f"agents/{agent}"
        async with await anyio.connect_unix(self.place.run / directory / "mcp.sock") as line:
            await line.send(json.dumps(request).encode() + b"\n")
            reply = b""
            while not reply.endswith(b"\n"):
                reply += await line.receive()
        found: Json = json.loads(reply)
        return found

    async def tell(self, agent: str, body: str) -> None:
        """Mail of the operator's, for the scripted CLI to work."""
        await self.cli("send", agent, body)

    async def log_out(self, agent: str) -> None:
        """The agent's next turn is told to log in."""
        await anyio.Path(self.place.state / "agents" / agent / "claude" / LOGGED_OUT).touch()


@asynccontextmanager
async def seeded_hive(template: Path, scale: Scale = TYPICAL) -> AsyncIterator[WebWorld]:
    """A running hive with the state that `template` holds; makes the template where it is not there yet.

    It has no account: each agent has a login of its own, which `WebWorld.log_out` takes away.
    """
    claude = install_cli_that_logs_in(Path(tempfile.mkdtemp(prefix="hh-", dir="/tmp")) / "claude")
    place = HivePlace(claude, runtime="process", toml=HIVE_TOML, environ={"ANTHROPIC_API_KEY": ""})
    seeded = await _state(place, template, scale)
    world = WebWorld(place, seeded)
    try:
        await world.start()
        yield world
    finally:
        await world.aclose()
        shutil.rmtree(claude.parent, ignore_errors=True)


async def _state(place: HivePlace, template: Path, scale: Scale) -> Seeded:
    facts = template / "seeded.json"
    if not facts.exists():
        seeded = await seed(place, scale)

        def keep() -> None:
            shutil.copytree(place.state, template / "state", symlinks=True)
            facts.write_text(json.dumps(vars(seeded)))

        await anyio.to_thread.run_sync(keep)
        return seeded
    await anyio.to_thread.run_sync(lambda: shutil.copytree(template / "state", place.state, symlinks=True))
    return Seeded(**json.loads(facts.read_text()))


# --- what looks at it -------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """A page, and what went wrong on it."""

    page: Page
    origin: str
    faults: list[str] = field(default_factory=list)
    expected: list[re.Pattern[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self._fault(f"error on the page: {error}"))
        self.page.on("request", self._request)
        self.page.on("dialog", lambda dialog: self._fault(f"dialog: {dialog.message}"))

    def expect(self, pattern: str) -> None:
        """From now on a fault that matches this is none (a server that was killed is missed, loudly)."""
        self.expected.append(re.compile(pattern))

    def _fault(self, text: str) -> None:
        self.faults.append(text)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._fault(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.origin + "/", "data:", "blob:")):
            self._fault(f"request off origin: {request.url}")

    def unexpected(self) -> list[str]:
        """The faults that nobody expected."""
        return [fault for fault in self.faults if not any(known.search(fault) for known in self.expected)]

    async def open(self, path: str) -> None:
        """Goes to a page of the dashboard and waits until it has its content."""
        await self.page.goto(self.origin + path)
        await self.settled()

    async def go(self, path: str) -> None:
        """As by a link on the page: the application goes on."""
        await self.page.evaluate(
            "to => { history.pushState(null, '', to); dispatchEvent(new PopStateEvent('popstate')); }", path
        )
        await self.settled()

    async def settled(self) -> None:
        """Returns when the screen has its heading and nothing on it is still loading."""
        drawn = "() => !!document.querySelector('main h1') && !document.querySelector('main .loading')"
        await self.eventually(lambda: self.page.evaluate(drawn), "the screen")

    async def eventually(self, true: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
        """Returns when the awaitable predicate holds; looks again after each frame of the page."""
        with anyio.move_on_after(seconds):
            while not await true():
                await self.page.evaluate("() => new Promise(done => setTimeout(done, 30))")
            return
        raise AssertionError(f"waited {seconds} s in vain for: {what}\n{await self.page.inner_text('body')}")

    async def overflow(self) -> list[str]:
        """What is wider than the window, where the page itself scrolls sideways."""
        found: list[str] = await self.page.evaluate(
            """() => document.documentElement.scrollWidth <= window.innerWidth ? [] :
               [...document.querySelectorAll('body *')]
               .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1)
               .slice(0, 8).map(e => `${e.tagName}.${e.className} ${Math.round(e.getBoundingClientRect().right)}`)"""
        )
        return found

    async def axe(self) -> list[str]:
        """Violations of WCAG 2.2 AA, one line each."""
        await self.page.evaluate(await anyio.Path(AXE).read_text())
        found = await self.page.evaluate(AXE_RUN, list(WCAG))
        return [
            f"{one['id']}: {one['help']}: {node['target']} {node.get('failureSummary', '')[:300]}"
            for one in found["violations"]
            for node in one["nodes"][:4]
        ]


@asynccontextmanager
async def context_of(
    browser: Browser, *, phone: bool = False, scheme: Scheme = "light", motion: bool = True
) -> AsyncIterator[BrowserContext]:
    """A browser's profile: one operator at one device."""
    context = await browser.new_context(
        viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]
        has_touch=phone, is_mobile=phone, color_scheme=scheme, reduced_motion="no-preference" if motion else "reduce",
        locale="en-GB", timezone_id="UTC",
    )  # fmt: skip
    try:
        yield context
    finally:
        await context.close()


async def log_in(context: BrowserContext, world: WebWorld, path: str = "/") -> Watch:
    """A page of an operator who has followed a login link, at this path."""
    watch = Watch(await context.new_page(), world.origin)
    await watch.page.goto(await world.link())
    await watch.page.wait_for_url(lambda url: "/login" not in url)
    if path != "/":
        await watch.open(path)
    else:
        await watch.settled()
    return watch
