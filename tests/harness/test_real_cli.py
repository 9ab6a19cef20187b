"""Good turns on the real CLI, both versions: warm, handed in, interrupted, compacted, resumed."""

import os
import signal

import anyio
import pytest

from hyperhive.config import AgentConfig, Tools
from hyperhive.errors import Conflict
from hyperhive.harness.runner import Timing, TurnRunner
from hyperhive.harness.turns import TurnResult
from hyperhive.protocol.events import TokenUsageChanged, TurnEnd, TurnStart
from hyperhive.protocol.types import Delivery, TokenUsage
from hyperhive.testing.fake_anthropic import FakeAnthropic, error, tool_turn
from hyperhive.testing.tools import LocalTools
from hyperhive.testing.turns import message
from turn_tools import Benches, frames, gone, notes, told, tool_is_open, until

WITH_BASH = AgentConfig(tools=Tools(allow=("Bash", "Read")))
TOO_LONG = error(400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum")[
    "default"
]


def nap(seconds: float, **more: object) -> tuple[str, dict[str, object]]:
    """A Bash call that takes a while."""
    command = f"python3 -c 'import time; time.sleep({seconds})'; echo slept"
    return "Bash", {"command": command, "description": "x", **more}


class Running:
    """A turn in a task of its own, while the test does something to it."""

    def __init__(self, runner: TurnRunner, messages: list[Delivery]) -> None:
        self.runner = runner
        self.messages = messages
        self.result: TurnResult | None = None

    async def __call__(self) -> None:
        self.result = await self.runner.run(self.messages, turn=1)

    def ended(self) -> TurnResult:
        assert self.result is not None
        return self.result


async def test_turns_run_warm_and_are_acked_by_their_own_result(real: Benches, api: FakeAnthropic) -> None:
    bench = real.bench()
    runner = await real.runner(bench)
    results = [await runner.run([message(n, f"hello {n}")], turn=n) for n in (1, 2, 3)]
    assert [(one.kind, one.done, one.pending) for one in results] == [("ok", (n,), ()) for n in (1, 2, 3)]
    inits = [frame for frame in frames(bench) if frame.get("subtype") == "init"]
    assert len({frame["session_id"] for frame in inits}) == 1
    assert len(api.requests) == 3
    pid = runner.pid
    assert pid is not None
    assert runner.retirable
    await runner.retire()
    assert (runner.warm, runner.pid) == (False, None)
    assert gone(pid)
    assert (await runner.run([message(4, "hello again")])).ok
    assert "hello 1" in told(api), "the session is continued"


async def test_usage_and_cost_are_what_the_api_sent(real: Benches, api: FakeAnthropic) -> None:
    first = {
        "input_tokens": 11,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 70,
        "output_tokens": 5,
    }
    second = {
        "input_tokens": 13,
        "cache_read_input_tokens": 2000,
        "cache_creation_input_tokens": 90,
        "output_tokens": 7,
    }
    steps = [
        {"blocks": [{"tool": "mcp__hyperhive__whoami", "input": {}}], "usage": first},
        {"blocks": ["done"], "usage": second},
    ]
    api.scenario = {"rules": [{"match": "count me", "steps": steps}]}
    bench = real.bench()
    runner = await real.runner(bench)
    result = await runner.run([message(1, "count me")], turn=1)
    assert result.usage == TokenUsage(
        input_tokens=24, output_tokens=12, cache_read_input_tokens=3000, cache_creation_input_tokens=160
    )
    assert result.last_usage is not None
    assert result.last_usage.context_tokens == 2103
    assert result.tool_calls == {"mcp__hyperhive__whoami": 1}
    again = await runner.run([message(2, "count me")], turn=2)
    assert result.cost > 0
    assert again.cost == pytest.approx(result.cost, rel=0.01), "a difference, not the session's running total"
    await runner.retire()
    resumed = await runner.run([message(3, "count me")], turn=3)
    assert resumed.cost == pytest.approx(result.cost, rel=0.01), "nor after a resume"
    shown = [event for event in bench.events if isinstance(event, TokenUsageChanged)]
    assert shown[0].ctx == result.last_usage
    assert shown[0].cost == result.usage


