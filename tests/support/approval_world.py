"""A host for tests of approvals: what stays when the hive's process dies (database, repos, mail), and its lives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hyperhive.bus import Bus
from hyperhive.errors import StoreFailed
from hyperhive.lifecycle.approvals import MIGRATIONS, ApprovalQueue
from hyperhive.lifecycle.approvals.book import Failpoint, no_failpoint
from hyperhive.names import AgentName
from hyperhive.protocol.events import AnyDashboardEvent, AnyHelperEvent
from hyperhive.store import Store
from hyperhive.testing import FakeClock
from hyperhive.testing.repos import MemoryRepos

ALICE = AgentName("alice")


class Handed:
    """A deployer that only remembers."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def approved(self, id: int) -> None:  # noqa: A002
        self.ids.append(id)


@dataclass
class ApprovalWorld:
    """What stays. `told` holds each key once, as mail with dedupe keys does."""

    path: Path
    repos: MemoryRepos = field(default_factory=MemoryRepos)
    clock: FakeClock = field(default_factory=FakeClock)
    told: dict[str, AnyHelperEvent] = field(default_factory=dict)
    alive: set[str] = field(default_factory=lambda: {"alice", "manager"})
    handed: Handed = field(default_factory=Handed)
    tell_fails: bool = False
    bus: Bus[AnyDashboardEvent] = field(default_factory=Bus)

    async def tell(self, event: AnyHelperEvent, key: str) -> None:
        if self.tell_fails:
            raise StoreFailed("the disk is full")
        self.told.setdefault(key, event)

    @asynccontextmanager
    async def queue(self, failpoint: Failpoint = no_failpoint) -> AsyncIterator[ApprovalQueue]:
        """One life of the queue."""
        async with Store.open(self.path, migrations=[MIGRATIONS], clock=self.clock) as store:
            self.bus = Bus()
            queue = ApprovalQueue(
                store=store,
                repos=self.repos,
                bus=self.bus,
                clock=self.clock,
                alive=self.alive.__contains__,
                tell=self.tell,
                failpoint=failpoint,
            )
            await self.repos.ensure(ALICE)
            await queue.start()
            queue.deploy_with(self.handed)
            yield queue

    def change(self, text: str = 'model = "sonnet"\n', *, on: str | None = None) -> str:
        """A commit of the manager's on what alice runs."""
        return self.repos.commit({"agent.toml": text}, on=on or self.repos.mains["alice"])
