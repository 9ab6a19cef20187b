"""Tools that are marked `ask`, on the real CLI: what is not allowed has not run, and what is runs as it was shown."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest

from benches import LIMIT, Bench, Watch, ask, bench
from hyperhive.accounts import Secret
from hyperhive.broker import Limits, QuestionRow
from hyperhive.config import AgentConfig, Tools
from hyperhive.harness.harness import HarnessSettings
from hyperhive.protocol import harness_line as line
from hyperhive.protocol.events import Note, Stream, TurnEnd
from hyperhive.protocol.types import ToolCall
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from parts import claude_path
from turn_tools import told, until

pytestmark = pytest.mark.timeout(90)

VERSIONS = [
    pytest.param("2.1.328", marks=pytest.mark.needs("claude")),
    pytest.param("2.1.200", marks=pytest.mark.needs("claude-2.1.200")),
]
MARKED = AgentConfig(tools=Tools(allow=("Bash", "Read"), ask=("Bash(touch:*)",)))


@pytest.fixture(params=VERSIONS)
async def hive(request: pytest.FixtureRequest, tmp_path: Path, api: FakeAnthropic) -> AsyncIterator[Bench]:
    """A bench whose agent runs the real CLI, and must ask before it touches a file."""
    async with asking_bench(request.param, tmp_path, api) as made:
        yield made


@pytest.fixture
async def newest_hive(tmp_path: Path, api: FakeAnthropic) -> AsyncIterator[Bench]:
    """The same on the newest version alone; the test needs `claude`."""
    async with asking_bench("2.1.328", tmp_path, api) as made:
        yield made


def asking_bench(
    version: str, tmp_path: Path, api: FakeAnthropic, limits: Limits | None = None
) -> AbstractAsyncContextManager[Bench]:
    environ = {
        "HYPERHIVE_CLAUDE": str(claude_path(version)),
        "ANTHROPIC_BASE_URL": api.url,
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return bench(tmp_path, environ=environ, limits=limits)


async def prepared(hive: Bench, config: AgentConfig = MARKED) -> Path:
    """The agent's own directory; its account has a key."""
    await hive.accounts.set("default", "key", Secret("dummy-key-for-tests"))
    hive.config = config
    return hive.paths.agent_state(hive.name)


def touch(name: str) -> tuple[str, dict[str, Any]]:
    return "Bash", {"command": f"touch {name}", "description": "make it"}


def there(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.suffix == ".txt"}


async def question(hive: Bench) -> QuestionRow:
    """The one that waits for the operator, as soon as there is one."""
    await until(lambda: hive.broker.questions.open_now("operator"), LIMIT)
    [row] = await hive.broker.questions.open("operator")
    return row


async def answer(hive: Bench, text: str) -> QuestionRow:
    row = await question(hive)
    return await hive.broker.questions.answer(row.id, text, by="operator", override=True)


def turn_ended(event: Any) -> bool:
    return isinstance(event, TurnEnd)


async def test_the_operator_allows_once_always_or_denies_with_a_reason(
    hive: Bench, api: FakeAnthropic
) -> None:
    state = await prepared(hive)
    calls = (touch("a.txt"), touch("b.txt"), ("Bash", {"command": "echo free > c.txt"}), touch("a.txt"))
    api.scenario = {"rules": [tool_turn("work", *calls)]}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        message = await hive.send("work")
        await watch.state("waiting", "operator")
        row = await question(hive)
        assert row.tool == ToolCall(name="Bash", input=calls[0][1])
        assert there(state) == set(), "it waits"
        await answer(hive, "allow once")
        await watch.state("thinking")
        await answer(hive, "deny: call it something else")
        await answer(hive, "allow always")  # the first command once more: once was once
        await watch.until(turn_ended)
        assert there(state) == {"a.txt", "c.txt"}
        assert "The operator denied this: call it something else" in told(api)
        await hive.send("work")
        await answer(hive, "deny")  # b.txt; a.txt has its rule
        await watch.until(turn_ended)
        assert there(state) == {"a.txt", "c.txt"}
        assert await hive.acked(message)
    assert hive.broker.questions.open_now() == []
    assert any("waits for the operator" in note.text for note in watch.of(Note))


async def test_a_cancelled_turn_withdraws_its_question_and_nothing_runs(
    hive: Bench, api: FakeAnthropic
) -> None:
    state = await prepared(hive)
    api.scenario = {"rules": [tool_turn("work", touch("a.txt"))]}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await hive.send("work")
        row = await question(hive)
        await ask(alice, line.LineCancel)
        await until(lambda: not hive.broker.questions.open_now(), LIMIT)
        withdrawn = await hive.broker.questions.find(row.id)
        assert (withdrawn.answer, withdrawn.answerer) == ("[withdrawn: the call was given up]", "system")
        await watch.state("idle")
        api.scenario = {"default": {"blocks": ["well"]}}
        await hive.send("hello")
        await watch.until(turn_ended)
    assert there(state) == set()


@pytest.mark.needs("claude")
async def test_a_harness_that_ends_leaves_no_question_and_its_next_life_asks_anew(
    newest_hive: Bench, api: FakeAnthropic
) -> None:
    hive = newest_hive
    state = await prepared(hive)
    api.scenario = {"rules": [tool_turn("work", touch("a.txt"))]}
    async with hive.running(hive.harness()):
        message = await hive.send("work")
        first = await question(hive)
    assert hive.broker.questions.open_now() == []
    assert there(state) == set()
    async with hive.running(hive.harness()):
        second = await answer(hive, "allow once")
        assert second.id > first.id
        await until(lambda: there(state) == {"a.txt"}, LIMIT)
        await until(lambda: not hive.broker.in_flight_now("alice"), LIMIT)
    assert await hive.acked(message)


