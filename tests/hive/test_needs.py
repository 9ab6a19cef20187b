"""Why an agent needs its operator, as `status` says it: each with what to do about it."""

from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel

from hyperhive.client import RemoteHive
from hyperhive.host import Hive
from hyperhive.names import AgentName
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import AgentDetail, BudgetPage, HiveStatus, QuestionRows
from hyperhive.protocol.types import ContainerView

LIMIT = 40.0
ALICE = AgentName("alice")


async def until(hive: Hive, name: AgentName, true: Callable[[ContainerView], bool]) -> ContainerView:
    """The agent's fleet row, once this is true of it."""
    async with hive.bus.subscribe() as events:
        if true(view := hive.lifecycle.view(name)):
            return view
        async for _ in events:
            if true(view := hive.lifecycle.view(name)):
                return view
    raise AssertionError("the hive went away")


async def status_of(operator: RemoteHive, name: str) -> tuple[HiveStatus, AgentDetail]:
    reply = await operator.request(r.Status(name=name))
    assert isinstance(reply, HiveStatus)
    return reply, reply.agents[0]


async def open_questions(operator: RemoteHive) -> list[int]:
    reply = await operator.request(r.Questions())
    assert isinstance(reply, QuestionRows)
    return [one.id for one in reply.questions]


async def test_an_agent_with_a_question_says_which_and_the_hive_how_many_wait(
    hive: Hive, operator: RemoteHive
) -> None:
    with anyio.fail_after(LIMIT):
        await operator.lifecycle.spawn("alice")
        await until(hive, ALICE, lambda view: view.running and view.state == "idle")
        status, detail = await status_of(operator, "alice")
        assert (status.hive.questions, detail.needs) == (0, ())
        assert detail.key == "environment"  # the runtime of these tests isolates nothing
        await operator.broker.send("operator", "alice", '[[call ask {"question": "red or blue?"}]]')
        await until(hive, ALICE, lambda view: view.state == "needs_you")
        [number] = await open_questions(operator)
        status, detail = await status_of(operator, "alice")
        assert status.hive.questions == 1
        assert detail.needs == (f"it asks you question {number}: `hyperhive questions {number}`",)


async def test_an_agent_that_waits_for_a_setting_says_what_is_wrong(
    environ: dict[str, str], hive: Hive, operator: RemoteHive
) -> None:
    with anyio.fail_after(LIMIT):
        await operator.lifecycle.spawn("alice")
        await until(hive, ALICE, lambda view: view.running and view.state == "idle")
        file = Path(environ["HYPERHIVE_CONFIG"])
        await anyio.Path(file).write_text('[agents.alice.tools]\nask = ["Nope"]\n')
        await operator.request(r.Reload())
        await operator.broker.send("operator", "alice", "hello")
        await until(hive, ALICE, lambda view: view.waiting_reason == "operator")
        _, detail = await status_of(operator, "alice")
        [need] = detail.needs
        assert "waiting for the operator" in need
        assert "Nope" in need


async def test_an_agent_over_its_budget_names_the_question_and_after_wait_the_way_out(
    hive: Hive, operator: RemoteHive
) -> None:
    with anyio.fail_after(LIMIT):
        await operator.lifecycle.spawn("alice")
        reply = await operator.request(r.Budget(name="alice", tokens_per_day=1))
        assert isinstance(reply, BudgetPage)
        await operator.broker.send("operator", "alice", "[[say one]]")
        await until(hive, ALICE, lambda view: view.unread == 0 and view.turn_state == "idle")
        await operator.broker.send("operator", "alice", "[[say two]]")
        await until(hive, ALICE, lambda view: view.waiting_reason == "budget" and view.state == "needs_you")
        while not (numbers := await open_questions(operator)):
            await anyio.lowlevel.checkpoint()
        _, detail = await status_of(operator, "alice")
        assert f"`hyperhive questions {numbers[0]}`" in detail.needs[0]
        await operator.request(r.Answer(id=numbers[0], answer="wait"))
        view = await until(hive, ALICE, lambda view: view.state != "needs_you")
        assert (view.state, view.waiting_reason) == ("working", "budget")
        _, detail = await status_of(operator, "alice")
        assert detail.needs == ()
