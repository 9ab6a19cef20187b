"""The fleet and what leads on from it: why somebody needs the operator, what the table shows, keys that come early.

The rules of the table's model are tests of `src/screens/fleet`; the jobs that begin here are told elsewhere.
"""

import pytest
from playwright.async_api import Browser

from hyperhive.client import connect
from hyperhive.protocol import requests as r
from web_world import Watch, WebWorld, context_of, log_in

pytestmark = [pytest.mark.needs("chromium", "npm"), pytest.mark.timeout(120)]

CTRL_K_AND_O = """() => {
  for (const init of [{key: 'k', ctrlKey: true}, {key: 'o'}, {key: 'x'}])
    document.body.dispatchEvent(new KeyboardEvent('keydown', {...init, bubbles: true, cancelable: true}));
}"""


async def test_a_row_says_why_its_agent_needs_the_operator(watch: Watch, world: WebWorld) -> None:
    row = watch.page.locator(f"#agent-{world.seeded.agents[0]} .c-doing")
    assert "asks: Which database shall the new index live in?" in await row.inner_text()


async def test_what_is_typed_before_the_palette_is_drawn_is_its_query_and_no_key_of_the_page(
    watch: Watch,
) -> None:
    await watch.go("/audit")  # `o` leads back from here
    await watch.page.evaluate(CTRL_K_AND_O)
    field = watch.page.get_by_label("Search commands and agents")
    await field.wait_for()
    await watch.eventually(lambda: field.evaluate("e => e.value === 'ox'"), "what was typed")
    await watch.page.keyboard.type("y")
    assert await field.input_value() == "oxy"
    assert watch.page.url.endswith("/audit")
    await watch.page.keyboard.press("Escape")
    await watch.page.keyboard.press("o")
    await watch.page.wait_for_url(f"{watch.origin}/")


async def test_space_looks_into_an_agent_and_the_look_goes_along_from_row_to_row(watch: Watch) -> None:
    """What it waits for and did last, without leaving the fleet; Escape or Space closes it."""
    page = watch.page
    peek = page.locator(".fleet-row[aria-current] .peek")
    await page.keyboard.press("Space")
    await peek.locator(".peek-rows li").first.wait_for()
    assert "Which database shall the new index live in?" in await peek.locator(".peek-waits").inner_text()
    first = await page.locator(".fleet-row[aria-current]").get_attribute("id")
    await page.keyboard.press("j")
    await page.locator(f".fleet-row[aria-current]:not(#{first}) .peek").wait_for()
    assert await page.locator(".peek").count() == 1
    assert not await watch.axe()
    await page.keyboard.press("Escape")
    await peek.wait_for(state="detached")
    await page.keyboard.press("Space")
    await peek.wait_for()
    await page.keyboard.press("Space")
    await peek.wait_for(state="detached")
    assert page.url == f"{watch.origin}/"


async def test_a_line_parts_what_came_since_the_last_visit_from_what_was_there(
    browser: Browser, world: WebWorld
) -> None:
    """It stands in the list until the next visit, through reloads; a first visit has none."""
    async with context_of(browser) as context:
        watch = await log_in(context, world, "/messages")
        line = watch.page.locator(".visit-line")
        assert await line.count() == 0
        await watch.page.evaluate(
            "at => localStorage.setItem('hive.setting.last-visit', String(Math.floor(Date.now() / 1000) - at))",
            6 * 3600,
        )
        for _ in range(2):
            await watch.open("/messages")
            assert "New since your last visit" in await line.inner_text()
            ages = await watch.page.eval_on_selector_all(
                ".mail-list .mail time, .mail-list .visit-line time",
                "all => all.map(e => Date.parse(e.dateTime))",
            )
            at = await line.locator("time").evaluate("e => Date.parse(e.dateTime)")
            place = ages.index(at)
            assert min(ages[:place]) > at >= max(ages[place + 1 :])
        assert not watch.unexpected()


