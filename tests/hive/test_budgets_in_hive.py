"""Budgets in a whole hive of scripted agents: who caused what, and what happens when one is used up."""

import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from hive_mail import mail_from
from hyperhive.accounts import Secret
from hyperhive.broker.inbox import URGENCIES
from hyperhive.client import RemoteHive, connect
from hyperhive.config import HiveConfig, load
from hyperhive.host import Hive
from hyperhive.names import AgentName
from hyperhive.protocol import requests as r
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.replies import (
    Accounts,
    Admission,
    BudgetPage,
    Ok,
    Question,
    QuestionRows,
    Spent,
    TurnRows,
)
from hyperhive.protocol.types import ContainerView

LIMIT = 30.0
ALICE = AgentName("alice")

TOML = """
[agents.manager]
prompt = "Team: ada, ben"

[agents.alice.limits]
budget = { tokens_per_day = 1 }

[agents.bob]
account = "work"

[agents.carol]
account = "work"
"""


@pytest.fixture
def config(home: Path, environ: dict[str, str]) -> HiveConfig:
    (home / "hive.toml").write_text(TOML)
    return load(environ, state_dir=home / "state", run_dir=home / "run")


async def until(hive: Hive, name: AgentName, true: Callable[[ContainerView], bool]) -> ContainerView:
    """The agent's fleet row, once this is true of it."""
    async with hive.bus.subscribe() as events:
        if true(view := hive.lifecycle.view(name)):
            return view
        async for _ in events:
            if true(view := hive.lifecycle.view(name)):
                return view
    raise AssertionError("the hive went away")


async def paused(hive: Hive) -> ContainerView:
    return await until(hive, ALICE, lambda view: view.waiting_reason == "budget")


async def questions(operator: RemoteHive) -> list[Question]:
    reply = await operator.request(r.Questions())
    assert isinstance(reply, QuestionRows)
    return reply.questions


async def budget(operator: RemoteHive, **fields: object) -> BudgetPage:
    reply = await operator.request(r.Budget(**fields))  # type: ignore[arg-type]
    assert isinstance(reply, BudgetPage)
    return reply


async def spent(operator: RemoteHive, name: str) -> Spent:
    [one] = (await budget(operator, name=name)).spent
    return one


async def worked(operator: RemoteHive, name: str, count: int) -> TurnRows:
    """The agent's turns, once there are so many: no event says that a turn's row is written."""
    while True:
        reply = await operator.request(r.Turns(name=name))
        assert isinstance(reply, TurnRows)
        if len(reply.turns) >= count:
            return reply


