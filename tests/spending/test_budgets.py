"""Claims about budgets that are used up: who waits, what the operator is asked, and how everybody goes on again."""

import math
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio.lowlevel import checkpoint

from hyperhive.background import Background
from hyperhive.broker import MIGRATIONS as MAIL
from hyperhive.broker import Broker, QuestionRow
from hyperhive.broker.causes import root_in
from hyperhive.budget_questions import KIND, OPTIONS
from hyperhive.budgets import Budgets
from hyperhive.config import AgentConfig, Budget, HiveConfig, HiveFile, Limits
from hyperhive.errors import BadRequest, Conflict, WorldError
from hyperhive.names import AgentName
from hyperhive.protocol.types import TokenUsage
from hyperhive.releasing import STAGGER_SECONDS
from hyperhive.spending import HIVE, MIGRATIONS, Spending, Usage
from hyperhive.store import Store
from hyperhive.testing import FakeClock

HOUR, DAY = 3600, 86400
NOON = 1_800_000_000.0 // DAY * DAY + DAY / 2
LIMIT = 20.0


class Life:
    """One life of a hive's budgets."""

    def __init__(self, world: "World", store: Store, broker: Broker, background: Background) -> None:
        self.world = world
        self.store = store
        self.broker = broker
        self.budgets = Budgets(
            spending=Spending(
                store=store,
                clock=world.clock,
                config=lambda: world.config,
                cause_of=broker.at_work_on,
                roots=root_in,
            ),
            store=store,
            broker=broker,
            clock=world.clock,
            background=background,
            names=lambda: [AgentName(name) for name in world.names],
            stop=self.stop,
            touch=lambda _: None,
        )
        self.spending = self.budgets.spending

    async def stop(self, name: AgentName) -> None:
        if name in self.world.busy:
            raise Conflict(f"{name} is restarting")
        self.world.stopped.append(name)

    async def spend(self, agent: str, tokens: int) -> None:
        """What the gateway tells after a request."""
        usage = Usage(model="claude-sonnet-4-5", tokens=TokenUsage(input_tokens=tokens))
        await self.budgets.used(AgentName(agent), usage)

    async def mail(self, agent: str, **fields: str) -> int:
        return (await self.broker.send("operator", agent, "work", **fields)).id  # type: ignore[arg-type]

    async def questions(self, count: int) -> list[QuestionRow]:
        """The open questions about budgets, as soon as there are so many."""
        with anyio.fail_after(LIMIT):
            while True:
                found = [one for one in await self.broker.questions.open() if one.kind == KIND]
                if len(found) == count:
                    return found
                await checkpoint()

    async def refused(self, agent: str) -> str | None:
        verdict = await self.budgets.may_turn(AgentName(agent))
        return None if verdict is None else verdict.message


