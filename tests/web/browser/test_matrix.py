"""Every screen, wide and narrow, light and dark: accessible, within its window, without an error, without a stranger.

What each screen shows is said elsewhere; here is what holds for all of them. On push: a hive as it usually is, at a
desk and on a phone. In the campaign: 320 px, twice the size, less motion, nothing there yet, very much there, requests
that fail, no network.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, BrowserContext, Route

from web_seed import LARGE, Scale
from web_world import PHONE, WIDE, Scheme, Watch, WebWorld, context_of, log_in, seeded_hive

pytestmark = [pytest.mark.needs("chromium", "npm"), pytest.mark.timeout(240)]

EMPTY = Scale(agents=0, messages=0, pasts=0, real=0)


def screens(world: WebWorld) -> dict[str, str]:
    """Every screen by a name for its report."""
    name = next(iter(world.seeded.agents), "manager")
    question = next(iter(world.seeded.asked), 1)
    return {
        "agents": "/",
        "needs you": "/needs-you",
        "approvals": "/approvals",
        "questions": "/questions",
        "question": f"/questions/{question}",
        "inbox": "/inbox",
        "messages": "/messages",
        "search": f"/search?q={world.seeded.needle}",
        "agent": f"/agents/{name}",
        "agent's turns": f"/agents/{name}/turns",
        "agent's statistics": f"/agents/{name}/stats?window=7d",
        "statistics": "/stats",
        "config": f"/config/{name}",
        "logs": "/logs",
        "agent's logs": f"/logs/{name}",
        "audit": "/audit",
        "dead letters": "/dead",
        "inputs": "/meta",
        "sessions": "/sessions",
        "settings": "/settings",
        "nowhere": "/there/is/nothing/here",
    }


async def faults_of(watch: Watch, world: WebWorld, only: Callable[[str], bool] = lambda _: True) -> list[str]:
    """What is wrong on any screen, by its name."""
    found: list[str] = []
    for name, path in screens(world).items():
        if not only(name):
            continue
        await watch.go(path)
        found += [f"{name}: {fault}" for fault in await watch.axe()]
        found += [f"{name}: too wide: {what}" for what in await watch.overflow()]
        found += [f"{name}: {fault}" for fault in watch.unexpected()]
        watch.faults.clear()
    return found


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (390, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.campaign),
        pytest.param(390, "light", marks=pytest.mark.campaign),
    ],
)
async def test_every_screen_is_accessible_fits_and_is_quiet(
    browser: Browser, world: WebWorld, width: int, scheme: Scheme
) -> None:
    async with context_of(browser, phone=width == 390, scheme=scheme) as context:
        found = await faults_of(await log_in(context, world), world)
    assert not found, "\n".join(found)


# --- the campaign -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def window(
    browser: Browser, width: int, height: int, *, motion: bool = True
) -> AsyncIterator[BrowserContext]:
    """A window of this size, in CSS pixels: one of 1280 px at 200 % zoom has 640."""
    context = await browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="no-preference" if motion else "reduce"
    )
    try:
        yield context
    finally:
        await context.close()


@pytest.mark.campaign
@pytest.mark.parametrize(("width", "height"), [(320, 640), (640, 450), (390, 420)])
async def test_narrow_zoomed_and_above_a_keyboard(
    browser: Browser, world: WebWorld, width: int, height: int
) -> None:
    """320 px; 1280 px at twice the size; a phone whose keyboard is open."""
    async with window(browser, width, height) as context:
        found = await faults_of(await log_in(context, world), world)
    assert not found, "\n".join(found)


@pytest.mark.campaign
async def test_with_less_motion_nothing_moves_for_long(browser: Browser, world: WebWorld) -> None:
    async with window(browser, WIDE["width"], WIDE["height"], motion=False) as context:
        watch = await log_in(context, world)
        for path in screens(world).values():
            await watch.go(path)
            moving = await watch.page.evaluate(
                "() => document.getAnimations().filter(one => one.effect.getComputedTiming().endTime > 10).length"
            )
            assert moving == 0, path


@pytest.fixture(scope="module", params=[EMPTY, LARGE], ids=["empty", "large"])
async def scaled(
    anyio_backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[WebWorld]:
    """A hive with nothing in it, and one with very much."""
    del anyio_backend
    async with seeded_hive(tmp_path_factory.mktemp("scaled"), request.param) as one:
        yield one


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
async def test_with_nothing_there_and_with_very_much(
    browser: Browser, scaled: WebWorld, *, phone: bool
) -> None:
    async with context_of(browser, phone=phone) as context:
        found = await faults_of(await log_in(context, scaled), scaled)
    assert not found, "\n".join(found)


@pytest.mark.campaign
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("how", ["refused", "offline"])
async def test_where_requests_fail_each_screen_says_so(
    browser: Browser, world: WebWorld, size: dict[str, int], how: str
) -> None:
    async with window(browser, size["width"], size["height"]) as context:
        watch = await log_in(context, world)
        for path in screens(world).values():  # their scripts are there
            await watch.go(path)
        watch.expect(r"ERR_|Failed to (load|fetch)|503")

        async def refuse(route: Route) -> None:
            problem = (
                '{"title": "Trouble", "status": 503, "detail": "The disk is full.", "code": "store_failed"}'
            )
            await route.fulfill(status=503, content_type="application/problem+json", body=problem)

        if how == "refused":
            await watch.page.route("**/api/request", refuse)
        else:
            await context.set_offline(True)
        found = await faults_of(watch, world)
    assert not found, "\n".join(found)
