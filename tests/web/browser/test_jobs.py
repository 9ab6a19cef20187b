"""What an operator comes for, on a hive of many agents: taps are counted, times are reported.

It has 70 agents and 5,000 messages, in the campaign 200 and 100,000. Here: who needs me, answering, approving on a
phone, why a turn failed, stopping, finding, writing. Looking back, logins, money, deploys: `test_jobs_hive.py`.
"""

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import pytest
from playwright.async_api import Browser, StorageState

from web_jobs import NO_SINGLE_KEYS, Figures, Operator, ask, indexed, operator_at, propose, resolved
from web_seed import LARGE, Scale
from web_world import Watch, WebWorld, context_of, seeded_hive

pytestmark = [pytest.mark.needs("chromium", "npm", "git"), pytest.mark.timeout(240)]

SEEN_STATES = """
window.seenStates = [];
new MutationObserver(() => document.querySelectorAll('.queue-row').forEach(row => {
  const state = row.querySelector('.queue-state').innerText.trim().replaceAll('\\n', ' ');
  const said = `${state}|${row.querySelector('.queue-text').innerText}`;
  if (!window.seenStates.includes(said)) window.seenStates.push(said);
})).observe(document, { subtree: true, childList: true, characterData: true });
"""
SEARCH_TIMES = """
window.searchTimes = [];
let typed;
addEventListener('input', () => { typed = performance.now() }, true);
new MutationObserver(() => {
  const done = document.querySelector('.search-count');
  if (typed === undefined || !done || done === window.lastCount) return;
  window.lastCount = done;
  const began = typed;
  typed = undefined;
  requestAnimationFrame(() => window.searchTimes.push(performance.now() - began));
}).observe(document, { subtree: true, childList: true });
"""


@pytest.fixture(scope="module")
async def world(anyio_backend: str, large: Path, scale: Scale) -> AsyncIterator[WebWorld]:
    """A hive with much in it, and a manager that can ask for things."""
    del anyio_backend
    async with seeded_hive(large / str(scale.messages), scale) as one:
        await one.cli("start", "manager")
        yield one


async def test_j1_who_needs_me_is_seen_without_a_click_and_idle_agents_are_not_among_them(
    desk: Operator, world: WebWorld, scale: Scale, figures: Figures
) -> None:
    waiting = len(world.seeded.asked)
    await desk.title(f"({waiting}) hive")
    asker = world.seeded.agents[30]
    number = await ask(world, asker, "May I drop the old table?", "yes", "no")
    with figures.timed("J1", "event to the tab's title", 1.0):
        await desk.title(f"({waiting + 1}) hive")
    icon = await desk.page.locator("#favicon").get_attribute("href")
    assert icon is not None
    assert "alert" in icon
    first = desk.page.locator(".fleet-group").first
    assert await first.get_attribute("aria-label") == "Needs you"
    assert await first.locator(f"#agent-{asker}").count() == 1
    idle = await desk.page.locator(".fleet-group[aria-label=Idle] .fleet-row").count()
    assert idle > scale.agents // 2
    assert await first.locator(".fleet-row").count() <= waiting + 1
    assert await desk.taps() == 0
    await world.cli("answer", str(number), "no")
    await desk.title(f"({waiting}) hive")


async def test_j2_a_link_to_a_question_leads_a_cold_browser_to_its_answer_by_keys_alone(
    browser: Browser, world: WebWorld, figures: Figures
) -> None:
    asker = world.seeded.agents[31]
    number = await ask(world, asker, "Which database?", "the main one", "one of its own")
    link = str((await world.cli("open", f"questions/{number}"))["url"])
    async with context_of(browser) as context:
        watch = Watch(await context.new_page(), world.origin)
        page = watch.page
        with figures.timed("J2", "cold login to answered", 10.0):
            await page.goto(link)
            await page.locator(".question input:focus").wait_for()
            await page.keyboard.press("2")
            await page.keyboard.press("Control+Enter")
            await page.get_by_text("Answered by operator").wait_for()
        assert not watch.unexpected()
    (question,) = (await world.cli("questions", str(number)))["questions"]
    assert (question["answer"], question["answerer"]) == ("one of its own", "operator")


