"""What an event sets off: a lost login is mail, once for the account and in each life of the hive."""

from pathlib import Path

import anyio

from hyperhive.accounts import Accounts
from hyperhive.background import Background
from hyperhive.broker import Broker
from hyperhive.names import MANAGER, OPERATOR
from hyperhive.reactions import AccountWatch, Herald


async def lose_and_find_a_login(state: Path, started_at: int) -> list[str]:
    """One life of a hive whose account loses its login and has it again; the operator's mail after that."""
    async with Broker.open(state / "hive.sqlite") as broker:
        background = await Background("test").start()
        try:
            accounts = await Accounts.open(state / "accounts", {})
            AccountWatch(
                accounts, Herald(broker), background, lambda _: [MANAGER], lambda _: None, started_at
            )
            account = accounts.state("default")
            known = len(await broker.recent(OPERATOR, 100))
            account.login_refused(account.generation)
            await mail(broker, known + 1)
            account.login_landed()
            return await mail(broker, known + 2)
        finally:
            await background.aclose()


async def mail(broker: Broker, count: int) -> list[str]:
    """The operator's mail, oldest first, when there is so much of it."""
    with anyio.fail_after(10):
        while len(rows := await broker.recent(OPERATOR, 100)) < count:
            await anyio.lowlevel.checkpoint()
    return [row.body for row in reversed(rows)]


async def test_a_second_lost_login_after_a_restart_is_told_as_well(tmp_path: Path) -> None:
    first = await lose_and_find_a_login(tmp_path, 1_800_000_000)
    second = await lose_and_find_a_login(tmp_path, 1_800_000_100)
    assert [("needs_login" in body, "logged_in" in body) for body in first] == [(True, False), (False, True)]
    assert second == first * 2
