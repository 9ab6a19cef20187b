"""One agent's page in a real browser: its rows, where the reader is in them, and what it makes of hostile text.

The rows' own rules are tests of `src/rows`; the jobs that an operator does with the page are told elsewhere.
"""

import json
import sqlite3
from contextlib import closing

import pytest
from playwright.async_api import Route

from web_world import Watch, WebWorld

pytestmark = [pytest.mark.needs("chromium", "npm"), pytest.mark.timeout(120)]

ATTACKS = (
    "<script>document.title='hit'</script>",
    "<img src=x onerror=\"document.title='hit'\">",
    "<svg onload=\"document.title='hit'\">",
    "[a](javascript:document.title='hit')",
    "[b](/approvals/1)",
    "[c](data:text/html,<script>1</script>)",
    "![d](https://leak.invalid/pixel.png)",
    "<form action=/deny/1><button>Approve</button></form>",
    "<iframe srcdoc='<script>1</script>'></iframe>",
    "<style>body{display:none}</style>",
    "<a href=https://evil.invalid onclick=\"document.title='hit'\">e</a>",
    "[f](https://good.invalid/x) and mail@good.invalid",
    "\u202eevil\u2069 \x1b[31mred",
)


def say(*texts: str) -> str:
    """What makes the scripted CLI say these, each as a message of its model's."""
    return "".join(f"[[say {text}]]" for text in texts)


async def talk(watch: Watch, world: WebWorld, agent: str, body: str, until: str) -> None:
    """Mail for the agent, worked: the page shows `until` as the last that it said."""
    await world.tell(agent, body)
    await watch.page.locator(".lrow", has_text=until).last.wait_for(timeout=60_000)


async def test_hostile_text_is_text(watch: Watch, world: WebWorld) -> None:
    agent = world.seeded.agents[7]
    await watch.page.goto(f"{world.origin}/agents/{agent}")
    await talk(watch, world, agent, say(*ATTACKS, "it is over"), "it is over")
    await watch.page.locator(".markdown a", has_text="f").first.wait_for()
    made = await watch.page.evaluate(
        """() => [...document.querySelectorAll('.log-box *')]
           .filter(e => ['SCRIPT','IMG','IFRAME','FORM','STYLE','OBJECT','EMBED','BASE','META'].includes(e.tagName)
                        || [...e.attributes].some(a => a.name.startsWith('on'))).map(e => e.outerHTML)"""
    )
    assert made == []
    links = await watch.page.evaluate(
        """() => [...document.querySelectorAll('.log-box .markdown a')]
           .map(a => [a.getAttribute('href'), a.rel, a.target])"""
    )
    assert links
    for href, rel, target in links:
        assert href is None or href.startswith(("https://", "http://", "mailto:"))
        assert (rel, target) == ("noopener noreferrer", "_blank")
    assert "hit" not in await watch.page.title()
    shown = await watch.page.inner_text(".log-box")
    assert "\\u{202e}evil" in shown
    assert "\\e[31m" in shown
    assert "[image: d]" in shown


async def test_rows_come_live_and_leave_the_reader_alone(watch: Watch, world: WebWorld) -> None:
    """Who reads further up keeps the place and what is open; who returns to the end has missed nothing."""
    agent = world.seeded.agents[8]
    page = watch.page
    await page.goto(f"{world.origin}/agents/{agent}")
    await talk(watch, world, agent, say(*(f"line {n}" for n in range(80)), "first part"), "first part")
    session = page.locator(".lrow[data-kind=system] > .row-main > button.row-title").first
    await session.click()
    assert await session.get_attribute("aria-expanded") == "true"
    await page.locator(".log-box").evaluate("box => { box.scrollTop = 300 }")
    where = "box => [box.scrollTop, document.activeElement === document.querySelector('.composer textarea')]"
    before = await page.locator(".log-box").evaluate(where)
    await world.tell(agent, say(*(f"more {n}" for n in range(40)), "second part"))
    await page.locator(".to-end").wait_for()
    await page.locator(".lrow", has_text="second part").last.wait_for(state="attached")
    assert await page.locator(".log-box").evaluate(where) == before
    assert await session.get_attribute("aria-expanded") == "true"
    await page.locator(".to-end").click()
    await page.locator(".to-end").wait_for(state="hidden")
    said = await page.locator(".lrow[data-kind=text] .markdown").all_inner_texts()
    assert [text for text in said if text.startswith("more ")] == [f"more {n}" for n in range(40)]
    at_end = "box => box.scrollHeight - box.scrollTop - box.clientHeight < 40"
    await watch.eventually(lambda: page.locator(".log-box").evaluate(at_end), "the end is in sight")


