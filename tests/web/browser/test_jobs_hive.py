"""What an operator comes for, continued: catching up, logins, money, deploys, destroying, decisions, trust.

On the same hive of many agents as `test_jobs.py`. How a page stands a broken line is told in full
in `test_faults.py`; here is what the operator sees of it.
"""

import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from playwright.async_api import Browser, StorageState

from hyperhive.client import connect
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import TurnRows
from web_jobs import Figures, Operator, ask, operator_at, propose, resolved
from web_seed import LARGE, Scale
from web_world import WebWorld, seeded_hive

pytestmark = [pytest.mark.needs("chromium", "npm", "git"), pytest.mark.timeout(240)]

AWAY = "localStorage.setItem('hive.setting.last-visit', String(Math.floor(Date.now() / 1000) - 8 * 3600))"
WORDS_A_MINUTE = 240
PASTE = """(field, text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData('text', text);
  field.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
async def world(anyio_backend: str, large: Path, scale: Scale) -> AsyncIterator[WebWorld]:
    """A hive with much in it, and a manager that can ask for things."""
    del anyio_backend
    async with seeded_hive(large / str(scale.messages), scale) as one:
        await one.cli("start", "manager")
        yield one


async def test_j8_who_was_away_reads_in_a_minute_what_has_happened(
    browser: Browser, login: StorageState, world: WebWorld, figures: Figures
) -> None:
    async with operator_at(browser, world, login, scripts=(AWAY,)) as desk:
        digest = desk.page.locator(".digest")
        line = await digest.inner_text()
        assert re.search(r"Since your last visit 8h ago: \d+ turns · \d+ failed", line.replace("\n", " ")), (
            line
        )
        assert "messages" in line
        await digest.locator(".digest-toggle").click()
        failed = digest.locator("li.bad a[href*='/t/']").first
        await failed.wait_for()
        words = len((await digest.inner_text()).split())
        figures.note(
            "J8",
            f"reading {LARGE.pasts} agents' 8 hours, {words} words",
            words * 60 / WORDS_A_MINUTE,
            "s",
            60,
        )
        await failed.click()
        await desk.page.locator(".turn-card.failed").wait_for()


async def test_j9_an_agent_is_logged_in_again_from_a_phone_with_three_taps_and_a_paste(
    handheld: Operator, world: WebWorld, figures: Figures
) -> None:
    name = world.seeded.agents[60]
    page = handheld.page
    await world.log_out(name)
    await world.tell(name, "[[say hello]]")
    need = page.locator(".need", has_text=name)
    await handheld.fresh()
    await page.locator(".bottom-tabs").get_by_text("Needs you").tap()
    await need.get_by_role("button", name="Log in").tap()
    link = page.locator("a.login-open")
    await link.wait_for()
    assert (await link.get_attribute("href") or "").startswith("https://login.example/authorize")
    assert (await link.get_attribute("rel"), await link.get_attribute("target")) == (
        "noopener noreferrer",
        "_blank",
    )
    taps = await handheld.taps() + 1  # one on that link, which leaves for a page of somebody else's
    field = page.locator(".login-code")
    await field.fill("not-it")
    await field.press("Enter")
    await page.locator("dialog").get_by_text("That doesn't look like the full code.").wait_for()
    assert not await handheld.watch.overflow()
    await field.fill("")
    await field.evaluate(PASTE, " good\n#code ")
    await field.press("Enter")
    await page.locator(".login-done").wait_for()
    figures.note("J9", "from the fleet to logged in", taps, "taps", 3)
    assert taps <= 3
    await page.get_by_role("button", name="Done").tap()
    with figures.timed("J9", "logged in to nobody's need any more", 5.0):
        await page.locator(".bottom-tabs").get_by_text("Needs you").tap()
        await need.wait_for(state="detached")


def spent(world: WebWorld, days: int) -> dict[tuple[str, int], tuple[int, int]]:
    """Tokens and billionths of a dollar by agent and day, by the database; only of those who are not at work now."""
    since = int(time.time()) // 86_400 * 86_400 - (days - 1) * 86_400
    with closing(sqlite3.connect(f"file:{world.place.state / 'hive.sqlite'}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT agent, day, tokens, cost_nano FROM spending_days WHERE day >= ?", (since,))
        spenders = spenders_of(world)
        return {(agent, day): (tokens, nano) for agent, day, tokens, nano in rows if agent in spenders}


def spenders_of(world: WebWorld) -> set[str]:
    """Who has spent before, and works no mail in these tests."""
    return set(world.seeded.agents[: LARGE.pasts])


async def a_day_with_turns(world: WebWorld, links: list[str]) -> str:
    """Of these links to an agent's day one with turns: on a day that has just begun there is spending alone."""
    async with connect(world.place.run) as client:
        for link in links:
            found = re.fullmatch(r"/agents/([a-z-]+)/turns\?since=(\d+)&until=(\d+)", link)
            assert found, link
            asked = r.Turns(name=found[1], since=int(found[2]), until=int(found[3]), limit=1)
            page = await client.request(asked)
            if isinstance(page, TurnRows) and page.turns:
                return link
    raise AssertionError("no agent had a turn in a week")


