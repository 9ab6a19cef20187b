"""Claims about a whole harness on the real CLI, both versions: turns and acks, urgent mail, logins, what is kept."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from benches import Bench, Watch, ask, bench
from hyperhive.accounts import Secret
from hyperhive.config import AgentConfig, Tools
from hyperhive.harness.harness import HarnessSettings
from hyperhive.protocol import harness_line as line
from hyperhive.protocol.events import Note, StatusChanged, Stream, TurnStart
from hyperhive.protocol.replies import AgentSnapshot, Login, TurnRows
from hyperhive.protocol.types import TokenUsage
from hyperhive.testing.fake_anthropic import FakeAnthropic, error, tool_turn
from parts import claude_path

pytestmark = pytest.mark.timeout(90)

VERSIONS = [
    pytest.param("2.1.328", marks=pytest.mark.needs("claude")),
    pytest.param("2.1.200", marks=[pytest.mark.needs("claude-2.1.200"), pytest.mark.campaign]),
]
NAP = ("Bash", {"command": "python3 -c 'import time; time.sleep(1.5)'; echo slept", "description": "nap"})
LONG_NAP = ("Bash", {"command": "python3 -c 'import time; time.sleep(40)'; echo slept", "description": "nap"})


@pytest.fixture(params=VERSIONS)
async def hive(request: pytest.FixtureRequest, tmp_path: Path, api: FakeAnthropic) -> AsyncIterator[Bench]:
    """A bench whose agent runs the real CLI under an account with a key."""
    environ = {
        "HYPERHIVE_CLAUDE": str(claude_path(request.param)),
        "ANTHROPIC_BASE_URL": api.url,
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    async with bench(tmp_path, environ=environ) as made:
        await made.accounts.set("default", "key", Secret("dummy-key-for-tests"))
        made.config = AgentConfig(tools=Tools(allow=("Bash", "Read")))
        yield made


def tool_is_open(event: Any) -> bool:
    return isinstance(event, Stream) and b'"tool_use"' in event.line and b'"type":"assistant"' in event.line


async def test_mail_is_worked_warm_acked_and_counted_as_the_api_counted(
    hive: Bench, api: FakeAnthropic
) -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 500,
        "cache_creation_input_tokens": 30,
        "output_tokens": 4,
    }
    api.scenario = {"default": {"blocks": ["fine"], "usage": usage}}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        mail = [await hive.send(f"hello {n}") for n in range(3)]
        await watch.state("idle")
        assert [await hive.acked(one) for one in mail] == [True, True, True]
        assert [start.turn for start in watch.of(TurnStart)] == [1, 2, 3]
        pids = {alice.runner.pid}
        assert None not in pids
        shown = await ask(alice, line.Snapshot)
        assert isinstance(shown, AgentSnapshot)
        expected = TokenUsage(
            input_tokens=10, cache_read_input_tokens=500, cache_creation_input_tokens=30, output_tokens=4
        )
        assert shown.cost_usage == expected
        assert shown.ctx_usage is not None
        assert shown.ctx_usage.context_tokens == 540
        assert shown.warm
    rows = await ask(hive.harness(), line.TurnHistory)
    assert isinstance(rows, TurnRows)
    assert [(row.result_kind, row.input_tokens, row.last_cache_read_input_tokens) for row in rows.turns] == [
        ("ok", 10, 500)
    ] * 3
    assert all(row.cost > 0 for row in rows.turns)


async def test_a_message_that_a_recv_call_took_is_done_with_the_turn(hive: Bench, api: FakeAnthropic) -> None:
    api.scenario = {"rules": [tool_turn("take the rest", NAP, ("mcp__hyperhive__recv", {"max": 5}))]}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        first = await hive.send("take the rest")
        await watch.until(tool_is_open)
        others = [await hive.send(f"other {n}") for n in range(2)]
        await watch.state("idle")
        assert [await hive.acked(one) for one in (first, *others)] == [True, True, True]
        assert len(watch.of(TurnStart)) == 1


async def test_soon_mail_is_handed_over_at_the_next_tool_boundary_of_the_turn(
    hive: Bench, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": [tool_turn("nap", NAP, end="slept well")]}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        nap = await hive.send("nap")
        await watch.until(tool_is_open)
        soon = await hive.send("look at this meanwhile", urgency="soon")
        await watch.state("idle")
        assert [await hive.acked(one) for one in (nap, soon)] == [True, True]
        assert len(watch.of(TurnStart)) == 1
        assert "look at this meanwhile" in str(api.requests[-1]["body"])


async def test_interrupt_mail_goes_first_and_the_interrupted_message_comes_again_with_the_reason(
    hive: Bench, api: FakeAnthropic
) -> None:
    slow = {**tool_turn("long nap", LONG_NAP), "times": 1}
    api.scenario = {"rules": [slow]}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        nap = await hive.send("long nap")
        await watch.until(tool_is_open)
        stop = await hive.send("stop everything", urgency="interrupt")
        await watch.state("idle")
        assert [await hive.acked(one) for one in (nap, stop)] == [True, True]
        assert [start.body for start in watch.of(TurnStart)] == ["long nap", "stop everything", "long nap"]
        last = str(api.requests[-1]["body"])
        assert f"its turn was interrupted: message {stop} from operator" in last
        assert await hive.broker.dead() == []


async def test_a_turn_that_fails_between_two_good_ones_comes_again_before_what_is_behind_it(
    hive: Bench, api: FakeAnthropic
) -> None:
    hive.settings = HarnessSettings(backoff_seconds=0.3)
    answer = error(400, "invalid_request_error", "messages.0: bad")["default"]
    api.scenario = {"rules": [{"match": "second", **answer}]}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        mail = [await hive.send(body) for body in ("first", "second", "third")]
        await watch.state("waiting", "backoff")
        assert [await hive.acked(one) for one in mail] == [True, False, False]
        api.scenario = {}
        await watch.state("idle")
        assert [await hive.acked(one) for one in mail] == [True, True, True]
        bodies = [start.body for start in watch.of(TurnStart)]
        assert bodies == ["first", *["second"] * (len(bodies) - 2), "third"]
        assert len(bodies) > 3
        assert any("redelivered" in str(request["body"]) for request in api.requests)


async def test_a_refused_key_parks_the_agent_until_a_new_one_is_stored(
    hive: Bench, api: FakeAnthropic
) -> None:
    api.scenario = error(401, "authentication_error", "invalid x-api-key")
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        message = await hive.send("hello")
        await watch.state("waiting", "login")
        assert not await hive.acked(message)
        api.scenario = {}
        await hive.accounts.set("default", "key", Secret("another-dummy-key"))
        await watch.state("idle")
        assert await hive.acked(message)
        assert [one.status for one in watch.of(StatusChanged)] == ["needs_login_idle", "online"]
        assert api.requests[-1]["headers"].get("x-api-key") != "dummy-key-for-tests"


async def test_an_agent_without_any_account_needs_a_login_and_gets_a_url_to_it(hive: Bench) -> None:
    await hive.accounts.remove("default")
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        message = await hive.send("hello")
        await watch.state("waiting", "login")
        reply = await ask(alice, line.LineLoginStart)
        assert isinstance(reply, Login)
        assert reply.session is not None
        assert str(reply.session.url).startswith("https://claude.com/")
        status: Any = await watch.until(lambda event: isinstance(event, StatusChanged))
        assert status.status == "needs_login_in_progress"
        await ask(alice, line.LineLoginCancel)
        status = await watch.until(lambda event: isinstance(event, StatusChanged))
        assert status.status == "needs_login_idle"
        await hive.accounts.set("default", "key", Secret("dummy-key-for-tests"))
        await watch.state("idle")
        assert await hive.acked(message)


async def test_a_model_that_does_not_exist_parks_the_agent_until_another_is_set(
    hive: Bench, api: FakeAnthropic
) -> None:
    answer = error(404, "not_found_error", "model: nope")["default"]
    api.scenario = {"rules": [{"model": "nope", **answer}]}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await ask(alice, line.LineModel, model="nope")
        message = await hive.send("hello")
        await watch.state("waiting", "operator")
        await ask(alice, line.LineModel, model="sonnet")
        await watch.state("idle")
        assert await hive.acked(message)
        assert any("waiting for the operator" in note.text for note in watch.of(Note))
        assert "sonnet" in str(api.requests[-1]["body"]["model"])


async def test_killing_the_cli_in_a_turn_blames_the_message_and_gives_it_another_turn(
    hive: Bench, api: FakeAnthropic
) -> None:
    hive.settings = HarnessSettings(backoff_seconds=0.05)
    api.scenario = {"rules": [{**tool_turn("long nap", LONG_NAP), "times": 1}]}
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        message = await hive.send("long nap")
        await watch.until(tool_is_open)
        pid = alice.runner.pid
        assert pid is not None
        await anyio.run_process(["kill", "-9", str(pid)])
        await watch.state("waiting", "backoff")
        await watch.state("idle")
        assert await hive.acked(message)
