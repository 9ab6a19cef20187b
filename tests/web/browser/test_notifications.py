"""When the desktop is told that somebody waits: once a transition, never of the past, never while one looks.

The browser's `Notification` is a stand-in that remembers; the page's clock is moved on instead of waited for.
"""

import time
from collections.abc import AsyncIterator

import anyio
import pytest
from playwright.async_api import Browser, StorageState

from hive_process import turns_of
from hyperhive.client import connect
from hyperhive.protocol import requests as r
from web_jobs import Operator, ask, operator_at
from web_world import WebWorld

pytestmark = [pytest.mark.needs("chromium", "npm"), pytest.mark.timeout(180)]

TOLD = """
localStorage.setItem('hive.setting.notifications', 'true');
window.told = [];
window.withdrawn = [];
window.looking = false;
document.hasFocus = () => window.looking;
window.Notification = class {
  static permission = 'granted';
  static requestPermission() { return Promise.resolve('granted'); }
  constructor(title, options) {
    this.title = title;
    window.told.push([title, options.body]);
    window.last = this;
  }
  close() { window.withdrawn.push(this.title); }
};
"""
HIDDEN = "Object.defineProperty(document, 'visibilityState', {get: () => 'hidden'})"
BY_ITSELF = "Object.defineProperty(window, 'SharedWorker', {value: undefined})"
REFUSED = "window.Notification.permission = 'denied'"
UNSEEN_SECONDS = 17


class Away(Operator):
    """An operator whose page is open and who looks elsewhere."""

    async def told(self) -> list[list[str]]:
        """Every notification so far: its title and its text."""
        found: list[list[str]] = await self.page.evaluate("() => window.told")
        return found

    async def later(self, seconds: int = UNSEEN_SECONDS) -> list[list[str]]:
        """What was told once so much time has passed."""
        await self.page.clock.run_for(seconds * 1000)
        return await self.told()

    async def count(self, waiting: int, seconds: float = 30) -> None:
        """Returns when the page knows of so many that wait."""

        async def so() -> bool:
            return await self.page.title() == f"({waiting}) hive"

        await self.watch.eventually(so, f"{waiting} wait", seconds)


@pytest.fixture
async def away(browser: Browser, world: WebWorld, login: StorageState) -> AsyncIterator[Away]:
    """One who asked for notifications."""
    async with operator_at(browser, world, login, scripts=(TOLD,)) as one:
        page = one.page
        await page.clock.install()
        away = Away(one.watch, world)
        await away.fresh("/messages")
        yield away


async def answer(world: WebWorld, *numbers: int) -> None:
    """From somewhere else than this page."""
    async with connect(world.place.run) as client:
        for number in numbers:
            await client.request(r.Answer(id=number, answer="done"))


async def a_later_second() -> None:
    """Returns in another second of the hive's clock, which counts no fractions."""
    begun = int(time.time())
    while int(time.time()) == begun:  # noqa: ASYNC110 (a clock tells nobody)
        await anyio.sleep(0.05)


async def test_what_waited_already_is_not_told_and_what_comes_is_told_once(
    away: Away, world: WebWorld
) -> None:
    """Neither at the start, nor by a reload, nor when the hive comes back: only what happens from then on."""
    waiting = len(world.seeded.asked)
    await away.count(waiting)
    assert await away.later() == []
    number = await ask(world, world.seeded.agents[8], "Which\ncolour \u202eshall it be?")
    await away.count(waiting + 1)
    assert await away.later(10) == []
    assert await away.later() == [[f"{world.seeded.agents[8]} asks", "Which colour \\u{202e}shall it be?"]]
    assert len(await away.later(60)) == 1
    await away.fresh("/messages")
    await away.count(waiting + 1)
    assert await away.later(60) == []
    away.watch.expect(r"ERR_|Failed to (load|fetch)")
    await world.hive.kill()
    await world.start()
    second = await ask(world, world.seeded.agents[9], "And the size?")
    await away.page.clock.run_for(40_000)
    await away.count(waiting + 2)
    assert [title for title, _ in await away.later()] in ([], [f"{world.seeded.agents[9]} asks"])
    await answer(world, number, second)
    await away.count(waiting)


async def test_a_tab_that_nobody_looks_at_tells_of_what_happened_after_the_hive_was_away(
    browser: Browser, login: StorageState, world: WebWorld
) -> None:
    """It goes on dialling, be it a worker that holds the browser's line or the tab itself."""
    waiting, name = len(world.seeded.asked), world.seeded.agents[8]
    async with (
        operator_at(browser, world, login, scripts=(TOLD, HIDDEN)) as one,
        operator_at(browser, world, login, scripts=(TOLD, HIDDEN, BY_ITSELF)) as other,
    ):
        tabs = [Away(each.watch, world) for each in (one, other)]
        for away in tabs:
            away.watch.expect(r"ERR_|Failed to (load|fetch)")
            await away.page.clock.install()
            await away.fresh("/messages")
            await away.count(waiting)
        await world.hive.kill()
        for away in tabs:
            await away.page.locator(
                ".banner", has_text="Attempt"
            ).wait_for()  # it dialled in vain, and dials on
        await world.start()
        number = await ask(world, name, "Are you there?")
        for away in tabs:
            await away.count(waiting + 1, seconds=100)
            assert await away.later() == [[f"{name} asks", "Are you there?"]]
        await answer(world, number)
        for away in tabs:
            await away.count(waiting)