@pytest.mark.needs("claude")
async def test_events_of_a_turn_stand_between_its_start_and_its_end(newest: Benches) -> None:
    bench = newest.bench()
    runner = await newest.runner(bench)
    await runner.run([message(1, "hello"), message(2, "and this", sender="bob")], unread=3, turn=9)
    assert bench.events[0] == TurnStart(sender="operator, bob", body="hello\n---\nand this", unread=3, turn=9)
    assert bench.events[-1] == TurnEnd(ok=True, turn=9)
    assert {event.turn for event in bench.events} == {9}
    assert bench.states == ["thinking", "idle"]


@pytest.mark.needs("claude")
async def test_the_prompt_names_sender_id_and_what_waits(newest: Benches, api: FakeAnthropic) -> None:
    runner = await newest.runner(newest.bench())
    await runner.run([message(7, "hello", sender="bob", redelivered=True)], unread=2)
    text = api.requests[0]["text"]
    assert "[message 7 from bob, boundary " in text
    assert "[redelivered after harness restart — may already be handled]\nhello\n" in text
    assert "take them with recv(max: 2)" in text
    system = str(api.requests[0]["body"]["system"])
    assert "You are alice, an agent of a HyperHive" in system


async def test_a_message_handed_in_at_a_tool_boundary_is_acked_with_the_turn(
    real: Benches, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": [tool_turn("work", nap(1))]}
    bench = real.bench(config=WITH_BASH)
    runner = await real.runner(bench)
    turn = Running(runner, [message(1, "work")])
    async with anyio.create_task_group() as group:
        group.start_soon(turn)
        await tool_is_open(bench, "Bash")
        assert await runner.inject(message(2, "extra news"))
    assert (turn.ended().kind, turn.ended().done) == ("ok", (1, 2))
    assert "extra news" in told(api)
    assert not await runner.inject(message(3, "too late")), "without a turn it stays the caller's"


async def test_a_message_handed_in_too_late_gets_its_own_turn_in_the_same_run(
    real: Benches, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": [{"match": "long story", "blocks": ["a b c d e f g h"], "chunk_delay": 0.1}]}
    bench = real.bench()
    runner = await real.runner(bench)
    turn = Running(runner, [message(1, "long story")])
    async with anyio.create_task_group() as group:
        group.start_soon(turn)
        await until(lambda: api.requests)
        assert await runner.inject(message(2, "extra news"))
    assert (turn.ended().kind, turn.ended().done) == ("ok", (1, 2))
    assert len([frame for frame in frames(bench) if frame["type"] == "result"]) == 2


@pytest.mark.parametrize("rule", ["streaming", "tool"])
async def test_an_interrupted_turn_blames_nobody_and_leaves_the_process_warm(
    real: Benches, api: FakeAnthropic, rule: str
) -> None:
    slow = {"match": "work", "blocks": ["a b c d e f g h"], "chunk_delay": 5}
    api.scenario = {"rules": [tool_turn("work", nap(30)) if rule == "tool" else slow]}
    bench = real.bench(config=WITH_BASH)
    runner = await real.runner(bench)
    turn = Running(runner, [message(1, "work")])
    async with anyio.create_task_group() as group:
        group.start_soon(turn)
        await (tool_is_open(bench, "Bash") if rule == "tool" else until(lambda: api.requests))
        pid = runner.pid
        assert await runner.interrupt("interrupted by message 2 from operator")
    result = turn.ended()
    assert (result.kind, result.pending, result.interrupted, result.blame) == ("failed", (1,), True, False)
    assert result.note == "interrupted by message 2 from operator"
    api.scenario = {}
    after = await runner.run([message(1, "work", redelivered=True)], interruption=result.note)
    assert after.done == (1,)
    assert runner.pid == pid
    assert "[its turn was interrupted: interrupted by message 2 from operator]" in api.requests[-1]["text"]


async def test_cancel_ends_the_turn_and_the_tool_call_under_way(real: Benches, api: FakeAnthropic) -> None:
    async def wait_for_ever(_: object) -> str:
        await anyio.sleep_forever()
        return ""

    tools = LocalTools({"recv": wait_for_ever})
    api.scenario = {"rules": [tool_turn("work", ("mcp__hyperhive__recv", {}))]}
    bench = real.bench(tools=tools)
    runner = await real.runner(bench)
    turn = Running(runner, [message(1, "work")])
    async with anyio.create_task_group() as group:
        group.start_soon(turn)
        await until(lambda: tools.calls)
        assert await runner.cancel()
    assert (turn.ended().kind, turn.ended().pending, turn.ended().blame) == ("cancelled", (1,), False)
    await until(lambda: tools.cancelled == 1)
    assert any(note.startswith("cancel: the running turn is interrupted (process ") for note in notes(bench))
    assert not await runner.cancel()


@pytest.mark.needs("claude")
async def test_a_cancelled_run_leaves_no_process(newest: Benches, api: FakeAnthropic) -> None:
    api.scenario = {"rules": [tool_turn("work", nap(30))]}
    bench = newest.bench(config=WITH_BASH)
    runner = await newest.runner(bench)
    async with anyio.create_task_group() as group:
        group.start_soon(Running(runner, [message(1, "work")]))
        await tool_is_open(bench, "Bash")
        group.cancel_scope.cancel()
    assert not runner.warm
    assert not runner.running


async def test_a_prompt_that_is_too_long_is_tried_again_after_compaction(
    real: Benches, api: FakeAnthropic
) -> None:
    bench = real.bench()
    runner = await real.runner(bench)
    assert (await runner.run([message(1, "hello")], turn=1)).ok
    summary = {"tools": False, "blocks": ["<summary>we said hello</summary>"]}
    api.scenario = {
        "rules": [
            {**TOO_LONG, "match": "big one", "times": 1},
            {"match": "summary", "blocks": ["S"]},
            summary,
        ]
    }
    result = await runner.run([message(2, "big one")], turn=2)
    assert (result.kind, result.done) == ("ok", (2,))
    assert "compacting" in bench.states or any("compact" in str(frame) for frame in frames(bench))


async def test_a_prompt_that_stays_too_long_is_blamed(real: Benches, api: FakeAnthropic) -> None:
    bench = real.bench()
    runner = await real.runner(bench)
    assert (await runner.run([message(1, "hello")], turn=1)).ok
    api.scenario = {
        "rules": [{**TOO_LONG, "match": "big one"}],
        "default": {"blocks": ["<summary>hello</summary>"]},
    }
    result = await runner.run([message(2, "big one")], turn=2)
    assert (result.kind, result.pending, result.blame) == ("prompt_too_long", (2,), True)
    api.scenario = {}
    assert (await runner.run([message(3, "small one")], turn=3)).done == (3,)


async def test_compact_shortens_the_session_and_is_refused_while_a_turn_runs(
    real: Benches, api: FakeAnthropic
) -> None:
    bench = real.bench()
    runner = await real.runner(bench)
    assert (await runner.run([message(1, "hello")], turn=1)).ok
    api.scenario = {"rules": [{"match": "work", "blocks": ["a b c d e f g h"], "chunk_delay": 0.05}]}
    turn = Running(runner, [message(2, "work")])
    async with anyio.create_task_group() as group:
        group.start_soon(turn)
        await until(lambda: len(api.requests) == 2)
        with pytest.raises(Conflict):
            await runner.compact()
    assert await runner.compact()
    assert bench.states[-2:] == ["compacting", "idle"]
    assert "compacting the session" in notes(bench)
    api.scenario = error(500, "api_error", "boom")
    assert not await runner.compact()
    assert any(note.startswith("the session was not compacted") for note in notes(bench))


async def test_a_killed_cli_is_resumed_with_its_session(real: Benches, api: FakeAnthropic) -> None:
    bench = real.bench()
    runner = await real.runner(bench)
    assert (await runner.run([message(1, "remember plum")], turn=1)).ok
    await runner.retire()
    assert (await runner.run([message(2, "remember pear")], turn=2)).ok
    assert runner.pid is not None
    os.kill(runner.pid, signal.SIGKILL)
    await until(lambda: not runner.warm)
    result = await runner.run([message(3, "what was it")], turn=3)
    assert result.done == (3,)
    assert "remember plum" in told(api)
    other = await real.runner(bench)
    await runner.retire()
    assert (await other.run([message(4, "and now")], turn=4)).done == (4,)
    assert "remember plum" in told(api), "another harness continues the session, too"


async def test_a_session_that_cannot_be_resumed_is_given_up_for_a_new_one(real: Benches) -> None:
    bench = real.bench()
    runner = await real.runner(bench)
    assert (await runner.run([message(1, "hello")], turn=1)).ok
    session = runner.session_id
    await runner.retire()
    transcripts = list(bench.paths.agent_claude(bench.name).rglob(f"{session}.jsonl"))
    assert transcripts
    for path in transcripts:
        path.write_text("no transcript\n")
    result = await runner.run([message(2, "hello")], turn=2)
    if not result.ok:
        assert (result.kind, result.pending, result.blame) == ("crashed", (2,), False)
        result = await runner.run([message(2, "hello", redelivered=True)], turn=3)
        assert runner.session_id != session
    assert result.done == (2,)


async def test_new_session_forgets_and_model_changes_take_effect_next_turn(
    real: Benches, api: FakeAnthropic
) -> None:
    runner = await real.runner(real.bench())
    assert (await runner.run([message(1, "remember plum")], turn=1)).ok
    pid = runner.pid
    runner.set_model("made-up-model")
    assert (await runner.run([message(2, "hello")], turn=2)).model == "made-up-model"
    assert api.requests[-1]["body"]["model"] == "made-up-model"
    assert runner.pid == pid, "without a new process"
    old = runner.session_id
    new = await runner.new_session()
    assert (await runner.run([message(3, "hello")], turn=3)).session_id == new != old
    assert "plum" not in told(api)
    assert api.requests[-1]["body"]["model"] == "made-up-model"


async def test_a_turn_that_nobody_asked_for_is_shown_and_acks_nothing(
    real: Benches, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": [tool_turn("work", nap(1, run_in_background=True), end="started")]}
    bench = real.bench(config=WITH_BASH)
    runner = await real.runner(bench)
    result = await runner.run([message(1, "work")], turn=1)
    assert result.done == (1,)
    assert runner.warm
    assert not runner.retirable, "a background task is under way"
    await until(lambda: bench.unasked)
    assert bench.unasked[0].ok
    assert bench.unasked[0].usage.output_tokens > 0
    await until(lambda: runner.retirable)
    assert bench.states == ["thinking", "idle", "thinking", "idle"]
    assert (await runner.run([message(2, "hello")], turn=2)).done == (2,)


async def test_a_stuck_turn_is_interrupted_resumed_once_and_then_given_up(
    real: Benches, api: FakeAnthropic
) -> None:
    api.scenario = {"rules": [{"match": "work|Carry on", "delay": 60, "blocks": ["late"]}]}
    bench = real.bench(timing=Timing(stuck_seconds=1.5, result_grace=5.0))
    runner = await real.runner(bench)
    result = await runner.run([message(1, "work")], turn=1)
    assert (result.kind, result.pending, result.blame) == ("stuck", (1,), True)
    assert len(api.requests) == 2
    assert "Carry on" in api.requests[1]["text"]
    api.scenario = {}
    assert (await runner.run([message(2, "hello")], turn=2)).ok


@pytest.mark.needs("claude")
async def test_a_long_tool_call_is_not_stuck(newest: Benches, api: FakeAnthropic) -> None:
    api.scenario = {"rules": [tool_turn("work", nap(3))]}
    runner = await newest.runner(
        newest.bench(config=WITH_BASH, timing=Timing(stuck_seconds=1.5, result_grace=5.0))
    )
    assert (await runner.run([message(1, "work")], turn=1)).done == (1,)
