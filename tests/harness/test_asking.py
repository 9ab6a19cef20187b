"""Agents whose tools ask, beside other agents and under configs that change: on the scripted CLI."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benches import LIMIT, Bench, Watch, bench
from hyperhive.agent_cli import AgentCli
from hyperhive.config import AgentConfig, Tools
from hyperhive.harness.slots import Slots
from hyperhive.protocol.events import TurnEnd
from turn_tools import until

ASKS = "[[control {}]]".format(
    json.dumps({"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "make"}})
)
"""What has the scripted CLI ask for a tool, and say what it was answered."""


@pytest.fixture
async def hive(tmp_path: Path, scripted_cli: AgentCli) -> AsyncIterator[Bench]:
    """A bench with two agents, of which `Bash` asks."""
    async with bench(tmp_path, environ={"HYPERHIVE_CLAUDE": str(scripted_cli.path)}, agents=2) as made:
        made.config = AgentConfig(tools=Tools(ask=("Bash",)))
        yield made


async def test_one_that_waits_for_the_operator_keeps_no_other_from_working(hive: Bench) -> None:
    hive.slots = Slots(max_turns=1, max_warm=8, idle_seconds=600, clock=hive.clock)
    async with hive.running(hive.harness("alice")) as alice, hive.running(hive.harness("bob")) as bob:
        watch, others = Watch(alice), Watch(bob)
        asking = await hive.send(ASKS)
        await watch.state("waiting", "operator")
        working = await hive.send("[[say hello]]", to="bob")
        await others.until(lambda event: isinstance(event, TurnEnd))
        await others.state("idle")
        assert await hive.acked(working)
        [row] = await hive.broker.questions.open("operator")
        await hive.broker.questions.answer(row.id, "allow once", by="operator", override=True)
        await watch.state("idle")
        assert await hive.acked(asking)
    assert hive.slots.running == 0


async def test_a_rule_that_would_mark_nothing_stops_the_agent_until_it_is_mended(hive: Bench) -> None:
    hive.config = AgentConfig(tools=Tools(ask=("Bsh",)))
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        message = await hive.send("[[say hello]]")
        await watch.state("waiting", "operator")
        assert "tools.ask: 'Bsh': there is no tool 'Bsh' here" in str(alice.last_error)
        assert not await hive.acked(message)
        hive.config = AgentConfig(tools=Tools(ask=("Bash",)))
        alice.changed()
        await watch.state("idle")
        assert await hive.acked(message)


async def test_open_calls_of_a_cli_that_dies_are_withdrawn(hive: Bench) -> None:
    async with hive.running(hive.harness()) as alice:
        watch = Watch(alice)
        await hive.send(ASKS)
        await watch.state("waiting", "operator")
        [row] = await hive.broker.questions.open("operator")
        await alice.runner.aclose()
        await until(lambda: not hive.broker.questions.open_now(), LIMIT)
    assert (await hive.broker.questions.find(row.id)).answerer == "system"