async def test_j10_tokens_by_agent_and_day_are_one_click_away_and_the_databases_own(
    desk: Operator, world: WebWorld, figures: Figures
) -> None:
    page = desk.page
    await page.locator("nav a[href='/stats']").click()
    await page.locator(".matrix table").wait_for()
    database = await anyio.to_thread.run_sync(spent, world, 7)
    cells = await page.locator(".matrix tbody a[title]").evaluate_all(
        "all => all.map(a => [a.getAttribute('href'), a.title])"
    )
    shown = {}
    for href, title in cells:
        found = re.fullmatch(r"/agents/([a-z-]+)/turns\?since=(\d+)&until=\d+", href)
        assert found, href
        if found[1] not in spenders_of(world):
            continue
        shown[found[1], int(found[2])] = int(title.split(" tokens")[0].replace(",", ""))
        price = title.split(", ")[1]
        nano = database[found[1], int(found[2])][1]
        assert price == "–" if nano == 0 else price.startswith("$"), title
    assert shown == {place: tokens for place, (tokens, _) in database.items()}
    sums = await page.locator(".matrix tbody tr").evaluate_all(
        "all => all.map(e => [e.cells[0].innerText, e.cells[1].title])"
    )
    listed = sum(int(one.replace(",", "")) for name, one in sums if name in spenders_of(world))
    assert listed == sum(tokens for tokens, _ in database.values())
    await page.locator(
        f".matrix tbody a[href='{await a_day_with_turns(world, [href for href, _ in cells])}']"
    ).click()
    await page.locator(".turn-item").first.wait_for()
    clicks = await desk.taps()
    figures.note("J10", "to an agent's day and its turns", clicks, "clicks", 2)
    assert clicks <= 2


async def test_j11_a_deploy_shows_how_far_it_is_why_it_failed_and_is_rolled_back_with_three_clicks(
    desk: Operator, world: WebWorld, figures: Figures
) -> None:
    page, name = desk.page, world.seeded.agents[5]
    number = await propose(world, name, {"CLAUDE.md": "- be kind\n"})
    await desk.fresh(f"/approvals/{number}")
    await page.get_by_role("button", name="Approve").click()
    await page.locator(".approval-steps li.done", has_text="deployed").wait_for()
    await desk.fresh(f"/agents/{name}")
    await page.locator(".tabs, [role=tablist], nav").get_by_text("Config", exact=True).click()
    await page.get_by_role("button", name="Roll back…").click()
    await page.locator("dialog .diff-code.del", has_text="be kind").wait_for()
    await page.locator("dialog").get_by_role("button", name="Roll back to #0").click()
    clicks = await desk.taps()
    figures.note("J11", "roll back, from the agent's page", clicks, "clicks", 3)
    assert clicks <= 3
    await page.locator(".approval-steps li.done", has_text="deployed").wait_for()
    broken = await propose(world, world.seeded.agents[6], {"agent.toml": "model = [\n"})
    await desk.fresh(f"/approvals/{broken}")
    await desk.says("It would fail")
    await page.get_by_role("button", name="Approve").click()
    await page.locator("dialog").get_by_role("button", name="Approve").click()
    await page.locator(".approval-failure pre").first.wait_for()
    assert "agent.toml" in await page.locator(".approval-failure").inner_text()
    assert (await resolved(world, broken))["status"] == "failed"