async def test_deny_outweighs_ask_and_ask_outweighs_allow(hive: Bench, api: FakeAnthropic) -> None:
    """Also where the tool is not among the allowed ones at all, and for the hive's own tools.

    Pain 12: nothing is answered by itself for want of a human; the CLI's own question tool, which is, is gone.
    """
    tools = Tools(
        allow=("Read",), deny=("WebFetch",), ask=("Bash", "WebFetch", "Read", "mcp__hyperhive__send")
    )
    state = await prepared(hive, AgentConfig(tools=tools))
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Bash", {"command": "echo hi"}),
        ("Read", {"file_path": str(state / "own.md")}),
        ("WebFetch", {"url": "http://127.0.0.1:1/", "prompt": "x"}),
        ("mcp__hyperhive__send", {"to": "bob", "body": "hi"}),
        ("AskUserQuestion", {"questions": []}),
    )
    api.scenario = {"rules": [tool_turn("work", *calls)]}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await hive.send("work")
        asked = []
        for _ in range(3):
            row = await answer(hive, "no")
            asked.append(row.tool.name if row.tool else None)
        await watch.until(turn_ended)
    assert asked == ["Bash", "Read", "mcp__hyperhive__send"]
    assert hive.broker.pending_now("bob") == 0
    frames = [event.line.decode() for event in watch.of(Stream)]
    init = next(frame for frame in frames if '"init"' in frame)
    assert '"Bash"' in init
    assert '"WebFetch"' not in init
    assert "AskUserQuestion" not in init


@pytest.mark.needs("claude")
async def test_what_is_not_marked_is_denied_as_ever(
    newest_hive: Bench, api: FakeAnthropic, tmp_path: Path
) -> None:
    """A path outside of the agent's own directory would ask as well: that is no business of the operator's queue."""
    await prepared(newest_hive, AgentConfig(tools=Tools(allow=("Edit",), ask=("Bash",))))
    outside = tmp_path / "outside.txt"
    edit = ("Edit", {"file_path": str(outside), "old_string": "", "new_string": "x"})
    api.scenario = {"rules": [tool_turn("work", edit)]}
    async with newest_hive.running(newest_hive.harness()) as alice:
        watch = Watch(alice)
        await newest_hive.send("work")
        await watch.until(turn_ended)
    assert there(tmp_path) == set()
    assert "nobody is there to be asked" in told(api)


@pytest.mark.needs("claude")
async def test_who_waits_for_the_operator_is_neither_stuck_nor_drained(
    newest_hive: Bench, api: FakeAnthropic
) -> None:
    state = await prepared(newest_hive)
    newest_hive.settings = HarnessSettings(stuck_seconds=2.5)  # a busy machine is not stuck
    api.scenario = {"rules": [tool_turn("work", touch("a.txt"))]}
    async with newest_hive.running(newest_hive.harness()) as alice:
        watch = Watch(alice)
        message = await newest_hive.send("work")
        await watch.state("waiting", "operator")
        with anyio.move_on_after(4) as waited:  # longer than stuck_seconds
            await watch.until(turn_ended)
        assert waited.cancelled_caught
        assert newest_hive.slots.running == 0, "others may have its slot meanwhile"
        alice.drain()
        assert alice.in_turn
        await answer(newest_hive, "allow once")
        with anyio.fail_after(LIMIT):
            await alice.ended()
    assert there(state) == {"a.txt"}
    assert await newest_hive.acked(message)


@pytest.mark.needs("claude")
async def test_a_subagent_asks_like_its_agent(newest_hive: Bench, api: FakeAnthropic) -> None:
    state = await prepared(
        newest_hive, AgentConfig(tools=Tools(allow=("Agent", "Task", "Bash"), ask=("Bash(touch:*)",)))
    )
    delegate = ("Agent", {"description": "x", "prompt": "the errand", "subagent_type": "general-purpose"})
    api.scenario = {
        "rules": [
            tool_turn("the errand", touch("a.txt"), touch("b.txt"), end="errand over"),
            tool_turn("work", delegate),
        ]
    }
    async with newest_hive.running(newest_hive.harness()):
        await newest_hive.send("work")
        await answer(newest_hive, "deny: not this one")
        await answer(newest_hive, "allow once")
        await until(lambda: there(state) == {"b.txt"}, LIMIT)


@pytest.mark.needs("claude")
async def test_what_nobody_answers_in_time_is_denied(api: FakeAnthropic, tmp_path: Path) -> None:
    async with asking_bench("2.1.328", tmp_path, api, Limits(tool_ttl_seconds=1)) as hive:
        state = await prepared(hive)
        api.scenario = {"rules": [tool_turn("work", touch("a.txt"))]}
        async with hive.running(hive.harness()) as alice:
            watch = Watch(alice)
            message = await hive.send("work")
            await watch.until(turn_ended)
            await watch.state("idle")
            assert await hive.acked(message)
        assert there(state) == set()
        assert "the operator did not answer within 1 s" in told(api)
        assert hive.broker.questions.open_now() == []