async def test_j3_a_change_of_50_lines_is_approved_on_a_phone_in_four_taps_as_the_commit_that_was_shown(
    handheld: Operator, world: WebWorld, figures: Figures
) -> None:
    name = world.seeded.agents[3]
    number = await propose(world, name, {"CLAUDE.md": "".join(f"- rule {n}\n" for n in range(50))})
    phone, page = handheld, handheld.page
    asked: list[dict[str, object]] = []
    page.on(
        "request",
        lambda one: asked.append(json.loads(one.post_data or "{}")) if one.method == "POST" else None,
    )
    with figures.timed("J3", "from the fleet to approved", 60.0):
        await page.locator(".bottom-tabs").get_by_text("Needs you").tap()
        await page.locator(f"a[href='/approvals/{number}']").tap()
        await phone.watch.settled()
        assert await page.locator(".diff-code.add").count() == 50
        assert not await phone.watch.overflow()
        button = page.get_by_role("button", name="Approve")
        shown = (await button.inner_text()).split()[1]
        await button.tap()
        await phone.says("Approved by operator on the web")
    taps = await phone.taps()
    figures.note("J3", "taps", taps, "taps", 4)
    assert taps <= 4
    sent = next(one for one in asked if one.get("cmd") == "approve")
    assert str(sent["sha"]).startswith(shown)
    assert (await resolved(world, number))["status"] == "approved"
    entries = (await world.cli("audit", "--limit", "20"))["entries"]
    decided = [one for one in entries if one["approval"] == number and one["action"] == "approved"]
    assert [(one["who"], one["channel"], one["sha"]) for one in decided] == [("operator", "web", sent["sha"])]


def failed_agent(world: WebWorld) -> tuple[str, int]:
    """An agent whose last turn failed, and that turn."""
    for name in world.seeded.agents[: LARGE.pasts]:
        path = world.place.state / "agents" / name / "harness" / "hyperhive-turn-stats.sqlite"
        with closing(sqlite3.connect(path)) as db:
            turn, kind = db.execute("SELECT turn, result_kind FROM turn_stats ORDER BY id DESC").fetchone()
        if kind != "ok":
            return name, int(turn)
    raise AssertionError("none failed last")


async def test_j4_why_a_turn_failed_is_three_clicks_away_with_its_last_call_its_stderr_and_its_log(
    desk: Operator, world: WebWorld, figures: Figures
) -> None:
    name, turn = await anyio.to_thread.run_sync(failed_agent, world)
    page = desk.page
    with figures.timed("J4", "from the fleet to the log of that minute", 30.0):
        await page.locator(f"#agent-{name} a.agent-name").click()
        await page.locator(".badges .chip.tone-failed").click()
        first = page.locator(".turn-item").first
        await first.wait_for()
        assert await page.locator(".turn-item:not(.turn-item-failed)").count() == 0
        assert f"Turn {turn}" in await first.inner_text()
        why = await first.locator(".why").inner_text()
        assert "the API answered 529" in why
        assert "TodoWrite" in why
        assert "the CLI said" in why
        await first.get_by_text("log of that minute").click()
        await desk.watch.settled()
    assert "since=" in page.url
    clicks = await desk.taps()
    figures.note("J4", "clicks", clicks, "clicks", 3)
    assert clicks <= 3


async def test_j5_a_runaway_is_stopped_with_two_clicks_and_its_row_says_so_at_once(
    desk: Operator, world: WebWorld, figures: Figures
) -> None:
    name = world.seeded.agents[40]
    await world.tell(name, "[[slow 60]]")
    page = desk.page
    row = page.locator(f"#agent-{name}")
    await row.filter(has_text="thinking").wait_for()
    await desk.fresh()
    await row.get_by_role("button", name=f"Actions on {name}").click()
    await row.get_by_role("menuitem", name="Stop now").click()
    with figures.timed("J5", "one agent: clicked to acknowledged", 1.0):
        await row.filter(has_text="stop").wait_for()
    await page.mouse.move(0, 0)  # no row moves under the pointer
    with figures.timed("J5", "one agent: to stopped", 5.0):
        await page.locator(f".fleet-group[aria-label=Stopped] #agent-{name}").wait_for()
    clicks = await desk.taps()
    figures.note("J5", "one agent", clicks, "clicks", 2)
    assert clicks <= 2
    await row.get_by_role("button", name=f"Start {name}").click()
    await page.mouse.move(0, 0)
    await page.locator(f".fleet-group:not([aria-label=Stopped]) #agent-{name}").wait_for()


