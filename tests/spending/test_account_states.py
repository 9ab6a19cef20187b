"""Claims about what is known of accounts: a restart forgets no limit and no lost login, and a new secret ends both."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hyperhive.account_states import MIGRATIONS, AccountStates
from hyperhive.accounts import Accounts, Secret
from hyperhive.background import Background
from hyperhive.broker import MIGRATIONS as MAIL
from hyperhive.broker import Broker
from hyperhive.names import MANAGER, OPERATOR
from hyperhive.reactions import AccountWatch, Herald
from hyperhive.store import Store
from hyperhive.testing import FakeClock

HOUR = 3600
LIMIT = 30.0


class World:
    """What outlives one life of a hive's accounts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FakeClock()
        self.environ: dict[str, str] = {}
        self.broker: Broker

    async def told(self, count: int) -> list[str]:
        """The operator's mail, oldest first, once there is so much of it."""
        with anyio.fail_after(LIMIT):
            while len(rows := await self.broker.recent(OPERATOR, 100)) < count:
                await checkpoint()
        return [row.body for row in reversed(rows)]

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Accounts]:
        path = self.root / "hive.sqlite"
        background = await Background("test").start()
        try:
            async with Store.open(path, migrations=[MAIL, MIGRATIONS], clock=self.clock) as store:
                self.broker = broker = await Broker(store=store, clock=self.clock).start()
                accounts = await Accounts.open(self.root / "accounts", self.environ)
                await AccountStates(store, accounts, self.clock).restore()
                AccountWatch(accounts, Herald(broker), background, lambda _: [MANAGER], lambda _: None, 1)
                yield accounts
                await broker.aclose()
        finally:
            await background.aclose()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_limit_holds_over_a_restart_until_its_reset_time(world: World) -> None:
    now = world.clock.time()
    async with world.life() as accounts:
        await accounts.set("default", "key", Secret("dummy"))
        accounts.state("default").limit(now + HOUR)
    async with world.life() as accounts:
        assert accounts.bind("alice").state.blocked_until(now) == now + HOUR
    world.clock.jump(HOUR)
    async with world.life() as accounts:
        assert accounts.bind("alice").state.blocked_until(world.clock.time()) is None


async def test_a_lost_login_holds_over_a_restart_and_is_told_once(world: World) -> None:
    async with world.life() as accounts:
        await accounts.set("default", "key", Secret("dummy"))
        os.utime(world.root / "accounts" / "default", (world.clock.time() - 60,) * 2)
        accounts.state("default").login_refused(accounts.state("default").generation)
        await world.told(1)
    async with world.life() as accounts:
        assert accounts.state("default").needs_login
    async with world.life() as accounts:
        await accounts.set("default", "key", Secret("another"))
        lost, found = await world.told(2)
        assert "needs_login" in lost
        assert "logged_in" in found
    async with world.life() as accounts:
        assert not accounts.state("default").needs_login


async def test_a_secret_that_was_written_while_the_hive_was_down_is_tried(world: World) -> None:
    async with world.life() as accounts:
        await accounts.set("default", "key", Secret("dummy"))
        accounts.state("default").login_refused(accounts.state("default").generation)
    os.utime(world.root / "accounts" / "default", (world.clock.time() + 60,) * 2)
    async with world.life() as accounts:
        assert not accounts.state("default").needs_login


async def test_a_key_in_the_environment_is_tried_again_after_a_restart_but_not_before_its_limit_ends(
    world: World,
) -> None:
    world.environ = {"ANTHROPIC_API_KEY": "dummy"}
    now = world.clock.time()
    async with world.life() as accounts:
        state = accounts.bind("alice").state
        state.login_refused(state.generation)
        state.limit(now + HOUR)
    async with world.life() as accounts:
        state = accounts.bind("alice").state
        assert not state.needs_login
        assert state.blocked_until(now) == now + HOUR