async def test_what_one_looks_at_is_not_told_and_a_look_puts_away_what_was_about_to_be(
    away: Away, world: WebWorld
) -> None:
    waiting = len(world.seeded.asked)
    await away.page.evaluate("() => { window.looking = true }")
    first = await ask(world, world.seeded.agents[8], "Seen at once?")
    await away.count(waiting + 1)
    await away.page.evaluate("() => { window.looking = false }")
    assert await away.later() == []
    second = await ask(world, world.seeded.agents[9], "Seen in time?")
    await away.count(waiting + 2)
    await away.later(5)
    await away.page.evaluate(
        "() => { window.looking = true; dispatchEvent(new Event('focus')); window.looking = false }"
    )
    assert await away.later() == []
    await answer(world, first, second)
    await away.count(waiting)


async def test_a_burst_is_one_and_what_is_answered_elsewhere_is_withdrawn_or_never_told(
    away: Away, world: WebWorld
) -> None:
    waiting = len(world.seeded.asked)
    four = [await ask(world, name, "Shall I?") for name in world.seeded.agents[10:14]]
    await away.count(waiting + 4)
    assert [title for title, _ in await away.later()] == ["4 agents need you"]
    await answer(world, *four)
    await away.count(waiting)
    early = await ask(world, world.seeded.agents[14], "Quick one?")
    await away.count(waiting + 1)
    await away.later(5)
    await answer(world, early)
    await away.count(waiting)
    assert len(await away.later(60)) == 1
    late = await ask(world, world.seeded.agents[15], "Slow one?")
    await away.count(waiting + 1)
    assert len(await away.later()) == 2
    await answer(world, late)
    await away.count(waiting)
    assert f"{world.seeded.agents[15]} asks" in await away.page.evaluate("() => window.withdrawn")
    assert "4 agents need you" in await away.page.evaluate("() => window.withdrawn")


async def test_a_click_leads_to_the_answer_with_the_focus_in_it(away: Away, world: WebWorld) -> None:
    waiting = len(world.seeded.asked)
    number = await ask(world, world.seeded.agents[8], "Left or right?", "left", "right")
    await away.count(waiting + 1)
    assert len(await away.later()) == 1
    await away.page.evaluate("() => window.last.onclick()")
    await away.page.locator(".question input:focus").wait_for()
    assert away.page.url.endswith(f"/questions/{number}")
    await away.page.keyboard.press("1")
    await away.page.keyboard.press("Control+Enter")
    await away.says("Answered by operator")


async def test_an_agent_that_needs_a_login_again_is_told_of_again(away: Away, world: WebWorld) -> None:
    waiting, name = len(world.seeded.asked), world.seeded.agents[16]
    await world.log_out(name)
    await world.tell(name, "[[say hello]]")
    await away.count(waiting + 1)
    assert [title for title, _ in await away.later()] == [f"{name} needs a login"]
    async with connect(world.place.run) as client:
        await client.request(r.LoginStart(name=name))
        await client.request(r.LoginCode(name=name, code="good#code"))
        await away.count(waiting)
        await turns_of(client, name, 2)
        await client.request(r.NewSession(name=name))  # by a CLI that finds no login
        await a_later_second()  # what happens is told apart by it
        (world.place.state / "agents" / name / "claude" / ".credentials.json").unlink()
        await client.request(r.Send(to=name, body="[[say hello]]"))
        await away.count(waiting + 1)
        assert [title for title, _ in await away.later()] == [f"{name} needs a login"] * 2
        await client.request(r.LoginStart(name=name))
        await client.request(r.LoginCode(name=name, code="good#code"))
        await away.count(waiting)


async def test_nothing_is_told_without_permission_or_of_agents_that_are_muted(
    browser: Browser, login: StorageState, world: WebWorld
) -> None:
    waiting, muted = len(world.seeded.asked), world.seeded.agents[8]
    hush = f"localStorage.setItem('hive.setting.muted', JSON.stringify(['{muted}']))"
    for scripts in ((TOLD, REFUSED), (TOLD, hush)):
        async with operator_at(browser, world, login, scripts=scripts) as one:
            away = Away(one.watch, world)
            await one.page.clock.install()
            await away.fresh("/messages")
            number = await ask(world, muted, "Anybody?")
            await away.count(waiting + 1)
            assert await away.later() == []
            await answer(world, number)
            await away.count(waiting)