class World:
    """What outlives one life."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock(NOON)
        self.names = ["alice", "bob"]
        self.stopped: list[str] = []
        self.busy: set[str] = set()
        self.set(alice=Budget(tokens_per_hour=100))

    def set(self, hive: Budget | None = None, /, **agents: Budget) -> None:
        file = HiveFile(
            budget=hive or Budget(),
            agents={name: AgentConfig(limits=Limits(budget=budget)) for name, budget in agents.items()},
        )
        self.config = HiveConfig(file=file, state_dir=Path("/x"), run_dir=Path("/x"))

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Life]:
        background = await Background("test").start()
        try:
            async with Store.open(self.path, migrations=[MAIL, MIGRATIONS], clock=self.clock) as store:
                broker = Broker(store=store, clock=self.clock)
                life = Life(self, store, broker, background)
                await broker.start()
                await life.spending.start()
                await life.budgets.start()
                background.spawn(life.budgets.run, "budgets")
                try:
                    yield life
                finally:
                    await background.aclose()
                    await broker.aclose()
        finally:
            await background.aclose()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "hive.sqlite")


async def test_over_budget_no_turn_starts_its_mail_waits_and_the_operator_is_asked_once(world: World) -> None:
    async with world.life() as life:
        await life.mail("alice")
        assert await life.refused("alice") is None
        await life.spend("alice", 100)
        for _ in range(3):
            refusal = await life.budgets.may_turn(AgentName("alice"))
            assert refusal is not None
            assert refusal.until == NOON + HOUR
        [question] = await life.questions(1)
        assert (question.asker, question.target, question.options) == ("system", "operator", OPTIONS)
        assert "alice's budget tokens_per_hour is used up: 100 of 100 tokens" in question.question
        assert "13:00 UTC" in question.question
        refusal = await life.budgets.may_turn(AgentName("alice"))
        with anyio.fail_after(20):  # the question is asked beside the turns
            while refusal is not None and refusal.question_id is None:
                await anyio.lowlevel.checkpoint()
                refusal = await life.budgets.may_turn(AgentName("alice"))
        assert refusal is not None
        assert refusal.question_id == question.id
        assert await life.broker.pending("alice") == 1
        assert await life.refused("bob") is None


async def test_between_two_requests_of_a_turn_the_next_is_refused_and_the_turn_is_known_as_cut(
    world: World,
) -> None:
    async with world.life() as life:
        message = await life.mail("alice")
        await life.broker.recv("alice")
        alice, began = AgentName("alice"), int(world.clock.time())
        assert life.budgets.admit(alice) is None
        await life.spend("alice", 99)
        assert life.budgets.admit(alice) is None
        await life.spend("alice", 1)
        refusal = life.budgets.admit(alice)
        assert refusal is not None
        assert refusal.until == NOON + HOUR
        await life.questions(1)
        usage = Usage(model="", tokens=TokenUsage(input_tokens=10**6))
        cause, cut = await life.budgets.charge(
            alice,
            usage,
            cost=1.0,
            key="1",
            turn=1,
            started_at=began,
            messages=[message],
            metered=True,
        )
        assert cause is not None
        assert cause.message == message
        assert cut == refusal.message
        assert life.spending.spent("alice", "day").tokens == 100, (
            "what the CLI says of a metered turn is ignored"
        )


async def test_an_agent_without_mail_is_not_paused_and_nobody_is_asked_about_it(world: World) -> None:
    async with world.life() as life:
        await life.spend("alice", 1000)
        assert await life.refused("alice") is None
        assert await life.broker.questions.open() == []


async def test_raise_grants_as_much_again_for_this_window_and_is_asked_again_after_that(world: World) -> None:
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        [question] = await life.questions(1)
        await life.broker.questions.answer(question.id, "raise", by="operator")
        assert await life.refused("alice") is None
        await life.spend("alice", 99)
        assert await life.refused("alice") is None
        await life.spend("alice", 1)
        assert await life.refused("alice") is not None
        [second] = await life.questions(1)
        assert second.id != question.id
    async with world.life() as life:  # the grant, and what is asked, are rows
        assert await life.refused("alice") is not None
        assert [one.id for one in await life.questions(1)] == [second.id]
        await life.broker.questions.answer(second.id, "raise", by="operator")
        assert await life.refused("alice") is None
        world.clock.jump(HOUR)
        await life.spend("alice", 100)
        assert await life.refused("alice") is not None, "a grant is for its window alone"


async def test_a_raise_always_leaves_something_also_where_a_turn_overshot_by_far(world: World) -> None:
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 1033)
        await life.refused("alice")
        [question] = await life.questions(1)
        await life.broker.questions.answer(question.id, "raise", by="operator")
        assert await life.refused("alice") is None
        [bound] = life.spending.bounds("alice")
        assert (bound.limit, bound.base, bound.raises) == (1100, 100, 10)
    async with world.life() as life:
        assert await life.refused("alice") is None


async def test_wait_asks_no_more_until_the_window_ends_also_after_a_restart(world: World) -> None:
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        [question] = await life.questions(1)
        with pytest.raises(BadRequest):
            await life.broker.questions.answer(question.id, "please", by="operator")
        await life.broker.questions.answer(question.id, "wait", by="operator")
        assert await life.refused("alice") is not None
    async with world.life() as life:
        assert await life.refused("alice") is not None
        await anyio.wait_all_tasks_blocked()
        assert await life.broker.questions.open() == []
        world.clock.jump(HOUR)
        assert await life.refused("alice") is None


async def test_stop_stops_the_agent_after_the_answer_is_stored(world: World) -> None:
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        [question] = await life.questions(1)
        world.busy.add("alice")  # it is being restarted: tried again when that has ended
        await life.broker.questions.answer(question.id, "stop", by="operator")
        with anyio.fail_after(LIMIT):
            await world.clock.until_sleepers()
        assert world.stopped == []
        world.busy.clear()
        await world.clock.advance(5)
        assert world.stopped == ["alice"]


async def test_an_agent_that_is_started_after_a_stop_is_asked_about_again(world: World) -> None:
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        [question] = await life.questions(1)
        world.busy.add("alice")
        await life.broker.questions.answer(question.id, "stop", by="operator")
        await world.clock.until_sleepers()
        assert await life.refused("alice") is not None, "it is not stopped yet"
        assert await life.broker.questions.open() == []
        world.busy.clear()
        await world.clock.advance(5)
        assert world.stopped == ["alice"]
        assert await life.refused("alice") is not None
        [again] = await life.questions(1)
        assert again.id != question.id
        await life.broker.questions.answer(again.id, "stop", by="operator")
        await anyio.wait_all_tasks_blocked()
    async with world.life() as life:
        assert await life.broker.questions.open() == [], "nobody has started it"
        assert await life.refused("alice") is not None
        [third] = await life.questions(1)
        await life.broker.questions.answer(third.id, "raise", by="operator")
        assert await life.refused("alice") is None


async def test_a_stop_that_a_crash_kept_from_happening_happens_before_agents_start_again(
    world: World,
) -> None:
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        [question] = await life.questions(1)

        async def dies(_: AgentName) -> None:
            await anyio.sleep_forever()

        life.budgets._questions._stop = dies  # the hive is killed before the agent is stopped
        await life.broker.questions.answer(question.id, "stop", by="operator")
    assert world.stopped == []
    async with world.life():
        assert world.stopped == ["alice"]
    async with world.life():
        assert world.stopped == ["alice"], "once"


async def test_the_hives_budget_asks_one_question_for_all_and_stop_stops_all(world: World) -> None:
    world.set(Budget(tokens_per_day=100))
    async with world.life() as life:
        for agent in world.names:
            await life.mail(agent)
        await life.spend("alice", 100)
        for agent in world.names:
            assert "the hive's budget" in str(await life.refused(agent))
        [question] = await life.questions(1)
        await life.broker.questions.answer(question.id, "stop", by="operator")
        await anyio.wait_all_tasks_blocked()
        assert sorted(world.stopped) == ["alice", "bob"]


async def test_one_agent_that_cannot_be_stopped_keeps_no_other_running_and_is_tried_again_at_the_next_start(
    world: World,
) -> None:
    world.set(Budget(tokens_per_day=100))
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        [question] = await life.questions(1)

        async def stop(name: AgentName) -> None:
            if name == "alice":
                raise WorldError("its processes do not end")
            for _ in range(5):
                await checkpoint()  # the other has failed by now
            world.stopped.append(name)

        life.budgets._questions._stop = stop
        await life.broker.questions.answer(question.id, "stop", by="operator")
        with anyio.fail_after(LIMIT):
            while not world.stopped:
                await checkpoint()
        assert world.stopped == ["bob"]
    async with world.life():
        assert sorted(world.stopped) == ["alice", "bob", "bob"]


async def test_the_question_is_withdrawn_when_the_window_ends_and_when_the_limit_is_lifted(
    world: World,
) -> None:
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        [first] = await life.questions(1)
        with anyio.fail_after(LIMIT):
            await world.clock.until_sleepers()
        world.clock.jump(HOUR - 30)
        await world.clock.advance(30)
        await life.questions(0)
        row = await life.broker.questions.resolution(first.id, 0)
        assert row is not None
        assert row.answer == "[withdrawn: the hour is over]"
        assert await life.refused("alice") is None
        await life.spend("alice", 100)
        await life.refused("alice")
        await life.questions(1)
        world.set(alice=Budget(tokens_per_hour=1000))
        await life.budgets.reconsider()
        await life.questions(0)
        await world.clock.advance(STAGGER_SECONDS)  # it was let go on a moment ago
        assert await life.refused("alice") is None


async def test_a_limit_set_for_today_lets_go_on_at_once_and_a_raise_adds_as_much_again(world: World) -> None:
    world.set(alice=Budget(tokens_per_day=100))
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        await life.questions(1)
        await life.budgets.set_tokens_per_day("alice", 150)
        await life.questions(0)
        assert await life.refused("alice") is None
        await life.spend("alice", 50)
    async with world.life() as life:
        assert await life.refused("alice") is not None
        await life.budgets.set_tokens_per_day("alice", 200)
        assert await life.refused("alice") is None
        await life.budgets.set_tokens_per_day("alice", 100)
        assert await life.refused("alice") is not None
        await life.budgets.set_tokens_per_day(HIVE, 10**9)
        assert await life.refused("alice") is not None


async def test_whoever_waits_is_told_the_moment_the_operator_raises(world: World) -> None:
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        [question] = await life.questions(1)
        answers: list[object] = []

        async def wait() -> None:
            answers.append(await life.budgets.may_turn(AgentName("alice"), 100.0))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert answers == []
            await life.broker.questions.answer(question.id, "raise", by="operator")
        assert answers == [None]


async def test_a_clock_that_jumps_over_the_windows_end_is_noticed(world: World) -> None:
    async with world.life() as life:
        await life.mail("alice")
        await life.spend("alice", 100)
        await life.refused("alice")
        await life.questions(1)
        done = anyio.Event()

        async def wait() -> None:
            assert await life.budgets.may_turn(AgentName("alice"), 180.0) is None
            done.set()

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            world.clock.jump(HOUR)
            await world.clock.advance(30)
            assert done.is_set()
        await life.questions(0)


async def test_fifty_paused_agents_go_on_one_by_one_the_most_urgent_first_then_the_oldest(
    world: World,
) -> None:
    names = [f"agent{number}" for number in range(50)]
    world.set(Budget(tokens_per_hour=100))
    order = [names[(number * 7) % 50] for number in range(50)]
    urgent = {names[3]: "interrupt", names[40]: "soon", names[11]: "soon"}
    async with world.life() as life:
        for name in order:
            await life.mail(name, urgency=urgent.get(name, "next_turn"))
        await life.spend(names[0], 100)
        begun: list[tuple[str, float]] = []

        async def agent(name: str) -> None:
            while await life.budgets.may_turn(AgentName(name), 180.0) is not None:
                pass
            begun.append((name, world.clock.time()))

        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(agent, name)
            await anyio.wait_all_tasks_blocked()
            await life.questions(1)
            assert begun == []
            world.clock.jump(HOUR - 30)
            await world.clock.advance(30 + 50 * STAGGER_SECONDS)
            group.cancel_scope.cancel()
        by_urgency = [name for level in ("interrupt", "soon") for name in order if urgent.get(name) == level]
        assert [name for name, _ in begun] == by_urgency + [name for name in order if name not in urgent]
        times = [at for _, at in begun]
        assert times[0] == NOON + HOUR
        assert [round(later - earlier) for earlier, later in pairwise(times)] == [STAGGER_SECONDS] * 49
        await life.questions(0)


async def test_an_idle_hive_spends_nothing_stores_nothing_and_wakes_nobody(world: World) -> None:
    async with world.life() as life:
        await anyio.wait_all_tasks_blocked()
        before = life.store.statistics()
        await world.clock.advance(10 * DAY)
        assert world.clock.next_wake == math.inf, "nothing sleeps towards anything"
        assert life.store.statistics() == before

        def rows(conn: sqlite3.Connection) -> int:
            return int(conn.execute("SELECT count(*) FROM spending").fetchone()[0])

        assert await life.store.read(rows) == 0


async def test_three_agents_that_work_for_one_order_are_charged_to_it(world: World) -> None:
    async with world.life() as life:
        order = await life.mail("alice")
        for agent, following in (("alice", "bob"), ("bob", "carol"), ("carol", None)):
            [message] = await life.broker.recv(agent)
            await life.spend(agent, 10)
            if following is not None:
                await life.broker.send(agent, following, f"go on, {following}")
            await life.broker.ack_turn(agent)
            assert message.recipient == agent
        await life.spend("alice", 5)  # by a task in the background, after its turn
        [chain] = await life.spending.chains(None, NOON)
        assert (chain.chain, chain.tokens, chain.agents) == (order, 35, ("alice", "bob", "carol"))
        assert chain.root is not None
        assert (chain.root.sender, chain.root.recipient, chain.root.text) == ("operator", "alice", "work")
