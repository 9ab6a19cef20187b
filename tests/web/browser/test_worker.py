"""The worker that holds a browser's one stream may crash, and nobody tells its pages: they find out, and go on."""

import pytest
from playwright.async_api import Browser

from web_world import Watch, WebWorld

pytestmark = [pytest.mark.needs("chromium", "npm"), pytest.mark.timeout(240)]


async def workers_of(browser: Browser) -> set[str]:
    """The shared workers that run, by their targets' ids."""
    session = await browser.new_browser_cdp_session()
    found = (await session.send("Target.getTargets"))["targetInfos"]
    await session.detach()
    return {each["targetId"] for each in found if each["type"] == "shared_worker"}


async def crash(browser: Browser, worker: str) -> None:
    """Ends it, as a crash does."""
    session = await browser.new_browser_cdp_session()
    await session.send("Target.closeTarget", {"targetId": worker})
    await session.detach()


async def test_a_page_finds_out_that_its_stream_s_worker_crashed(
    browser: Browser, world: WebWorld, watch: Watch
) -> None:
    """It makes another one, and shows what it missed."""
    await watch.open("/messages")
    await world.cli("send", "manager", "before the crash")
    await watch.page.get_by_text("before the crash").first.wait_for(timeout=20_000)
    (before,) = await workers_of(browser)
    await crash(browser, before)
    assert before not in await workers_of(browser)
    await world.cli("send", "manager", "after the crash")
    await watch.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await watch.page.get_by_text("after the crash").first.wait_for(timeout=60_000)
    await world.cli("send", "manager", "long after the crash")
    await watch.page.get_by_text("long after the crash").first.wait_for(timeout=20_000)