async def test_a_row_under_the_pointer_stays_where_it_is_and_says_what_its_agent_does_now(
    watch: Watch, world: WebWorld
) -> None:
    name = world.seeded.agents[13]
    row = watch.page.locator(f"#agent-{name}")
    await row.hover()
    await world.tell(name, "[[slow 600]]")
    await row.locator(".c-doing", has_text="thinking").wait_for()
    await watch.page.locator(f".fleet-group[aria-label=Idle] #agent-{name}").wait_for()
    await world.cli("kill", name, "--now")


async def test_a_page_is_usable_while_many_stops_wait_for_their_turns(watch: Watch, world: WebWorld) -> None:
    """Each answer may take as long as a turn, and a browser has six connections."""
    names = world.seeded.agents[14:21]
    async with connect(world.place.run) as hive:
        for name in names:
            await hive.request(r.Send(to=name, body="[[slow 600]]"))
        for name in names:
            row = watch.page.locator(f"#agent-{name}")
            await row.filter(has_text="thinking").wait_for()
            await row.get_by_role("button", name=f"Stop {name}").click()
            await row.get_by_text("stopping").wait_for()
        await watch.page.locator("nav a[href='/audit']").click()
        await watch.page.wait_for_url("**/audit")
        await watch.settled()
        await watch.open("/")
        for name in names:
            assert "stopping" in await watch.page.locator(f"#agent-{name}").inner_text()
            await hive.request(r.Kill(name=name, now=True))
            await watch.page.locator(f"#agent-{name}").get_by_text("Stopped").wait_for()


async def test_a_column_that_is_hidden_stays_hidden_and_comes_back(watch: Watch) -> None:
    model = watch.page.locator(".fleet-row .c-model").first
    assert await model.is_visible()
    for shown in (False, True):
        await watch.page.get_by_role("button", name="Columns").click()
        await watch.page.get_by_role("menuitemcheckbox", name="Model").click()
        await watch.page.keyboard.press("Escape")
        await watch.open("/")
        assert await model.is_visible() is shown
        assert not await watch.overflow()


async def test_on_a_phone_an_agents_page_leads_to_the_answer_that_it_waits_for(
    phone: Watch, world: WebWorld
) -> None:
    await phone.open(f"/agents/{world.seeded.agents[0]}")
    banner = phone.page.locator(".banner", has_text="asks: Which database")
    await banner.get_by_role("button", name="Answer").tap()
    await phone.page.locator(".question").get_by_text("one of its own").wait_for()


async def test_bars_are_drawn_in_forced_colours(browser: Browser, world: WebWorld) -> None:
    async with context_of(browser) as context:
        watch = await log_in(context, world)
        await watch.page.emulate_media(forced_colors="active")
        await watch.open(f"/agents/{world.seeded.agents[0]}/stats?window=30d")
        bar = watch.page.locator(".chart-bar[data-leads] > span").first
        colours = await bar.evaluate(
            "e => [e, document.body].map(each => getComputedStyle(each).backgroundColor)"
        )
        assert colours[0] != colours[1]


async def test_the_operator_sees_which_of_the_sessions_is_theirs(watch: Watch) -> None:
    await watch.open("/sessions")
    rows = watch.page.locator(".sessions li")
    assert await rows.filter(has_text="this one").count() == 1
    assert await rows.count() > 1


async def test_a_screen_that_could_not_be_fetched_opens_when_the_hive_is_back(
    watch: Watch, world: WebWorld
) -> None:
    watch.expect(".")
    await world.hive.kill()
    await watch.page.locator(".banner", has_text="The connection to the hive is lost").wait_for()
    await watch.page.get_by_role("link", name="Dead letters").click()
    await watch.page.get_by_text("this browser does not have the screen yet").wait_for()
    await world.start()
    await watch.page.locator("main .mail-side").first.wait_for(timeout=40_000)
    assert watch.page.url.endswith("/dead")
