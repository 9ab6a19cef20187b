"""What an operator sees while lines break, hives die and others were quicker: nothing lost, nothing twice, and told so.

Each page is compared with what the hive itself kept of the same agent. Lines fail by `line_proxy`, hives by SIGKILL.
Answers that come too late and proposals that moved are also in `test_decisions`.
"""

import random
import time
from collections.abc import AsyncIterator
from itertools import count

import anyio
import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route

from line_proxy import LineProxy, line_to
from web_world import Watch, WebWorld, context_of, log_in

pytestmark = [pytest.mark.needs("chromium", "npm"), pytest.mark.timeout(240)]

LOST = "The connection to the hive is lost."
MISSED = r"Failed to load resource|ERR_|net::|the hive did not answer"
"""What a browser logs of a server that is not there."""

ALONE = """
    Object.defineProperty(window, 'SharedWorker', {value: undefined});
    Object.defineProperty(navigator, 'locks', {value: undefined});
"""
"""A page that holds the stream itself, so that the page's clock is the stream's."""


@pytest.fixture
async def line(world: WebWorld) -> AsyncIterator[LineProxy]:
    """A line to the hive that can fail."""
    async with line_to(world.port) as line:
        yield line


async def log_in_over(context: BrowserContext, world: WebWorld, line: LineProxy, path: str = "/") -> Watch:
    """As `log_in`, over this line."""
    watch = Watch(await context.new_page(), line.origin)
    watch.expect(MISSED)
    await watch.page.goto((await world.link()).replace(world.origin, line.origin))
    await watch.page.wait_for_url(lambda url: "/login" not in url)
    await watch.open(path)
    await live(watch)
    return watch


async def live(watch: Watch, seconds: float = 40) -> None:
    """Returns when no banner tells of a line that is down."""

    async def clear() -> bool:
        return await watch.page.locator(".stage > div[role=status] .banner").count() == 0

    await watch.eventually(clear, "the line stands", seconds)


async def told(watch: Watch, words: str, seconds: float = 30) -> None:
    """Returns when the page says so."""
    await watch.page.get_by_text(words).first.wait_for(timeout=seconds * 1000)


_numbers = count()


async def say(world: WebWorld, agent: str, *texts: str) -> str:
    """Has the agent say these; returns the last words of that turn."""
    last = f"done {next(_numbers)}"
    await world.tell(agent, "".join(f"[[say {text}]]" for text in (*texts, last)))
    return last


async def kept(world: WebWorld, agent: str) -> list[str]:
    """All that the agent said, as the hive keeps it."""
    page = await world.cli("events", agent, "--limit", "2000", "--kind", "stream")
    said = []
    for event in page["events"]:
        if event.get("type") == "assistant":
            said += [block["text"] for block in event["message"]["content"] if block["type"] == "text"]
    return said


async def shown(page: Page) -> list[str]:
    """All that it said, as the page shows it."""
    return await page.locator(".lrow[data-kind=text] .markdown").all_inner_texts()


def steps(texts: list[str]) -> set[str]:
    """What a slow turn said of its way."""
    return {text for text in texts if text.startswith("step ")}


async def level(watch: Watch, world: WebWorld, agent: str, last: str) -> None:
    """Returns when the page shows what the hive kept up to these words: each once, in order, without a reload."""
    await watch.page.locator(".lrow[data-kind=text]", has_text=last).last.wait_for(timeout=60_000)
    whole = await kept(world, agent)

    async def same() -> bool:
        return await shown(watch.page) == whole

    try:
        await watch.eventually(same, f"{agent}'s page", 30)
    except AssertionError:
        assert await shown(watch.page) == whole
        raise


async def test_a_hive_that_is_killed_in_mid_stream_and_comes_back(watch: Watch, world: WebWorld) -> None:
    """The banner comes after three seconds and goes by itself; what was being written is still there."""
    agent = world.seeded.agents[6]
    page = watch.page
    watch.expect(MISSED)
    await watch.open(f"/agents/{agent}")
    await level(watch, world, agent, await say(world, agent, "one", "two"))
    await page.evaluate("() => { window.same = true }")
    await page.locator(".composer textarea").fill("not sent yet")
    await world.tell(agent, "[[once]][[slow 60]]")
    await page.locator(".lrow", has_text="step 3").last.wait_for()
    killed = time.monotonic()
    await world.hive.kill()
    await told(watch, LOST)
    noticed = time.monotonic() - killed
    await page.get_by_role("button", name="Retry now").click()
    await world.start()
    listens = time.monotonic()
    await live(watch)
    print(
        f"banner {noticed:.1f} s after the kill, gone {time.monotonic() - listens:.1f} s after it was ready"
    )
    assert noticed >= 3, "silent at first"
    last = await say(world, agent, "three", "four")
    await page.locator(".lrow[data-kind=text]", has_text=last).last.wait_for(timeout=60_000)
    texts, whole = await shown(page), await kept(world, agent)
    assert texts.count("three") == texts.count("four") == 1
    # What was said in the very moment may not have been kept; who saw it still does.
    assert [text for text in texts if text in whole] == whole, "nothing lost"
    assert {text: texts.count(text) for text in texts if "step" in text} == dict.fromkeys(steps(texts), 1)
    assert await page.locator(".composer textarea").input_value() == "not sent yet"
    assert await page.evaluate("() => window.same"), "it is the same page"