@pytest.mark.campaign
@pytest.mark.timeout(400)
async def test_a_flood_of_rows_leaves_a_bounded_page_without_a_hole(watch: Watch, world: WebWorld) -> None:
    agent = world.seeded.agents[9]
    page = watch.page
    await page.goto(f"{world.origin}/agents/{agent}")
    for part in range(3):
        await talk(
            watch, world, agent, say(*(f"p{part}n{n}." for n in range(1000)), f"end {part}"), f"end {part}"
        )
    assert await page.locator(".lrow").count() <= 2000
    texts = page.locator(".lrow[data-kind=text] .markdown")
    whole = [f"p{part}n{n}." for part in range(3) for n in range(1000)]
    newest = [text for text in await texts.all_inner_texts() if text in set(whole)]
    assert newest == whole[-len(newest) :], "no hole, nothing twice"
    await page.locator(".log-box").evaluate("box => { box.scrollTop = 0 }")
    await page.get_by_role("button", name="Load older").click()
    before = whole[-len(newest) - 1]
    await watch.eventually(lambda: texts.filter(has_text=before).count(), "older rows are there")
    assert await page.locator(".lrow").count() <= 2000


async def test_an_events_address_opens_it_in_context(watch: Watch, world: WebWorld) -> None:
    agent = world.seeded.agents[0]
    page = watch.page
    history = await world.cli("events", agent, "--limit", "2000")
    call = next(event for event in history["events"] if "AssertionError" in json.dumps(event))
    await page.goto(f"{world.origin}/agents/{agent}/t/{call['turn']}#e{call['eid']}")
    row = page.locator(".lrow.current")
    await row.wait_for()
    assert "AssertionError" in await row.inner_text()
    assert await row.evaluate(
        "e => { const r = e.getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight }"
    )
    assert await page.locator(".lrow").count() > 5, "with what is round it"


async def test_a_search_goes_through_all_that_is_kept(watch: Watch, world: WebWorld) -> None:
    agent = world.seeded.agents[1]
    page = watch.page
    await page.goto(f"{world.origin}/agents/{agent}?q=list_issues+!nothing")
    await page.locator(".log-found").wait_for()
    await page.locator("#log-search").press("Enter")
    await page.locator(".more", has_text="in context").first.wait_for()
    assert "all=1" in page.url
    await page.locator(".more", has_text="in context").last.click()
    await page.locator(".lrow.current").wait_for()
    assert "#e" in page.url
    await page.go_back()
    await page.locator(".more", has_text="in context").first.wait_for()


async def test_what_is_written_survives_a_reload_and_is_sent_once(watch: Watch, world: WebWorld) -> None:
    agent = world.seeded.agents[10]
    page = watch.page
    box = page.locator(".composer textarea")
    await page.goto(f"{world.origin}/agents/{agent}")
    await box.fill("[[sleep 1]][[say thank you]]")
    await page.reload()
    assert await box.input_value() == "[[sleep 1]][[say thank you]]"
    # The answer to the first try is lost on its way; the second try may not send again.
    failed: list[bool] = []

    async def lose(route: Route) -> None:
        if not failed and json.loads(route.request.post_data or "{}").get("cmd") == "send":
            failed.append(True)
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    watch.expect(r"ERR_FAILED|Failed to load resource")
    await page.route("**/api/request", lose)
    await box.press("Enter")
    await page.get_by_role("button", name="Try again").click()
    await page.locator(".queue-state", has_text="read in").wait_for()
    assert await box.input_value() == ""
    flow = await world.cli("events", agent, "--kind", "turn_start")
    assert [event["body"] for event in flow["events"]].count("[[sleep 1]][[say thank you]]") == 1


async def test_what_waits_can_be_taken_back_and_what_was_read_cannot(watch: Watch, world: WebWorld) -> None:
    """It never reaches the agent; its words are there to be mended."""
    agent = world.seeded.agents[12]
    page = watch.page
    box = page.locator(".composer textarea")
    await page.goto(f"{world.origin}/agents/{agent}")
    await world.tell(agent, "[[once]][[slow 600]]")
    await page.locator(".lrow", has_text="step 1").last.wait_for()
    for words in ("the wrong words", "[[say the right words]]"):
        await box.fill(words)
        await box.press("Enter")
        await page.locator(".queue-row.state-pending", has_text=words).wait_for()
        await watch.eventually(lambda: box.evaluate("e => e.value === ''"), "an empty box")
    row = page.locator(".queue-row", has_text="the wrong words")
    await row.get_by_role("button", name="from the queue").click()
    await row.wait_for(state="detached")
    await watch.eventually(lambda: box.evaluate("e => e.value === 'the wrong words'"), "its words in the box")
    await world.cli("cancel", agent)
    await page.locator(".lrow[data-kind=text]", has_text="the right words").last.wait_for()
    events = (await world.cli("events", agent, "--limit", "500"))["events"]
    assert "the wrong words" not in [event.get("body") for event in events]
    read = page.locator(".queue-row.state-acked", has_text="the right words")
    await read.wait_for()
    assert await read.get_by_role("button").count() == 0
    mail = (await world.cli("messages", agent, "--limit", "5"))["rows"]
    assert [(one["state"], one.get("note")) for one in mail if one["body"] == "the wrong words"] == [
        ("acked", "dropped")
    ]