async def test_j12_destroying_takes_the_name_and_a_click_brings_the_agent_back(
    desk: Operator, world: WebWorld, figures: Figures
) -> None:
    page, name = desk.page, world.seeded.agents[7]
    await page.get_by_label("Filter agents").fill(name)
    await page.get_by_role("button", name=f"Actions on {name}").click()
    await page.get_by_role("menuitem", name="Destroy…").click()
    dialog = page.locator("dialog")
    destroy = dialog.get_by_role("button", name="Destroy")
    assert "so that it can be restored" in await dialog.inner_text()
    await dialog.locator("input.mono").fill(name[:-1])
    assert await destroy.is_disabled()
    await dialog.locator("input.mono").fill(name)
    await destroy.click()
    stone = page.locator(".tombstone", has_text=name)
    await stone.wait_for()
    assert re.search(r"\d+\s[kKMG]?B · destroyed ", (await stone.inner_text()).replace("\n", " "))
    await desk.fresh()
    await stone.get_by_role("button", name="Restore").click()
    await stone.wait_for(state="detached")
    await page.locator(f"#agent-{name}").wait_for()
    clicks = await desk.taps()
    figures.note("J12", "restore", clicks, "clicks", 2)
    assert clicks <= 2
    gone = world.seeded.tombstones[0]
    stone = page.locator(".tombstone", has_text=gone)
    await stone.get_by_role("button", name="Purge…").click()
    assert "Lost for good" in await dialog.inner_text()
    assert "its event history" in await dialog.inner_text()
    await dialog.locator("input.mono").fill(gone)
    await dialog.get_by_role("button", name="Purge").click()
    await stone.wait_for(state="detached")


async def test_j13_who_decided_what_is_one_click_away_and_can_be_taken_along(
    desk: Operator, world: WebWorld, figures: Figures
) -> None:
    page, name = desk.page, world.seeded.agents[8]
    number = await propose(world, name, {"CLAUDE.md": "- be brief\n"})
    await desk.fresh(f"/approvals/{number}")
    await page.keyboard.press("d")
    await page.locator("#deny-reason").fill("Not before Friday.")
    await page.keyboard.press("Control+Enter")
    await desk.says("Denied by operator on the web")
    await desk.fresh()
    await page.locator("nav a[href='/audit']").click()
    row = page.locator(".audit tr", has_text=f"#{number}").filter(has_text="denied")
    said = await row.inner_text()
    for part in (name, "operator", "web", "Not before Friday."):
        assert part in said
    sha = (await world.cli("show", str(number)))["approval"]["commit_ref"]
    assert await row.locator(f"[title*='{sha}'], [data-value='{sha}']").count() >= 1 or sha[:7] in said
    async with page.expect_download() as download:
        await page.get_by_role("button", name="JSON").click()
    clicks = await desk.taps()
    figures.note("J13", "to the audit as a file", clicks, "clicks", 2)
    assert clicks <= 2
    entries = json.loads(await anyio.Path(await (await download.value).path()).read_text())
    denied = next(one for one in entries if one["approval"] == number and one["action"] == "denied")
    assert (denied["who"], denied["channel"], denied["sha"]) == ("operator", "web", sha)
    assert denied["why"] == "Not before Friday."


async def test_j14_a_page_says_that_it_is_old_and_is_current_again_when_the_hive_is_back(
    desk: Operator, world: WebWorld, figures: Figures
) -> None:
    """What was written meanwhile is kept; what came meanwhile is there."""
    page, agent = desk.page, world.seeded.agents[33]
    desk.watch.expect(r"ERR_|Failed to (load|fetch)|connection")
    await desk.fresh(f"/agents/{agent}")
    await page.locator(".composer textarea").fill("a draft")
    await world.hive.kill()
    await page.get_by_text("What you see may be old.").wait_for()
    await world.start()
    begun = time.perf_counter()
    number = await ask(world, agent, "Are you back?")
    await page.get_by_text("What you see may be old.").wait_for(state="detached", timeout=40_000)
    await page.locator(f"a[href='/questions/{number}'], .question", has_text="Are you back?").first.wait_for()
    figures.note("J14", "hive back to page current", time.perf_counter() - begun, "s", 2)
    assert await page.locator(".composer textarea").input_value() == "a draft"
    await page.locator(".composer textarea").press("Enter")
    await page.locator(".queue-row", has_text="a draft").wait_for()
    assert [one.body for one in await anyio.to_thread.run_sync(world.place.mail)].count("a draft") == 1
