"""Tool calls that ask the operator: only the operator's own word allows, and for no more than it says."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from hyperhive.broker import Broker, Limits
from hyperhive.broker.tool_asks import A_MINUTE, BYTES_AN_HOUR, INPUT_MAX_BYTES, OPEN_MAX
from hyperhive.errors import BadRequest, Forbidden, NotFound
from hyperhive.protocol.replies import ToolVerdict
from hyperhive.protocol.types import ToolCall
from hyperhive.testing import FakeClock

FETCH = {"url": "https://example.org/"}


async def call(
    broker: Broker, name: str, tool: str = "WebFetch", given: Mapping[str, Any] = FETCH, **fields: Any
) -> ToolVerdict:
    """What the harness of `agent` is told about the call of this name."""
    agent, wait = fields.get("agent", "alice"), fields.get("wait", 0)
    return await broker.tools.ask(agent, name, tool, dict(given), wait)


async def answered(broker: Broker, name: str, answer: str, **fields: Any) -> ToolVerdict:
    """A call that the operator answers like this."""
    waiting = await call(broker, name, **fields)
    assert waiting.verdict == "waiting", waiting
    assert waiting.id is not None
    await broker.questions.answer(waiting.id, answer, by="operator", override=True)
    return await call(broker, name, **fields)


async def test_the_operator_is_shown_the_whole_call_and_its_options(broker: Broker) -> None:
    broker.tools.caution_of = lambda agent: f"{agent} may use Bash unasked."
    waiting = await call(broker, "c1")
    [row] = await broker.questions.open("operator")
    assert (row.id, row.asker, row.kind) == (waiting.id, "alice", "tool")
    assert row.tool == ToolCall(name="WebFetch", input=FETCH)
    assert row.options == ("allow once", "allow always", "deny")
    assert "alice may use Bash unasked." in row.question
    assert row.expires_at == row.asked_at + 86_400
    assert await broker.inbox() == [], "the harness waits for it: nobody is mailed"


async def test_allow_once_is_for_one_call(broker: Broker) -> None:
    assert (await answered(broker, "c1", "allow once")).verdict == "allow"
    assert (await call(broker, "c1")).verdict == "allow", "the reply may have been lost"
    assert (await call(broker, "c2")).verdict == "waiting", "the same input again is another call"
    assert await broker.tools.rules() == []
    assert await broker.recv("alice", wait_seconds=0) == [], "the answer is no mail"


async def test_allow_always_is_a_rule_that_says_who_when_and_by_which_question(
    broker: Broker, clock: FakeClock
) -> None:
    allowed = await answered(broker, "c1", "Allow always")
    [rule] = await broker.tools.rules()
    assert (rule.agent, rule.tool, rule.input) == ("alice", "WebFetch", None)
    assert (rule.allowed_by, rule.allowed_at, rule.question) == ("operator", int(clock.time()), allowed.id)
    unasked = await call(broker, "c2", given={"url": "https://example.com/"})
    assert (unasked.verdict, unasked.id) == ("allow", None)
    assert (await call(broker, "c3", agent="bob")).verdict == "waiting", "it is one agent's"
    assert (await call(broker, "c4", tool="WebSearch")).verdict == "waiting", "and one tool's"


async def test_a_rule_for_a_program_covers_that_program_alone(broker: Broker) -> None:
    push = {"command": "git push", "description": "Publish"}
    await answered(broker, "c1", "allow always", tool="Bash", given=push)
    other_words = {"description": "Push it out", "command": "git push"}
    assert (await call(broker, "c2", tool="Bash", given=other_words)).verdict == "allow"
    others: tuple[dict[str, Any], ...] = (
        {"command": "git push --force"},
        {"command": "git push", "run_in_background": True},
        {"command": "rm -r /state"},
    )
    for number, other in enumerate(others):
        assert (await call(broker, f"d{number}", tool="Bash", given=other)).verdict == "waiting"
    [rule] = await broker.tools.rules()
    assert rule.input == push


async def test_a_revoked_rule_asks_again(broker: Broker) -> None:
    await answered(broker, "c1", "allow always")
    [rule] = await broker.tools.rules()
    assert await broker.tools.revoke(rule.id) == rule
    assert (await call(broker, "c2")).verdict == "waiting"
    with pytest.raises(NotFound):
        await broker.tools.revoke(rule.id)


async def test_rules_go_with_an_agent_that_is_purged(broker: Broker) -> None:
    await answered(broker, "c1", "allow always")
    await answered(broker, "c2", "allow always", agent="bob")
    assert await broker.tools.purge("alice") == 1
    assert (await call(broker, "c3")).verdict == "waiting"
    assert (await call(broker, "c4", agent="bob")).verdict == "allow"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("deny", "The operator denied this."),
        ("deny: not on a Friday", "The operator denied this: not on a Friday"),
        ("Use the cache instead.", "The operator denied this: Use the cache instead."),
    ],
)
async def test_a_denial_reaches_the_model_with_its_reason(broker: Broker, answer: str, told: str) -> None:
    verdict = await answered(broker, "c1", answer)
    assert (verdict.verdict, verdict.message) == ("deny", told)


async def test_half_a_permission_is_neither_taken_for_one_nor_for_a_denial(broker: Broker) -> None:
    waiting = await call(broker, "c1")
    assert waiting.id is not None
    with pytest.raises(BadRequest, match="neither how long"):
        await broker.questions.answer(waiting.id, "allow", by="operator", override=True)
    assert (await call(broker, "c1")).verdict == "waiting"


async def test_an_answer_wakes_the_harness_that_waits(broker: Broker) -> None:
    verdicts = []

    async def wait() -> None:
        verdicts.append(await call(broker, "c1", wait=180))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            while not (rows := broker.questions.open_now("operator")):
                await anyio.lowlevel.checkpoint()
            await broker.questions.answer(rows[0].id, "allow once", by="operator", override=True)
    assert verdicts[0].verdict == "allow"


async def test_what_nobody_answers_is_denied_when_its_time_is_up(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(tool_ttl_seconds=60)) as broker:
        verdicts = []

        async def wait() -> None:
            verdicts.append(await call(broker, "c1", wait=180))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                while not broker.questions.open_now("operator"):
                    await anyio.lowlevel.checkpoint()
                await clock.advance(61)
    assert verdicts[0].verdict == "deny"
    assert "did not answer within 60 s" in str(verdicts[0].message)


async def test_a_call_is_one_question_also_after_a_restart(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock) as broker:
        first = await call(broker, "c1")
    async with Broker.open(path, clock=clock) as broker:
        assert await call(broker, "c1") == first
        assert first.id is not None
        await broker.questions.answer(first.id, "allow once", by="operator", override=True)
    async with Broker.open(path, clock=clock) as broker:
        assert (await call(broker, "c1")).verdict == "allow"


async def test_a_turn_that_runs_again_asks_again(broker: Broker) -> None:
    """What was allowed once to a turn that died is not allowed to the one that repeats it."""
    await broker.send("operator", "alice", "fetch it")
    await broker.recv("alice", wait_seconds=0)
    assert (await answered(broker, "c1", "allow once")).verdict == "allow"
    await broker.requeue_inflight("alice")
    await broker.recv("alice", wait_seconds=0)
    assert (await call(broker, "c2")).verdict == "waiting"


async def test_withdrawn_calls_leave_the_queue_and_never_run(broker: Broker) -> None:
    await call(broker, "c1")
    await call(broker, "c2")
    await call(broker, "c3", agent="bob")
    assert await broker.tools.withdraw("alice", ["c2", "c3", "c9"]) == 1, (
        "another's call is not its to withdraw"
    )
    assert await broker.tools.withdraw("alice") == 1
    assert [row.asker for row in await broker.questions.open("operator")] == ["bob"]
    for name in ("c1", "c2"):
        verdict = await call(broker, name)
        assert (verdict.verdict, "given up" in str(verdict.message)) == ("deny", True)


@pytest.mark.parametrize("steps", range(0, 40, 4))
async def test_a_call_that_is_given_up_at_any_moment_leaves_no_question(steps: int, broker: Broker) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(call, broker, "c1")
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    await broker.tools.withdraw("alice", ["c1"])
    assert await broker.questions.open("operator") == []


async def test_word_that_a_call_was_given_up_may_come_before_the_call(broker: Broker) -> None:
    assert await broker.tools.withdraw("alice", ["c1"]) == 0
    assert (await call(broker, "c1")).verdict == "deny"
    assert broker.questions.open_now() == []
    assert (await call(broker, "c2")).verdict == "waiting"


async def test_no_agent_can_answer_for_the_operator(broker: Broker) -> None:
    """Neither the asker nor the manager; and whoever withdraws a question has not allowed anything."""
    waiting = await call(broker, "c1")
    assert waiting.id is not None
    for name in ("alice", "manager", "system"):
        with pytest.raises(Forbidden):
            await broker.questions.answer(waiting.id, "allow always", by=name)
    await broker.questions.cancel(waiting.id, by="manager", any=True)
    assert (await call(broker, "c1")).verdict == "deny"
    assert await broker.tools.rules() == []


async def test_an_answer_allows_the_call_that_it_was_shown_and_no_other_of_its_name(broker: Broker) -> None:
    """C3: neither another input under a name that was allowed, nor an agent's own question that looks like it."""
    assert (await answered(broker, "c1", "allow once")).verdict == "allow"
    assert (await call(broker, "c1", given={"url": "https://evil.example/"})).verdict == "deny"
    assert (await call(broker, "c1", "Bash", {"command": "true"})).verdict == "deny"
    bait = await broker.questions.ask("alice", "Lunch?", options=["allow once"], call_id="tool c2")
    await broker.questions.answer(bait, "allow once", by="operator")
    assert (await call(broker, "c2")).verdict == "deny"