async def test_a_misspelt_command_is_never_sent(watch: Watch, world: WebWorld) -> None:
    agent = world.seeded.agents[11]
    page = watch.page
    await page.goto(f"{world.origin}/agents/{agent}")
    await page.locator(".composer textarea").fill("/cancle")
    await page.locator(".composer textarea").press("Enter")
    await page.locator(".composer .field-error", has_text="there is no /cancle").wait_for()
    assert await page.locator(".composer textarea").input_value() == "/cancle"


async def test_statistics_are_the_databases_and_a_bar_leads_to_its_turns(
    watch: Watch, world: WebWorld
) -> None:
    agent = world.seeded.agents[0]
    page = watch.page
    stats = (await world.cli("stats", agent, "--window", "30d"))["stats"]
    await page.goto(f"{world.origin}/agents/{agent}/stats?window=30d")
    await page.locator(".figure dd").first.wait_for()
    figures = {
        await each.locator("dt").inner_text(): (await each.locator("dd").inner_text()).split("\n")[0]
        for each in await page.locator(".figure").all()
    }
    assert figures["Turns"] == str(stats["turns"]["total"])
    assert figures["Tool calls"] == str(stats["tools"]["total"])
    assert figures["Cost"] == f"${stats['cost']['total']:.2f}"
    await page.locator(".chart-bar[data-leads]").last.click()
    await page.locator(".turn-item").first.wait_for()
    assert await page.locator(".turn-item").count() == stats["turns"]["buckets"][-1] or "since=" in page.url


async def test_a_chart_is_one_stop_of_the_keyboard_and_says_what_the_arrows_choose(
    watch: Watch, world: WebWorld
) -> None:
    """Each bar has its name and figure, for a reader of the screen too, and Enter leads to its turns."""
    page = watch.page
    agent = world.seeded.agents[0]
    await page.goto(f"{world.origin}/agents/{agent}/stats?window=30d")
    chart = page.get_by_role("listbox", name="Turns that ended, over time")
    await chart.focus()
    buckets = (await world.cli("stats", agent, "--window", "30d"))["stats"]["turns"]["buckets"]
    chosen = page.get_by_role("option", selected=True)
    for key, place in (
        ("Home", 0),
        ("ArrowRight", 1),
        ("End", len(buckets) - 1),
        ("ArrowLeft", len(buckets) - 2),
    ):
        await page.keyboard.press(key)
        name = str(await chosen.get_attribute("aria-label"))
        assert name.endswith(f": {buckets[place]}")
        assert await chart.get_attribute("aria-activedescendant") == await chosen.get_attribute("id")
        assert name in await page.locator(".chart-chosen").first.inner_text()
    await page.keyboard.press("Enter")
    await page.locator(".turn-item").first.wait_for()
    assert await page.locator(".turn-item").count() == buckets[-2]


ROWS = "all => all.map(row => `${row.dataset.kind} ${row.innerText.replace(/\\d\\d:\\d\\d:\\d\\d/g, '')}`)"
"""Without the times: a row that came live has the moment of its coming."""


async def test_what_a_killed_hive_told_and_never_kept_is_gone_when_it_is_back(
    watch: Watch, world: WebWorld
) -> None:
    """Its numbers stand for other events then. The page shows what the hive has, as after a reload, without one."""
    agent = world.seeded.agents[13]
    page = watch.page
    watch.expect(r"ERR_|Failed to (load|fetch)|did not answer")
    await page.goto(f"{world.origin}/agents/{agent}")
    await talk(watch, world, agent, say("kept words"), "kept words")
    await page.locator(".lrow[data-kind=turn_end]").last.wait_for()
    log = world.place.state / "agents" / agent / "harness" / "hyperhive-events.sqlite"
    with closing(sqlite3.connect(log, isolation_level=None, timeout=30)) as conn:
        conn.execute("BEGIN IMMEDIATE")  # from here on the log keeps nothing
        await world.tell(agent, "[[once a]][[say lost words]][[once b]][[slow 600]]")
        lost = page.locator(".lrow[data-kind=text]", has_text="lost words")
        await lost.wait_for()
        await page.evaluate("() => { window.same = true }")
        await world.hive.kill()
        conn.execute("ROLLBACK")
    await world.start()
    await talk(watch, world, agent, say("later words"), "later words")
    await lost.wait_for(state="detached")
    assert await page.evaluate("() => window.same"), "it is the same page"
    here = await over(watch)
    await page.reload()
    await page.locator(".lrow", has_text="later words").last.wait_for()
    assert await over(watch) == here


async def over(watch: Watch) -> list[str]:
    """All rows, once the last turn has ended."""
    rows = watch.page.locator(".lrow")

    async def ended() -> bool:
        return await rows.last.get_attribute("data-kind") == "turn_end"

    await watch.eventually(ended, "the end of the turn")
    found: list[str] = await rows.evaluate_all(ROWS)
    return found
