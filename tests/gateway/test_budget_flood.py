"""Many requests at once overshoot a budget by no more than one of them would have."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from gateway_world import ALICE, BOB, World, ask, prompt, until
from hyperhive.background import Background
from hyperhive.broker import MIGRATIONS as MAIL
from hyperhive.broker import Broker
from hyperhive.budgets import Budgets
from hyperhive.clock import SYSTEM_CLOCK
from hyperhive.config import AgentConfig, Budget, HiveConfig, HiveFile
from hyperhive.gateway.metering import GUESS_MAX, estimate
from hyperhive.names import AgentName
from hyperhive.protocol.types import TokenUsage
from hyperhive.spending import HIVE, MIGRATIONS, Spending
from hyperhive.spending.usage import Usage, all_tokens
from hyperhive.store import Store
from hyperhive.testing.fake_anthropic import FakeAnthropic

FLOOD = 32
"""As many as an agent's door lets in."""
USED = {
    "input_tokens": 5, "output_tokens": 100, "cache_read_input_tokens": 15, "cache_creation_input_tokens": 0,
}  # fmt: skip
ONE = sum(USED.values())
LIMIT = 1000


@asynccontextmanager
async def budgeted(
    api: FakeAnthropic, tmp_path: Path, hive: Budget | None = None, **agents: Budget
) -> AsyncIterator[tuple[World, Budgets]]:
    """A gateway with the budgets that a hive has."""
    file = HiveFile(
        budget=hive or Budget(), agents={name: AgentConfig(budget=own) for name, own in agents.items()}
    )
    config = HiveConfig(file=file, state_dir=tmp_path, run_dir=tmp_path)

    async def stop(name: AgentName) -> None:
        raise AssertionError(f"nobody stops {name}")

    background = await Background("test").start()
    async with Store.open(tmp_path / "hive.sqlite", migrations=[MAIL, MIGRATIONS]) as store:
        broker = Broker(store=store, clock=SYSTEM_CLOCK)
        await broker.start()
        budgets = Budgets(
            spending=Spending(store=store, clock=SYSTEM_CLOCK, config=lambda: config),
            store=store,
            broker=broker,
            clock=SYSTEM_CLOCK,
            background=background,
            names=lambda: [ALICE, BOB],
            stop=stop,
            touch=lambda _: None,
        )
        try:
            async with World.open(api, budgets=budgets) as world:
                yield world, budgets
        finally:
            await background.aclose()
            await broker.aclose()


async def flood(world: World, *agents: AgentName) -> list[int]:
    """So many requests of each at once; their statuses."""
    told: list[int] = []

    async def one(stream: SocketStream) -> None:
        got = b""
        async with stream:
            await stream.send(request("hello"))
            with suppress(anyio.EndOfStream):
                while True:
                    got += await stream.receive()
        told.append(int(got.split()[1]))

    streams = [await world.raw(agent) for agent in agents for _ in range(FLOOD)]
    async with anyio.create_task_group() as group:
        for stream in streams:
            group.start_soon(one, stream)
    return told


def request(text: str) -> bytes:
    body = json.dumps(prompt(text)).encode()
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize("budget", [Budget(tokens_per_hour=LIMIT), Budget(cost_per_day=0.02)])
async def test_a_flood_overshoots_its_agents_budget_by_less_than_one_request(
    budget: Budget, api: FakeAnthropic, tmp_path: Path
) -> None:
    api.scenario = {"default": {"blocks": ["x"], "usage": USED, "delay": 0.05}}
    async with budgeted(api, tmp_path, alice=budget) as (world, budgets):
        told = await flood(world, ALICE)
        total = budgets.spending.spent(ALICE, "day")
        what, limit = (total.tokens, LIMIT) if budget.tokens_per_hour else (total.nano, 20_000_000)
        assert limit <= what < limit + what / total.requests
        assert told.count(200) == total.requests < FLOOD
        assert told.count(403) == FLOOD - total.requests


async def test_a_flood_of_several_overshoots_the_hives_by_one_request_each(
    api: FakeAnthropic, tmp_path: Path
) -> None:
    api.scenario = {"default": {"blocks": ["x"], "usage": USED, "delay": 0.05}}
    async with budgeted(api, tmp_path, Budget(tokens_per_hour=LIMIT)) as (world, budgets):
        await flood(world, ALICE, BOB)
        assert LIMIT <= budgets.spending.spent(HIVE, "hour").tokens < LIMIT + 2 * ONE


async def test_requests_that_a_budget_has_room_for_run_side_by_side_and_what_hangs_up_leaves_its_room(
    api: FakeAnthropic, tmp_path: Path
) -> None:
    """And an agent whose own nothing is under way waits for nobody's else."""
    api.scenario = {
        "rules": [{"match": "slow", "delay": 15}],
        "default": {"blocks": ["fast"], "usage": dict.fromkeys(USED, 1)},
    }
    room = 3 * all_tokens(estimate(json.dumps(prompt("slow")).encode()).tokens)
    async with budgeted(api, tmp_path, Budget(tokens_per_hour=room)) as (world, budgets):
        streams = []
        for number in range(1, 5):
            streams.append(await world.raw())
            await streams[-1].send(request("slow"))
            if number < 4:  # the fourth waits for one of them
                await until(lambda number=number: len(api.requests) == number)  # type: ignore[misc]
        async with world.client(BOB) as other:
            with anyio.fail_after(10):
                assert (await ask(other)).status_code == 200
        assert len(api.requests) == 3 + 1
        await streams.pop(0).aclose()
        await until(lambda: len(api.requests) == 4 + 1)
        for stream in streams:
            await stream.aclose()
        await until(lambda: not budgets.spending._holds._held)


@pytest.mark.parametrize(
    ("body", "model", "output"),
    [
        (b'{"model":"m","max_tokens":7}', "m", 7),
        (b'{"model":"m","max_tokens":-7}', "m", 0),
        (b'{"model":"m","max_tokens":1e9}', "", GUESS_MAX),
        (b'{"model":"m"}', "m", GUESS_MAX),
        (b'{"model":"m","max_tokens":"7"}', "", GUESS_MAX),
        (b"[" * 50_000, "", GUESS_MAX),
        (b"\xff", "", GUESS_MAX),
    ],
)
def test_what_a_request_may_use_is_what_it_says_and_the_most_where_it_says_nothing(
    body: bytes, model: str, output: int
) -> None:
    tokens = TokenUsage(input_tokens=len(body) // 3, output_tokens=output)
    assert estimate(body) == Usage(model=model, tokens=tokens)