async def test_an_input_too_large_to_be_shown_is_denied_with_the_limit(broker: Broker) -> None:
    verdict = await call(broker, "c1", tool="Write", given={"content": "x" * INPUT_MAX_BYTES})
    assert (verdict.verdict, str(INPUT_MAX_BYTES) in str(verdict.message)) == ("deny", True)
    assert broker.questions.open_now("operator") == []


async def test_a_flood_of_calls_is_held_to_its_limits(broker: Broker) -> None:
    for number in range(OPEN_MAX):
        assert (await call(broker, f"c{number}")).verdict == "waiting"
    refused = await call(broker, "one more")
    assert (refused.verdict, f"the limit is {OPEN_MAX}" in str(refused.message)) == ("deny", True)
    assert (await call(broker, "c9", agent="bob")).verdict == "waiting", "one's flood is not another's"
    for number in range(A_MINUTE - OPEN_MAX):
        await broker.tools.withdraw("alice")
        assert (await call(broker, f"d{number}")).verdict == "waiting"
    await broker.tools.withdraw("alice")
    refused = await call(broker, "at last")
    assert (refused.verdict, f"{A_MINUTE} tool calls a minute" in str(refused.message)) == ("deny", True)


async def test_calls_that_come_all_at_once_are_held_to_the_limit_too(broker: Broker) -> None:
    verdicts = await asyncio.gather(*(call(broker, f"c{n}") for n in range(20)))
    assert [one.verdict for one in verdicts].count("waiting") == OPEN_MAX
    assert len(await broker.questions.open("operator")) == OPEN_MAX


