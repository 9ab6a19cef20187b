"""Claims about what was spent: every charge counts once and exactly, in its window, on its chain, over restarts."""

import math
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hyperhive.config import AgentConfig, Budget, HiveConfig, HiveFile, Limits, Price
from hyperhive.protocol.types import TokenUsage
from hyperhive.spending import HIVE, MIGRATIONS, Cause, Root, Spending, Usage, rows
from hyperhive.spending.grants import Grant, Window
from hyperhive.spending.prices import NANO, PRICES, price_of
from hyperhive.spending.usage import DOLLARS_MAX, TOKENS_MAX, all_tokens
from hyperhive.spending.windows import WindowName
from hyperhive.store import Store
from hyperhive.testing import FakeClock

HOUR, DAY = 3600, 86400
NOON = 1_800_000_000.0 // DAY * DAY + DAY / 2


def config(
    hive: Budget | None = None, prices: dict[str, Price] | None = None, **agents: Budget
) -> HiveConfig:
    file = HiveFile(
        budget=hive or Budget(),
        prices=prices or {},
        agents={name: AgentConfig(limits=Limits(budget=budget)) for name, budget in agents.items()},
    )
    return HiveConfig(file=file, state_dir=Path("/nowhere"), run_dir=Path("/nowhere"))


class World:
    """One hive's spending, which can be ended and begun again on the same file."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.path = path
        self.clock = clock
        self.config = config()
        self.causes: dict[str, Cause] = {}
        self.roots: dict[int, Root] = {}

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Spending]:
        async with Store.open(self.path, migrations=[MIGRATIONS], clock=self.clock) as store:
            yield await Spending(
                store=store,
                clock=self.clock,
                config=lambda: self.config,
                cause_of=lambda agent: self.causes.get(agent),
                roots=lambda _, chain: self.roots.get(chain),
                account_of=lambda agent: f"account of {agent}",
            ).start()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "hive.sqlite", FakeClock(NOON))


def used(
    tokens: int = 100, output: int = 0, model: str = "claude-sonnet-4-5", *, complete: bool = True
) -> Usage:
    return Usage(model=model, tokens=TokenUsage(input_tokens=tokens, output_tokens=output), complete=complete)


async def test_sums_are_exactly_what_was_charged_also_after_a_restart(world: World) -> None:
    dice = random.Random(7)
    charged: dict[str, list[tuple[int, int]]] = {"alice": [], "bob": []}
    async with world.life() as spending:
        for _ in range(300):
            agent, model = dice.choice(["alice", "bob"]), dice.choice(list(PRICES))
            usage = TokenUsage(
                input_tokens=dice.randrange(10**6),
                output_tokens=dice.randrange(10**4),
                cache_read_input_tokens=dice.randrange(10**6),
                cache_creation_input_tokens=dice.randrange(10**5),
            )
            await spending.charge(agent, Usage(model=model, tokens=usage), source="gateway")
            charged[agent].append((all_tokens(usage), price_of(model, usage).nano))
        assert_sums(spending, charged)
    async with world.life() as spending:
        assert_sums(spending, charged)
        days = {row.agent: row for row in await spending.days(None, NOON)}
        for agent, ones in charged.items():
            assert days[agent].cost_nano == sum(nano for _, nano in ones)
            assert days[agent].requests == len(ones)


def assert_sums(spending: Spending, charged: dict[str, list[tuple[int, int]]]) -> None:
    windows: tuple[WindowName, ...] = ("hour", "day")
    for window in windows:
        for scope, ones in {**charged, HIVE: [one for each in charged.values() for one in each]}.items():
            total = spending.spent(scope, window)
            assert total.tokens == sum(tokens for tokens, _ in ones)
            assert total.nano == sum(nano for _, nano in ones)
            assert total.requests == len(ones)


async def test_the_same_charge_counts_once_also_over_a_restart(world: World) -> None:
    async with world.life() as spending:
        for _ in range(3):
            await spending.charge("alice", used(), source="cli", cost=0.5, key="one")
        assert spending.spent("alice", "day").tokens == 100
    async with world.life() as spending:
        await spending.charge("alice", used(), source="cli", cost=0.5, key="one")
        await spending.charge("bob", used(), source="cli", cost=0.5, key="one")
        assert spending.spent("alice", "day").tokens == 100
        assert spending.spent(HIVE, "day").nano == NANO


@pytest.mark.parametrize(
    ("tokens", "cost", "counted", "nano"),
    [
        (-5, -1.0, 0, 0),
        (10**30, math.inf, TOKENS_MAX, DOLLARS_MAX * NANO),
        (7, math.nan, 7, 0),
        (7, 1e300, 7, DOLLARS_MAX * NANO),
    ],
)
async def test_numbers_that_cannot_be_are_cut_and_never_pay_anything_back(
    world: World, tokens: int, cost: float, counted: int, nano: float
) -> None:
    async with world.life() as spending:
        await spending.charge("alice", used(1), source="cli", cost=0.0)
        await spending.charge("alice", used(tokens), source="cli", cost=cost)
        total = spending.spent("alice", "day")
        assert (total.tokens, total.nano) == (1 + counted, nano)
    async with world.life() as spending:
        assert spending.spent("alice", "day").tokens == 1 + counted


def test_the_longest_prefix_sets_the_price_the_operator_goes_first_and_a_new_model_is_dear() -> None:
    usage = TokenUsage(
        input_tokens=10**6,
        output_tokens=10**6,
        cache_creation_input_tokens=10**6,
        cache_read_input_tokens=10**6,
    )
    assert price_of("claude-opus-4-5-20251101", usage).nano == round(36.75 * NANO)
    assert price_of("claude-opus-4-20250514", usage).nano == round(110.25 * NANO)
    new = price_of("somebody-elses-model", usage)
    assert new.guessed
    assert new.nano == max(price_of(name, usage).nano for name in PRICES)
    own = {"somebody": Price(input=1, output=0, cache_write=0, cache_read=0)}
    assert price_of("somebody-elses-model", usage, own).nano == NANO
    assert price_of("claude-3-haiku", TokenUsage(cache_read_input_tokens=1)).nano == 30


async def test_a_model_without_a_price_says_as_what_it_was_priced(world: World) -> None:
    async with world.life() as spending:
        await spending.charge("alice", used(model="unheard-of"), source="gateway")
        await spending.charge("alice", used(), source="gateway")
    assert await column(world, "priced_as") == [price_of("unheard-of", TokenUsage()).family, None]


async def column(world: World, name: str) -> list[object]:
    async with Store.open(world.path, migrations=[MIGRATIONS], clock=world.clock) as store:
        query = f"SELECT {name} FROM spending ORDER BY id"
        return await store.read(lambda conn: [row[0] for row in conn.execute(query)])


# --- budgets ----------------------------------------------------------------------------------------------------------


async def test_without_a_budget_nothing_is_over(world: World) -> None:
    async with world.life() as spending:
        await spending.charge("alice", used(10**8), source="gateway")
        assert spending.over_budget("alice") is None
        assert spending.used("alice") is None


async def test_each_limit_bites_at_its_value_and_says_until_when(world: World) -> None:
    cases: list[tuple[Budget, int]] = [
        (Budget(tokens_per_hour=100), HOUR),
        (Budget(tokens_per_day=100), DAY // 2),
        (Budget(cost_per_hour=0.0003), HOUR),
        (Budget(cost_per_day=0.0003), DAY // 2),
    ]
    for number, (budget, seconds) in enumerate(cases):
        world.config = config(None, None, **{f"agent{number}": budget})
        async with world.life() as spending:
            await spending.charge(f"agent{number}", used(99), source="gateway")
            assert spending.over_budget(f"agent{number}") is None
            await spending.charge(f"agent{number}", used(1), source="gateway")
            verdict = spending.over_budget(f"agent{number}")
            assert verdict is not None
            assert verdict.until == NOON + seconds
            assert f"agent{number}'s budget" in verdict.message
            assert spending.used(f"agent{number}") == pytest.approx(1.0)


async def test_the_hives_budget_stops_everybody_and_an_agents_only_that_one(world: World) -> None:
    world.config = config(Budget(tokens_per_day=300), alice=Budget(tokens_per_day=100))
    async with world.life() as spending:
        await spending.charge("alice", used(100), source="gateway")
        assert spending.over_budget("alice") is not None
        assert spending.over_budget("bob") is None
        await spending.charge("bob", used(200), source="gateway")
        bob = spending.over_budget("bob")
        assert bob is not None
        assert bob.window == Window(HIVE, "day", int(NOON - DAY / 2))


async def test_of_what_operator_and_config_allow_the_lesser_counts(world: World) -> None:
    agent = AgentConfig(
        budget=Budget(tokens_per_day=50, tokens_per_hour=500), limits=Limits(budget=Budget(tokens_per_day=90))
    )
    world.config = HiveConfig(
        file=HiveFile(agents={"alice": agent}), state_dir=Path("/x"), run_dir=Path("/x")
    )
    async with world.life() as spending:
        assert {one.setting: one.limit for one in spending.bounds("alice")} == {
            "tokens_per_day": 50,
            "tokens_per_hour": 500,
        }


async def test_a_window_that_ended_frees_by_itself(world: World) -> None:
    world.config = config(alice=Budget(tokens_per_hour=100))
    async with world.life() as spending:
        await spending.charge("alice", used(100), source="gateway")
        world.clock.jump(HOUR - 1)
        assert spending.over_budget("alice") is not None
        world.clock.jump(1)
        assert spending.over_budget("alice") is None


async def test_a_clock_that_jumps_back_gives_no_budget_twice(world: World) -> None:
    world.config = config(alice=Budget(tokens_per_hour=100))
    async with world.life() as spending:
        await spending.charge("alice", used(100), source="gateway")
        for there, back in [(HOUR, -HOUR), (400 * DAY, -400 * DAY), (-DAY, DAY)]:
            world.clock.jump(there)
            assert spending.over_budget("alice") is None
            await spending.charge("alice", used(60), source="gateway")
            world.clock.jump(back)
            assert spending.over_budget("alice") is not None
        world.clock.jump(HOUR)
        await spending.charge("alice", used(39), source="gateway")
        assert spending.over_budget("alice") is None  # 60 of this hour were spent when the clock was ahead
        await spending.charge("alice", used(1), source="gateway")
        assert spending.over_budget("alice") is not None
    async with world.life() as spending:
        assert spending.over_budget("alice") is not None


async def test_a_grant_holds_for_its_window_alone(world: World) -> None:
    world.config = config(alice=Budget(tokens_per_hour=100, tokens_per_day=1000))
    async with world.life() as spending:
        await spending.charge("alice", used(150), source="gateway")
        hour = Window("alice", "hour", int(NOON))
        spending.grant(hour, Grant(raises=1))
        assert spending.over_budget("alice") is None
        world.clock.jump(HOUR)
        await spending.charge("alice", used(150), source="gateway")
        assert spending.over_budget("alice") is not None


async def test_a_limit_that_was_set_for_today_replaces_the_configured_one(world: World) -> None:
    world.config = config(alice=Budget(tokens_per_day=100))
    async with world.life() as spending:
        await spending.charge("alice", used(150), source="gateway")
        today = Window("alice", "day", int(NOON - DAY / 2))
        spending.grant(today, Grant(tokens=151))
        assert spending.over_budget("alice") is None
        await spending.charge("alice", used(1), source="gateway")
        assert spending.over_budget("alice") is not None


# --- who caused this --------------------------------------------------------------------------------------------------


async def test_spending_is_told_by_chain_with_its_first_message(world: World) -> None:
    world.roots = {1: Root(sender="operator", recipient="alice", text="build it", at=5)}
    async with world.life() as spending:
        world.causes = {"alice": Cause(message=1, chain=1), "bob": Cause(message=2, chain=1)}
        await spending.charge("alice", used(10), source="gateway")
        await spending.charge("bob", used(20), source="gateway")
        world.causes["bob"] = Cause(message=9, chain=9)
        await spending.charge("bob", used(500), source="gateway")
    world.roots.clear()  # the mail is swept; where the chain began stays
    async with world.life() as spending:
        dearest, other = await spending.chains(None, NOON)
        assert (dearest.chain, dearest.tokens, dearest.root) == (9, 500, None)
        assert (other.chain, other.tokens, other.agents) == (1, 30, ("alice", "bob"))
        assert other.root is not None
        assert (other.root.sender, other.root.text) == ("operator", "build it")
        assert [row.chain for row in await spending.chains("alice", NOON)] == [1]


async def test_what_runs_on_after_a_turn_is_charged_to_the_chain_of_that_turn(world: World) -> None:
    async with world.life() as spending:
        world.causes = {"alice": Cause(message=3, chain=1)}
        await spending.charge("alice", used(10), source="gateway")
        world.causes.clear()
        await spending.charge("alice", used(5), source="gateway")
    assert await column(world, "chain") == [1, 1]


async def test_metered_requests_get_the_number_of_their_turn(world: World) -> None:
    async with world.life() as spending:
        await spending.charge("alice", used(1), source="gateway")  # of a turn that a crash cut short
        world.clock.jump(100)
        await spending.charge("alice", used(2), source="gateway")
        await spending.charge("bob", used(3), source="gateway")
        spending.number("alice", 7, NOON + 50)
        await spending.charge("alice", used(4), source="gateway")
    assert await column(world, "turn") == [None, 7, None, None]


async def test_rows_go_after_90_days_and_the_days_sums_stay(world: World) -> None:
    async with world.life() as spending:
        await spending.charge("alice", used(10), source="gateway")
        world.clock.jump(91 * DAY)
        await spending.charge("alice", used(20), source="gateway")
        assert await spending.sweep() == 1
        assert [row.tokens for row in await spending.days("alice", 0)] == [20, 10]


async def test_no_sum_looks_at_all_rows(world: World) -> None:
    asked: list[str] = []

    def ask(conn: sqlite3.Connection) -> list[str]:
        conn.set_trace_callback(asked.append)
        rows.hours(conn, 5)
        rows.chains(conn, 5, None, 10)
        rows.chains(conn, 5, "alice", 10)
        rows.days(conn, 5, None)
        conn.set_trace_callback(None)
        return [str(conn.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()) for query in asked]

    async with Store.open(world.path, migrations=[MIGRATIONS], clock=world.clock) as store:
        plans = await store.read(ask)
    assert len(plans) == 4
    for plan in plans:
        assert "SEARCH" in plan
        assert "SCAN" not in plan


async def test_a_spent_budget_costs_no_look_at_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.config = config(alice=Budget(tokens_per_hour=1))
    async with world.life() as spending:
        await spending.charge("alice", used(10), source="gateway")

        def no_reading(*_: object) -> None:
            raise AssertionError("the database was read")

        monkeypatch.setattr(Store, "read", no_reading)
        monkeypatch.setattr(Store, "submit", no_reading)
        assert spending.over_budget("alice") is not None
        monkeypatch.undo()


async def test_a_row_that_cannot_be_stored_is_given_up_and_stops_nobody_elses(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.life() as spending:
        await spending.charge("alice", used(model="\ud800 no text"), source="cli", cost=0.1, turn=1)
        await spending.charge("alice", used(), source="cli", cost=0.1, turn=2**70)
        await spending.charge("bob", used(), source="cli", cost=0.1, turn=1)
        assert [row.agent for row in await spending.days(None, NOON)] == ["alice", "bob"]
        await spending.charge("bob", used(), source="cli", cost=0.1, turn=2)
    assert await column(world, "turn") == [1, 1, 2]
    assert caplog.text.count("charge_lost agent=alice") == 1


async def test_what_a_full_disk_refused_is_written_when_it_takes_rows_again_and_hammers_on_nothing_until_then(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    refuse = "CREATE TRIGGER full BEFORE INSERT ON spending BEGIN SELECT RAISE(ABORT, 'no room'); END"

    async def sql(statement: str) -> None:
        def run() -> None:
            with closing(sqlite3.connect(world.path)) as conn, conn:
                conn.execute(statement)

        await anyio.to_thread.run_sync(run)

    async with world.life() as spending:
        await sql(refuse)
        for _ in range(20):
            await spending.charge("alice", used(), source="gateway")
        await spending.days(None, NOON)  # comes after them
        await anyio.wait_all_tasks_blocked()
        assert (len(spending._unwritten), spending._store._queued) == (20, [])
        assert caplog.text.count("charges_not_written") == 1
        assert spending.spent("alice", "day").tokens == 2000
        await sql("DROP TRIGGER full")
        await spending.charge("bob", used(), source="gateway")
        assert sum(row.tokens for row in await spending.days(None, NOON)) == 2100
    async with world.life() as spending:
        assert spending.spent("alice", "day").tokens == 2000