async def test_j6_a_message_is_found_by_its_text_and_opened_in_context_from_the_keyboard(
    browser: Browser, login: StorageState, world: WebWorld, figures: Figures
) -> None:
    words = [
        world.seeded.needle,
        "retry loop",
        "flaky upload",
        "orders",
        "release notes",
        "sessions expire",
        "importer",
    ]
    await indexed(world)
    async with operator_at(browser, world, login, scripts=(SEARCH_TIMES,)) as desk:
        page = desk.page
        await page.keyboard.press("/")
        await page.keyboard.type(world.seeded.needle)
        await page.keyboard.press("Enter")  # no agent has this name: it is looked for everywhere
        hit = page.locator(".search-hit", has_text=world.seeded.needle)
        await hit.wait_for()
        await page.reload()  # the address holds the search
        await hit.wait_for()
        field = page.get_by_label("Search for")
        for each in [*words[1:], *words]:  # each differs from the one before it
            before = len(await page.evaluate("() => window.searchTimes"))
            await field.fill(each)

            async def drawn(before: int = before) -> bool:
                return len(await page.evaluate("() => window.searchTimes")) > before

            await desk.watch.eventually(drawn, f"results for {each}")
        times = sorted(await page.evaluate("() => window.searchTimes"))
        figures.note("J6", "typed to drawn, p95", times[int(len(times) * 0.95)], "ms", 300)
        await field.fill(world.seeded.needle)
        await page.locator(".search-count", has_text="1 found").wait_for()
        await page.keyboard.press("Enter")
        await page.locator("main").get_by_text(world.seeded.needle).first.wait_for()
        assert f"id={world.seeded.needle_id}" in page.url
        assert await desk.taps() == 0


async def test_j7_a_message_is_written_by_keys_alone_and_shows_how_far_it_got(
    browser: Browser, login: StorageState, world: WebWorld, figures: Figures
) -> None:
    name = world.seeded.agents[50]
    async with operator_at(browser, world, login, scripts=(SEEN_STATES,)) as desk:
        page = desk.page
        with figures.timed("J7", "from the fleet to sent", 5.0):
            await page.keyboard.press("Control+k")
            await page.keyboard.type(name)
            await page.locator(".palette-list li", has_text=name).first.wait_for()
            await page.keyboard.press("Enter")
            await page.locator(".composer textarea").wait_for()
            await page.keyboard.press("r")
            await page.keyboard.type("[[slow 2]]please look")
            await page.keyboard.press("Enter")
            await page.locator(".queue-row", has_text="please look").wait_for()
        await page.locator(".queue-state", has_text="read in").wait_for()
        seen = [
            one.split("|")[0] for one in await page.evaluate("() => window.seenStates") if "please" in one
        ]
        assert seen in (["queued", "delivered", "read in turn 1"], ["delivered", "read in turn 1"])
        await page.keyboard.type("a draft that stays")
        await page.reload()
        assert await page.locator(".composer textarea").input_value() == "a draft that stays"
        await page.locator(".queue-state", has_text="read in").wait_for()
        assert await desk.taps() == 0
    assert [one.body for one in await anyio.to_thread.run_sync(world.place.mail)].count(
        "[[slow 2]]please look"
    ) == 1