async def test_a_line_that_drops_doubles_and_reorders_frames(
    browser: Browser, world: WebWorld, line: LineProxy
) -> None:
    agent = world.seeded.agents[7]
    dice = random.Random(5)
    waiting: list[bytes] = []
    done = {"dropped": 0, "doubled": 0, "late": 0}

    def spoil(event: bytes) -> list[bytes]:
        if b'"heartbeat"' in event or b'"resume"' in event:
            return [event]
        late = [waiting.pop()] if waiting else []
        chance = dice.random()
        if chance < 0.1:
            done["dropped"] += 1
            return late
        if chance < 0.3:
            done["doubled"] += 1
            return [event, event, *late]
        if chance < 0.5 and not late:
            done["late"] += 1
            waiting.append(event)
            return []
        return [event, *late]

    async with context_of(browser) as context:
        watch = await log_in_over(context, world, line, f"/agents/{agent}")
        line.spoil = spoil
        for part in range(4):
            last = await say(world, agent, *(f"{part}.{n}" for n in range(25)))
            if part == 3:
                line.spoil = None
                last = await say(world, agent, "the end")
            await level(watch, world, agent, last) if part == 3 else None
        assert min(done.values()) > 3, done
        assert not watch.unexpected()


async def test_a_line_that_breaks_again_and_again(browser: Browser, world: WebWorld, line: LineProxy) -> None:
    agent = world.seeded.agents[8]
    async with context_of(browser) as context:
        watch = await log_in_over(context, world, line, f"/agents/{agent}")
        for part in range(5):
            await say(world, agent, *(f"{part}.{n}" for n in range(10)))
            await line.cut()
        last = await say(world, agent, "the end")
        await level(watch, world, agent, last)
        await live(watch)
        assert line.streams >= 5
        assert not watch.unexpected()


async def test_a_line_that_dies_in_silence_is_noticed(
    browser: Browser, world: WebWorld, line: LineProxy
) -> None:
    """By the third heartbeat that does not come while somebody looks: 45 s after the last, which may be 15 s ago."""
    agent = world.seeded.agents[9]
    async with context_of(browser) as context:
        await context.add_init_script(ALONE)
        watch = await log_in_over(context, world, line, f"/agents/{agent}")
        await watch.page.clock.install()
        await watch.page.reload()
        await watch.settled()
        await live(watch)
        line.stall()
        await watch.page.clock.fast_forward(15_000)
        assert await watch.page.get_by_text("fell silent").count() == 0
        await watch.page.clock.fast_forward(31_000)
        await watch.page.clock.fast_forward(4_000)
        await told(watch, "The hive fell silent.")
        last = await say(world, agent, "said meanwhile")
        line.flow()
        await watch.page.clock.fast_forward(12_000)
        await watch.page.clock.run_for(2_000)
        await live(watch)
        await level(watch, world, agent, last)
        assert not watch.unexpected()


