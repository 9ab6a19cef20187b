"""The broker passes the suite that any other backend would have to pass."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hyperhive.broker import Broker
from hyperhive.testing.broker_suite import BROKER_CASES, Case, MailBroker


class SqliteKit:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.broker: MailBroker
        self.current: Broker

    async def open(self) -> None:
        self.current = await Broker.open(self.path)
        self.broker = self.current

    async def restart(self) -> None:
        await self.current.aclose()
        await self.open()

    async def crash(self) -> None:
        await self.current.store.abandon()
        await self.current.aclose()
        await self.open()


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[SqliteKit]:
    kit = SqliteKit(tmp_path / "hive.sqlite")
    await kit.open()
    yield kit
    await kit.current.aclose()


@pytest.mark.parametrize("case", BROKER_CASES, ids=lambda case: case.__name__)
async def test_conforms(case: Case, kit: SqliteKit) -> None:
    await case(kit)
