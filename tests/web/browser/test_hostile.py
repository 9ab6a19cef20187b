"""Attacks W4, W5 and S7 in a real browser: what an agent controls is text in every field of every screen.

The corpus goes through every field that an agent (or what it runs) fills: what it can say by its socket it says there,
its past is written as its harness writes it. A page made nothing of it, asked nobody, and ran nothing.
"""

import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest
from playwright.async_api import Browser

from config_stage import git
from hive_process import HivePlace, Json
from hostile_texts import ALL, HOSTILE, LOOK, NEVER, RECORD, mark, marked
from hyperhive.eventlog import EventLogs
from hyperhive.harness.stats import STATS_FILE
from hyperhive.protocol.events import AnyLiveEvent, Note, Stream, TurnEnd, TurnStart
from hyperhive.protocol.live import encode_live, kind_of
from scripted_login import install_cli_that_logs_in
from web_seed import Scale, Seeded, seed
from web_world import HIVE_TOML, Watch, WebWorld, context_of, log_in

pytestmark = [pytest.mark.needs("chromium", "npm", "git"), pytest.mark.timeout(300)]

ONE = Scale(agents=5, messages=60, turns=12, pasts=1, real=5)
MANY = "\n\n".join(marked(n) for n in ALL)
SHORT = [n for n in ALL if len(marked(n)) < 200]
"""Those that fit into a name."""


def frames(turn: int) -> list[AnyLiveEvent]:
    """A turn in whose every field stands every text."""
    said: list[AnyLiveEvent] = [TurnStart(sender="manager", body=MANY, unread=1, turn=turn)]
    for n in ALL:
        text = marked(n)
        said += [
            _line(turn, _assistant({"type": "text", "text": text})),
            _line(turn, _assistant({"type": "thinking", "thinking": text, "signature": "x"})),
            Note(text=text, source="cli", turn=turn),
        ]
    for n, (tool, key) in enumerate((
        ("Bash", "command"), ("Read", "file_path"), ("Write", "content"), ("WebFetch", "url"), ("Task", "prompt"),
        ("mcp__hyperhive__send", "body"), ("mcp__hyperhive__ask", "question"), (marked(3), marked(4)),
        ("mcp__tracker__x", marked(40)), ("Edit", "new_string"), ("TodoWrite", "todos"), ("Grep", "pattern"),
    )):  # fmt: skip
        given: Json = {
            key: MANY,
            "description": marked(n),
            "file_path": marked(n + 1),
            "to": marked(n),
        }
        if tool == "TodoWrite":
            given = {
                "todos": [{"content": marked(each), "status": "pending", "activeForm": "x"} for each in ALL]
            }
        call = f"toolu_{turn}_{n}"
        block = {"type": "tool_result", "tool_use_id": call, "content": MANY, "is_error": n % 2 == 0}
        said += [
            _line(turn, _assistant({"type": "tool_use", "id": call, "name": tool, "input": given})),
            _line(
                turn,
                {"type": "user", "parent_tool_use_id": None, "message": {"role": "user", "content": [block]}},
            ),
        ]
    for kind in (
        "system",
        "never_heard_of",
        marked(5),
        "rate_limit_event",
        "control_request",
        "user",
        "result",
    ):
        odd = {
            "type": kind,
            "subtype": marked(6),
            "message": MANY,
            "result": MANY,
            marked(7): MANY,
            "model": marked(8),
        }
        said.append(_line(turn, odd))
    said.append(_line(turn, _assistant({"type": marked(9), "text": MANY, "source": {"data": MANY}})))
    said.append(TurnEnd(ok=False, note=MANY, turn=turn))
    return said


def _line(turn: int, line: Json) -> Stream:
    return Stream(line=json.dumps(line).encode(), turn=turn)


def _assistant(block: Json) -> Json:
    return {
        "type": "assistant", "parent_tool_use_id": None, "session_id": marked(1), "uuid": "u",
        "message": {"id": "m", "type": "message", "role": "assistant", "model": marked(2), "content": [block]},
    }  # fmt: skip