async def test_a_line_that_died_in_silence_is_noticed_at_once_by_who_comes_back_to_the_tab(
    browser: Browser, world: WebWorld, line: LineProxy
) -> None:
    agent = world.seeded.agents[10]
    looks = """how => {
        Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => how});
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    async with context_of(browser) as context:
        await context.add_init_script(ALONE)
        watch = await log_in_over(context, world, line, f"/agents/{agent}")
        await watch.page.clock.install()
        await watch.page.reload()
        await watch.settled()
        await live(watch)
        await watch.page.evaluate(looks, "hidden")
        line.stall()
        before = line.streams
        last = await say(world, agent, "said meanwhile")
        await watch.page.clock.fast_forward(20_000)
        await watch.page.evaluate(looks, "visible")
        await watch.page.clock.run_for(1_000)
        line.flow()
        await watch.eventually(lambda: reached(lambda: line.streams > before), "another try within a second")
        await level(watch, world, agent, last)
        assert not watch.unexpected()


async def reached(true: object) -> bool:
    """A plain predicate for `eventually`."""
    assert callable(true)
    return bool(true())


@pytest.mark.parametrize("tabs", [4, pytest.param(8, marks=pytest.mark.campaign)])
async def test_tabs_share_one_stream_and_all_are_live(
    browser: Browser, world: WebWorld, line: LineProxy, tabs: int
) -> None:
    agent = world.seeded.agents[11]
    async with context_of(browser) as context:
        first = await log_in_over(context, world, line, f"/agents/{agent}")
        watches = [first]
        for _ in range(tabs - 1):
            watch = Watch(await context.new_page(), line.origin)
            watch.expect(MISSED)
            await watch.open(f"/agents/{agent}")
            watches.append(watch)
        last = await say(world, agent, "to all")
        for watch in watches:
            await level(watch, world, agent, last)
        assert line.open_streams == 1
        for watch in watches[: tabs // 2]:
            await watch.page.close()
        last = await say(world, agent, "to those that are left")
        for watch in watches[tabs // 2 :]:
            await level(watch, world, agent, last)
            assert not watch.unexpected()
        assert line.open_streams == 1


async def test_an_answer_that_comes_too_late_is_offered_as_a_message(
    browser: Browser, world: WebWorld
) -> None:
    agent = world.seeded.agents[12]
    asked = await world.ask_as(agent, {"cmd": "ask", "question": "Which name?", "to": "operator"})
    number = int(asked["id"])
    async with context_of(browser) as one, context_of(browser) as other:
        first, second = await log_in(one, world), await log_in(other, world)
        second.expect("409")
        for watch in (first, second):
            await watch.open(f"/questions/{number}")
        held = anyio.Event()

        async def late(route: Route) -> None:
            if (route.request.post_data_json or {}).get("cmd") == "answer":
                await held.wait()
            await route.continue_()

        await second.page.route("**/api/request", late)
        await second.page.locator("main textarea, main input[type=text]").first.fill("call it Basil")
        await second.page.keyboard.press("Control+Enter")
        await first.page.locator("main textarea, main input[type=text]").first.fill("call it Sybil")
        await first.page.keyboard.press("Control+Enter")
        await told(first, "Answered by operator")
        held.set()
        await told(second, "Answered by operator")
        await told(second, "call it Sybil")
        await second.page.get_by_role("button", name="message").first.click()
        await second.eventually(lambda: arrived(world, agent, "call it Basil"), "the message")
        assert not first.unexpected()
        assert not second.unexpected()
    (question,) = (await world.cli("questions", str(number)))["questions"]
    assert question["answer"] == "call it Sybil"


async def arrived(world: WebWorld, agent: str, words: str) -> bool:
    """Whether such mail is there."""
    return any(one.recipient == agent and words in one.body for one in world.place.mail())


async def test_a_newer_build_is_offered_and_never_forced(
    browser: Browser, world: WebWorld, line: LineProxy
) -> None:
    agent = world.seeded.agents[13]
    async with context_of(browser) as context:
        watch = await log_in_over(context, world, line, f"/agents/{agent}")
        await watch.page.evaluate("() => { window.same = true }")
        await watch.page.locator(".composer textarea").fill("half a sentence")

        async def newer(route: Route) -> None:
            answer = await route.fetch()
            body = (await answer.text()).replace('src="/assets/', 'src="/assets/newer-')
            await route.fulfill(response=answer, body=body)

        await watch.page.route(f"{line.origin}/", newer)
        await line.cut()
        await told(watch, "newer version")
        await told(watch, "What you are writing is kept.")
        assert await watch.page.evaluate("() => window.same")
        await watch.page.unroute_all()
        await watch.page.get_by_role("button", name="Refresh to update").click()
        await watch.settled()
        assert await watch.page.locator(".composer textarea").input_value() == "half a sentence"
        assert not watch.unexpected()


async def test_a_session_that_is_ended_elsewhere_leads_to_the_login_and_back(
    browser: Browser, world: WebWorld
) -> None:
    agent = world.seeded.agents[14]
    async with context_of(browser) as mine, context_of(browser) as other:
        watch = await log_in(mine, world, f"/agents/{agent}")
        watch.expect("401")
        await watch.page.locator(".composer textarea").fill("what I was about to say")
        at_home = await log_in(other, world, "/sessions")
        await at_home.page.get_by_role("button", name="Log out", exact=True).nth(1).click()
        await watch.page.wait_for_url(lambda url: "/login" in url)
        await watch.page.get_by_role("heading", name="Sign in").wait_for()
        link = await world.link()
        await watch.page.locator("main input").fill(link)
        await watch.page.keyboard.press("Enter")
        await watch.page.wait_for_url(lambda url: f"/agents/{agent}" in url)
        await watch.settled()
        assert await watch.page.locator(".composer textarea").input_value() == "what I was about to say"
        assert not watch.unexpected()


async def test_a_browser_without_a_network_says_so_and_is_back_at_once(
    browser: Browser, world: WebWorld, line: LineProxy
) -> None:
    agent = world.seeded.agents[15]
    async with context_of(browser) as context:
        watch = await log_in_over(context, world, line, f"/agents/{agent}")
        line.refuse(refuse=True)
        await line.cut()
        await context.set_offline(True)
        await told(watch, "No network.")
        last = await say(world, agent, "said meanwhile")
        line.refuse(refuse=False)
        await context.set_offline(False)
        await live(watch)
        await level(watch, world, agent, last)
        assert not watch.unexpected()