async def test_a_harness_that_comes_up_withdraws_also_what_is_just_being_stored(broker: Broker) -> None:
    """Its last life may have died with the question on its way to disk: nobody would ever wait for its answer."""
    async with anyio.create_task_group() as group:
        group.start_soon(call, broker, "c1")
        for _ in range(100_000):
            if broker.tools._asking["alice"]:
                break
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    await broker.tools.withdraw("alice")
    assert await broker.questions.open("operator") == []


async def test_what_an_agent_may_put_before_the_operator_in_an_hour_has_an_end(
    path: Path, clock: FakeClock
) -> None:
    """S4: questions are kept for 90 days, with the whole input; a call that is given up was one, too."""
    async with Broker.open(path, clock=clock) as broker:
        given = {"x": "y" * (INPUT_MAX_BYTES - 100)}
        shown = 0
        verdict = await call(broker, "c", "Write", given)
        while verdict.verdict == "waiting":
            shown += INPUT_MAX_BYTES - 100
            await broker.tools.withdraw("alice")
            await clock.advance(3)
            verdict = await call(broker, f"c{shown}", "Write", given)
        assert BYTES_AN_HOUR * 0.9 < shown < BYTES_AN_HOUR * 1.1
        assert f"the limit is {BYTES_AN_HOUR} bytes of input an hour" in str(verdict.message)
        assert (await call(broker, "b1", "Write", given, agent="bob")).verdict == "waiting"
        await clock.advance(3600)
        assert (await call(broker, "later", "Write", given)).verdict == "waiting"