async def past(state: Path, name: str) -> None:
    """The agent's past, hostile: events, statistics, and what the hive keeps of it."""
    harness = state / "agents" / name / "harness"
    logs = EventLogs()
    try:
        events = await logs.open(harness / "hyperhive-events.sqlite")
        for event in frames(900):
            events.append(int(time.time()), kind_of(event), encode_live(event))
    finally:
        await logs.aclose()

    def rows() -> None:
        tools = msgspec.json.encode({marked(n): n + 1 for n in SHORT[:20]}).decode()
        with closing(sqlite3.connect(harness / STATS_FILE)) as db, db:
            db.execute(
                "UPDATE turn_stats SET model = ?, wake_from = ?, tool_call_breakdown_json = ?",
                (marked(2), marked(3), tools),
            )
        with closing(sqlite3.connect(state / "hive.sqlite")) as db, db:
            db.execute("UPDATE spending SET model = ?, priced_as = ?", (marked(4), marked(5)))
            db.execute("UPDATE messages SET reason = ? WHERE parked = 'dead'", (MANY,))

    await anyio.to_thread.run_sync(rows)


def told(request: Json) -> Json:
    """The request without what is refused of everybody."""
    found: Json = json.loads(json.dumps(request).replace("\\u0000", ""))
    return found


async def speak(world: WebWorld, name: str) -> None:
    """All that an agent can tell the operator and others, by its own socket."""
    files = world.place.state / "agents" / name / "state"
    for n in SHORT[:6]:
        (files / f"{n}<img src=x class=canary onerror=1>.md".replace("/", "")).write_text(MANY)
    (files / "plain.md").write_text(MANY)
    named = " ".join(f"/state/{path.name}" for path in files.iterdir())
    requests: list[Json] = [
        *({"cmd": "send", "to": "operator", "body": body} for body in (*map(marked, ALL[::2]), MANY, named)),
        {"cmd": "send", "to": world.seeded.agents[1], "body": MANY},
        *({"cmd": "remind", "message": MANY[:3_000], "delay_seconds": at} for at in (60, 3_000)),
    ]
    plain = [n for n in SHORT if marked(n).isprintable()]  # others are refused as options
    for part in range(0, len(plain), 8):
        options = [marked(n) for n in plain[part : part + 8]]
        requests.append({"cmd": "ask", "question": MANY, "options": options, "multi": part % 16 == 0})
    for request in requests:
        reply = await world.ask_as(name, told(request))
        assert reply["kind"] != "err", reply
    call = {"subtype": "can_use_tool", "tool_name": marked(2), "input": {marked(0): MANY, "command": MANY}}
    await world.tell(world.seeded.agents[1], f"[[control {json.dumps(told(call))}]]")
    spawned = [
        await world.ask_as("manager", {"cmd": "request_spawn", "name": marked(n)[:63]}) for n in ALL[:5]
    ]
    assert {one["kind"] for one in spawned} == {"err"}, "no such thing is a name"


async def propose(world: WebWorld, name: str) -> list[int]:
    """A change whose files, contents and commit message are hostile; the approvals that ask for it."""
    repo = world.place.state / "proposed" / name / "config"
    await world.hive.until(lambda: (repo / ".git").exists())

    def commit() -> str:
        for n in SHORT[::3]:  # other characters are refused in a name
            name = "".join(
                char for char in marked(n) if char.isascii() and char.isprintable() and char not in '/":\\'
            )
            (repo / name[:80].strip(" .")).write_text(MANY)
        (repo / "agent.toml").write_text("model = 7\n" + "".join(f"# {line}\n" for line in MANY.splitlines()))
        (repo / "CLAUDE.md").write_text(MANY)
        git(repo, "add", "-A")
        git(repo, "commit", "-qm", MANY.replace("\x00", "")[:3000])
        return git(repo, "rev-parse", "HEAD")

    sha = await anyio.to_thread.run_sync(commit)
    reply = await world.ask_as(
        "manager", {"cmd": "request_apply_commit", "agent": name, "commit_ref": sha[:12]}
    )
    assert reply["kind"] == "ok", reply
    return [int(reply["id"])]