async def test_who_caused_this_is_told_for_every_turn_of_a_chain_through_three_agents(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    async with (
        Hive.open(config=config, environ=environ) as hive,
        connect(run_dir=hive.paths.run_dir) as operator,
    ):
        with anyio.fail_after(LIMIT):
            for name in ("ada", "ben"):
                await operator.lifecycle.spawn(name)
            order = await operator.broker.send("operator", "manager", "Write the parser; write its tests")
            await mail_from(operator, "manager")
            other = await operator.broker.send("operator", "ada", "[[say hello]]")
            turns = {
                "manager": (await worked(operator, "manager", 5)).turns,
                "ada": (await worked(operator, "ada", 2)).turns,
                "ben": (await worked(operator, "ben", 1)).turns,
            }
            page = await budget(operator, chains=True, days=1)
        causes = {name: [(row.chain, row.root) for row in rows] for name, rows in turns.items()}
        assert causes["ben"] == [(order.id, "operator")]
        assert causes["ada"] == [(other.id, "operator"), (order.id, "operator")]
        assert sorted(causes["manager"])[:2] == [(1, "system"), (2, "system")], (
            "it was told of the two spawns"
        )
        assert sorted(causes["manager"])[2:] == [(order.id, "operator")] * 3
        assert [row.turn for row in turns["ada"]] == [2, 1]
        chains = {row.chain: row for row in page.chains}
        assert set(chains) == {1, 2, order.id, other.id}
        assert chains[order.id].agents == ("ada", "ben", "manager")
        assert chains[order.id].root_text == "Write the parser; write its tests"
        everything = [row for rows in turns.values() for row in rows]
        assert sum(row.tokens for row in page.chains) == page.spent[0].day_tokens
        assert sum(row.cost for row in page.chains) == pytest.approx(sum(row.cost for row in everything))
        by_agent = {row.agent: row.requests for row in page.days}
        assert by_agent == {"ada": 2, "ben": 1, "manager": len(turns["manager"])}


async def test_a_budget_that_is_used_up_pauses_the_agent_over_restarts_until_the_operator_decides(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    with anyio.fail_after(2 * LIMIT):
        async with (
            Hive.open(config=config, environ=environ) as hive,
            connect(run_dir=hive.paths.run_dir) as operator,
        ):
            await operator.lifecycle.spawn("alice")
            await operator.broker.send("operator", "alice", "[[say one]]")
            await worked(operator, "alice", 1)
            await operator.broker.send("operator", "alice", "[[say two]]")
            view = await paused(hive)
            assert view.state == "needs_you"
            assert view.waiting_until is not None
            assert view.budget_used is not None
            assert view.budget_used > 1
            assert (view.unread, hive.broker.in_flight_now("alice")) == (1, [])
            first = await spent(operator, "alice")
        async with (
            Hive.open(config=config, environ=environ) as hive,
            connect(run_dir=hive.paths.run_dir) as operator,
        ):
            await paused(hive)
            assert await spent(operator, "alice") == first
            [question] = await questions(operator)
            assert (question.asker, question.options) == ("system", ("raise", "wait", "stop"))
            assert question.id == first.question
            await budget(operator, name="alice", tokens_per_day=first.day_tokens + 1)
            assert len((await worked(operator, "alice", 2)).turns) == 2
            assert await questions(operator) == []
            await operator.broker.send("operator", "alice", "[[say three]]")
            await paused(hive)
            [again] = await questions(operator)
            reply = await operator.request(r.Answer(id=again.id, answer="stop"))
            assert isinstance(reply, Ok)
            view = await until(hive, ALICE, lambda view: not view.running)
            assert view.held_by_operator
            assert hive.broker.pending_now("alice") == 1
        async with Hive.open(config=config, environ=environ) as hive:
            assert not hive.lifecycle.view(ALICE).running


async def test_an_idle_hive_starts_nothing_and_spends_nothing(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    async with (
        Hive.open(config=config, environ=environ) as hive,
        connect(run_dir=hive.paths.run_dir) as operator,
    ):
        with anyio.fail_after(LIMIT):
            await operator.lifecycle.spawn("alice")
            await until(hive, ALICE, lambda view: view.running and view.turn_state == "idle")
            page = await budget(operator, chains=True, days=3)
            assert (page.days, page.chains) == ([], [])
            assert [one.day_tokens for one in page.spent] == [0] * len(page.spent)
            assert (await worked(operator, "alice", 0)).turns == []


async def test_mail_during_a_limit_starts_nothing_in_this_life_of_the_hive_nor_in_the_next(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    agents = [AgentName("bob"), AgentName("carol")]
    until = 4_000_000_000

    async def parked(hive: Hive) -> None:
        async with hive.bus.subscribe() as events:
            while {hive.lifecycle.view(name).waiting_reason for name in agents} != {"limited"}:
                await anext(events)

    with anyio.fail_after(LIMIT):
        async with Hive.open(config=config, environ=environ) as hive:
            await hive.accounts.set("work", "key", Secret("dummy"))
            hive.accounts.state("work").limit(until)
            for name in agents:
                await hive.lifecycle.spawn(name)
                for urgency in URGENCIES:
                    await hive.broker.send("operator", name, "hello?", urgency=urgency)
            await parked(hive)
        async with (
            Hive.open(config=config, environ=environ) as hive,
            connect(run_dir=hive.paths.run_dir) as operator,
        ):
            await parked(hive)
            await hive.broker.send("operator", "bob", "hello?", urgency="interrupt")
            listed = await operator.request(r.Account())
            assert isinstance(listed, Accounts)
            assert ("work", until) in [(one.name, one.limited_until) for one in listed.accounts]
            for name in agents:
                assert await operator.request(r.Turns(name=name)) == TurnRows(turns=[])
                assert hive.broker.pending_now(name) == (4 if name == "bob" else 3)


async def test_a_limit_that_a_harness_tells_of_holds_for_all_of_the_account_in_the_next_life_of_the_hive_too(
    config: HiveConfig, environ: dict[str, str]
) -> None:
    async def ask(hive: Hive, name: str, request: r.Request) -> object:
        """As a harness in a process of its own does."""
        actor = Actor(name=AgentName(name), role="harness", channel="harness")
        return (await hive.dispatcher.dispatch(actor, request)).reply

    with anyio.fail_after(LIMIT):
        async with Hive.open(config=config, environ=environ) as hive:
            await hive.accounts.set("work", "key", Secret("dummy"))
            until = int(time.time()) + 3600
            assert await ask(hive, "carol", r.MayTurn()) == Admission()
            await ask(hive, "bob", r.Charge(key="1", started_at=0, limited_until=until))
            assert await ask(hive, "carol", r.MayTurn()) == Admission(limited_until=until)
            assert await ask(hive, "alice", r.MayTurn()) == Admission(), "hers is another account"
        async with Hive.open(config=config, environ=environ) as hive:
            assert await ask(hive, "carol", r.MayTurn()) == Admission(limited_until=until)