async def test_j1_to_j7_need_no_more_than_tab_and_enter_and_dialogs_give_the_focus_back(
    browser: Browser, login: StorageState, world: WebWorld
) -> None:
    """With the keys that need no modifier turned off."""
    asker, changed, stopped = world.seeded.agents[32], world.seeded.agents[4], world.seeded.agents[41]
    question = await ask(world, asker, "Shall I go on?", "yes", "no")
    approval = await propose(world, changed, {"CLAUDE.md": "- be kind\n"})
    failed, turn = await anyio.to_thread.run_sync(failed_agent, world)
    async with operator_at(browser, world, login, scripts=(NO_SINGLE_KEYS,)) as desk:
        page = desk.page
        press = page.keyboard.press
        # The first Tab offers to skip what stands on every page.
        await press("Tab")
        assert await desk.focused() == "Skip to content"
        await press("Enter")
        # A search, from the navigation.
        await desk.fresh("/needs-you")
        await desk.tab_to(page.locator("nav a[href='/search']"))
        await press("Enter")
        await page.locator("[aria-label='Search for']:focus").wait_for()
        await page.keyboard.type(world.seeded.needle)
        await page.locator(".search-hit").first.wait_for()
        await desk.tab_to(page.locator(".search-hit").first)
        await press("Enter")
        await page.wait_for_url("**/messages?id=*")
        # A question where it stands.
        await desk.fresh(f"/questions/{question}")
        await page.locator(".question input:focus").wait_for()
        await press("ArrowDown")
        await press("Space")
        await desk.tab_to(page.get_by_role("button", name="Answer"))
        await press("Enter")
        await desk.says("Answered by operator")
        # An approval.
        await desk.fresh(f"/approvals/{approval}")
        await desk.tab_to(page.get_by_role("button", name="Approve"))
        await press("Enter")
        await desk.says("Approved by operator on the web")
        # A failed turn, from the fleet by its filter.
        await desk.fresh()
        await desk.tab_to(page.get_by_label("Filter agents"))
        await page.keyboard.type(failed)
        await desk.tab_to(page.locator(f"#agent-{failed} a.agent-name"))
        await press("Enter")
        await desk.tab_to(page.locator(".badges .chip.tone-failed"))
        await press("Enter")
        await desk.tab_to(page.locator(".turn-item a").first)
        await press("Enter")
        await page.wait_for_url(f"**/agents/{failed}/t/{turn}")
        # A stop by the row's menu; the focus comes back to it.
        await desk.fresh()
        await desk.tab_to(page.get_by_label("Filter agents"))
        await page.keyboard.type(stopped)
        menu = page.get_by_role("button", name=f"Actions on {stopped}")
        await desk.tab_to(menu)
        await press("Enter")
        await page.locator("[role=menuitem]:focus").wait_for()
        await press("Escape")
        assert await desk.focused() == f"Actions on {stopped}"
        await press("Enter")
        await page.locator("[role=menuitem]:focus").wait_for()
        while not (await desk.focused()).startswith("Stop"):
            await press("ArrowDown")
        await press("Enter")
        await page.locator(f"#agent-{stopped}", has_text="Stopped").wait_for()
        # Dialogs keep the focus inside and give it back. A row goes to its group once the focus is elsewhere.
        opener = page.get_by_role("button", name="New agent")
        await desk.tab_to(opener, back=True)
        await page.locator(f".fleet-group[aria-label=Stopped] #agent-{stopped}").wait_for()
        await press("Enter")
        await page.locator("dialog input:focus").wait_for()
        for _ in range(8):
            await press("Tab")
            assert await page.evaluate(
                "() => document.activeElement.closest('dialog') !== null || document.activeElement === document.body"
            )
        await press("Escape")
        assert await opener.evaluate("e => e === document.activeElement")
        # Mail.
        await desk.fresh(f"/agents/{asker}")
        await desk.tab_to(page.locator(".composer textarea"))
        await page.keyboard.type("thank you")
        await press("Enter")
        await page.locator(".queue-row", has_text="thank you").wait_for()
        assert await desk.taps() == 0


@pytest.mark.campaign
async def test_j5_all_agents_are_stopped_with_three_clicks_and_started_again(
    desk: Operator, scale: Scale, figures: Figures
) -> None:
    page = desk.page
    await page.get_by_role("button", name="Stop all").click()
    await page.locator("dialog").get_by_role("switch").click()
    begun = time.perf_counter()
    await page.locator("dialog").get_by_role("button", name="Stop ").click()
    clicks = await desk.taps()
    figures.note("J5", "all agents", clicks, "clicks", 3)
    assert clicks <= 3
    await page.mouse.move(0, 0)
    all_stopped = page.locator(".fleet-count[aria-pressed]", has_text=f"{scale.agents + 1} stopped")
    await all_stopped.wait_for(timeout=60_000)
    figures.note("J5", "all agents: to stopped", time.perf_counter() - begun, "s", 5)
    await page.get_by_role("button", name="More", exact=True).click()
    await page.get_by_role("menuitem", name="Select all that are shown").click()
    await page.get_by_role("toolbar", name="Selected agents").get_by_role("button", name="Start").click()
    with figures.timed("J5", "all agents: started again", 30.0):
        await page.locator(".fleet-count", has_text="stopped").wait_for(state="detached", timeout=90_000)


def test_the_seed_is_as_large_as_it_says(world: WebWorld, scale: Scale) -> None:
    with closing(sqlite3.connect(f"file:{Path(world.place.state) / 'hive.sqlite'}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM messages").fetchone()[0] >= scale.messages
        assert (
            db.execute("SELECT count(*) FROM agents WHERE phase = 'alive'").fetchone()[0] == scale.agents + 1
        )