@pytest.fixture(scope="module")
async def world(anyio_backend: str) -> AsyncIterator[WebWorld]:
    """A small hive with a hostile agent, in all whose fields the corpus stands."""
    del anyio_backend
    claude = install_cli_that_logs_in(Path(tempfile.mkdtemp(prefix="hh-", dir="/tmp")) / "claude")
    login = claude.with_name("login.py")
    words = "".join(marked(n).replace("\n", " ") for n in ALL if "https://" not in marked(n))
    refusal = '"That doesn\'t look like the full code."'
    assert refusal in login.read_text()
    login.write_text(login.read_text().replace(refusal, ascii(words)))
    place = HivePlace(claude, runtime="process", toml=HIVE_TOML, environ={"ANTHROPIC_API_KEY": ""})
    seeded: Seeded = await seed(place, ONE)
    await past(place.state, seeded.agents[0])
    world = WebWorld(place, seeded)
    try:
        await world.start()
        await world.cli("start", "manager")
        yield world
    finally:
        await world.aclose()
        shutil.rmtree(claude.parent, ignore_errors=True)


@pytest.fixture
async def watch(browser: Browser, world: WebWorld) -> AsyncIterator[Watch]:
    """An operator's page, which keeps what its policy refused."""
    async with context_of(browser) as context:
        await context.add_init_script(RECORD)
        one = await log_in(context, world)
        yield one
        assert not one.unexpected()


async def harmless(watch: Watch, where: str, *, at_least: int) -> None:
    """On this page stand so many of the texts, as text."""
    await watch.settled()

    async def enough() -> bool:
        text = await everything(watch)
        return sum(mark(n) in text for n in ALL) >= at_least

    await watch.eventually(enough, f"{at_least} of the texts on {where}")
    found = await watch.page.evaluate(LOOK)
    assert found == [], f"{where}: {found[:5]}"
    text = await everything(watch)
    shown = {hex(ord(char)) for char in NEVER if char in text}
    assert not shown, f"{where}: {shown} as they are in {await holders(watch)}"
    assert not watch.unexpected(), f"{where}: {watch.unexpected()[:5]}"


async def everything(watch: Watch) -> str:
    """All text of the page, and what stands in titles and labels."""
    found: str = await watch.page.evaluate(
        """() => document.title + document.body.textContent + [...document.querySelectorAll('[title], [aria-label]')]
               .map(e => e.title + (e.getAttribute('aria-label') ?? '')).join('')"""
    )
    return found


async def holders(watch: Watch) -> list[str]:
    """The elements in which characters stand that do not show."""
    found: list[str] = await watch.page.evaluate(
        """never => [...document.querySelectorAll('body *')].filter(e =>
            [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data)
            .concat([e.title ?? '', e.getAttribute('aria-label') ?? '']).some(t => [...t].some(c => never.includes(c))))
            .slice(0, 5).map(e => `${e.tagName}.${e.className} in ${e.parentElement.className}`)""",
        NEVER,
    )
    return found


async def unfold(watch: Watch, rounds: int = 3) -> None:
    """Opens all that is folded on the screen."""
    for _ in range(rounds):
        opened = await watch.page.evaluate(
            """() => {
                const shut = [...document.querySelectorAll('main button[aria-expanded=false]:not([aria-haspopup])')];
                shut.forEach(e => e.click());
                document.querySelectorAll('main details:not([open])').forEach(e => { e.open = true });
                return shut.length;
            }"""
        )
        await watch.page.evaluate("() => new Promise(done => setTimeout(done, 50))")
        if not opened:
            return


def test_the_corpus_is_large() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


async def test_what_looks_for_harm_finds_it(watch: Watch) -> None:
    """The check of all others here: elements that agents' texts would make, made by hand."""
    for made in (
        "a.href = '/approve/canary'", "a.href = 'javascript:1'", "a.href = 'https://x.invalid/'",
        "a.className = 'canary'", "a.append(document.createElement('iframe'))", "window.__canary = 1",
    ):  # fmt: skip
        await watch.page.evaluate(
            f"() => {{ const a = document.createElement('a'); document.body.append(a); {made}; window.__made = a; }}"
        )
        assert await watch.page.evaluate(LOOK), made
        await watch.page.evaluate("() => { window.__made.remove(); delete window.__canary; }")
    assert await watch.page.evaluate(LOOK) == []


SCREENS: Sequence[tuple[str, int]] = (
    ("/", 0), ("/needs-you", 20), ("/questions", 20), ("/approvals", 0), ("/inbox", 20), ("/messages", 20),
    ("/dead", 20), ("/audit", 0), ("/stats", 0), ("/logs", 0), ("/meta", 0), ("/sessions", 0), ("/search?q=canary", 10),
    ("/agents/NAME/turns", 1), ("/agents/NAME/stats?window=30d", 3), ("/config/NAME", 0), ("/logs/NAME", 0),
)  # fmt: skip


async def test_every_screen_shows_it_as_text(watch: Watch, world: WebWorld) -> None:
    name = world.seeded.agents[0]
    await speak(world, name)
    numbers = await propose(world, name)
    await watch.open("/")
    for path, least in SCREENS:
        await watch.go(path.replace("NAME", name))
        await unfold(watch)
        await harmless(watch, path, at_least=least)
    for question in (await world.cli("questions"))["questions"]:
        if mark(0) in question["question"]:
            await watch.go(f"/questions/{question['id']}")
            await harmless(watch, "a question", at_least=5)
    for number in numbers:
        await watch.go(f"/approvals/{number}")
        await unfold(watch)
        await harmless(watch, "an approval", at_least=len(SHORT) // 3)


async def test_the_live_terminal_shows_it_as_text(watch: Watch, world: WebWorld) -> None:
    """Every kind of row, known and unknown, folded and open."""
    name = world.seeded.agents[0]
    await watch.open(f"/agents/{name}")
    await harmless(watch, "the terminal", at_least=len(HOSTILE) - 2)
    await unfold(watch, 5)
    await harmless(watch, "the terminal, unfolded", at_least=len(HOSTILE) - 2)
    await watch.go(f"/agents/{name}?q=canary")
    await harmless(watch, "what was found in it", at_least=10)


async def test_what_comes_live_is_text_too(watch: Watch, world: WebWorld) -> None:
    name = world.seeded.agents[2]
    await watch.open(f"/agents/{name}")
    texts = [n for n in ALL if "]]" not in marked(n) and "\x00" not in marked(n)]
    said = [each for each in texts if len(marked(each)) < 1000]
    await world.tell(name, "".join(f"[[say {marked(n)}]]" for n in said) + "[[say it is over]]")
    await watch.page.locator(".lrow", has_text="it is over").last.wait_for(timeout=60_000)
    await harmless(watch, "the live terminal", at_least=len(said) - 2)


async def test_a_files_name_and_content_are_text(watch: Watch) -> None:
    await watch.open("/inbox")
    await unfold(watch)
    for button in await watch.page.locator("main .file-ref button, main .files button").all():
        await button.click()
    await harmless(watch, "files", at_least=20)


async def test_what_a_login_says_is_text(watch: Watch, world: WebWorld) -> None:
    name = world.seeded.agents[2]
    await watch.open(f"/agents/{name}?login=1")
    await watch.page.locator(".login-open").wait_for(timeout=30_000)
    await watch.page.locator(".login-code").fill("a-wrong#code")
    await watch.page.locator(".login-code").press("Enter")
    await harmless(watch, "a login", at_least=10)


async def test_trusted_types_are_enforced_and_nothing_inline_runs(watch: Watch) -> None:
    """Also a bug of ours could not make markup of a text by accident."""
    watch.expect("Trusted|Content Security Policy|violates")
    passed = await watch.page.evaluate(
        """() => {
            const passed = [];
            const tries = {
                innerHTML: () => { document.body.innerHTML = '<b>canary</b>'; },
                insert: () => { document.body.insertAdjacentHTML('beforeend', '<b></b>'); },
                script: () => { document.createElement('script').src = '/assets/x.js'; },
                handler: () => { document.createElement('b').setAttribute('onclick', '1'); },
                frame: () => { document.createElement('iframe').srcdoc = '<b>'; },
                parse: () => { new DOMParser().parseFromString('<b>', 'text/html'); },
                policy: () => { trustedTypes.createPolicy('mine', {}); },
                twice: () => { trustedTypes.createPolicy('hive-worker', {}); },
                worker: () => { new Worker('data:text/javascript,1'); },
                eval: () => { (0, eval)('1'); },
                made: () => { new Function('1')(); },
            };
            const all = () => {
                for (const [name, run] of Object.entries(tries)) try { run(); passed.push(name); } catch { }
            };
            // What the debugger runs may evaluate text; what a timer runs is the page's own.
            return new Promise(done => setTimeout(() => { all(); done(passed); }));
        }"""
    )
    assert passed == []
    await watch.page.evaluate(
        """() => {
            const s = document.createElement('style'); s.textContent = 'body {outline: 7px solid red}';
            document.head.append(s);
        }"""
    )
    assert await watch.page.evaluate("() => getComputedStyle(document.body).outlineWidth") != "7px"
