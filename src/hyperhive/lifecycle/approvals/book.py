"""`Book`: the approvals as rows, in memory as far as they are open, and what is told of each.

Changes are made here and nowhere else, each a transaction of `rows`; what follows from one (events, the hand-over to
the deployer) follows from the commit, also where whoever asked has gone away. It decides nothing.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio

from hyperhive.bus import Bus
from hyperhive.clock import SYSTEM_CLOCK, Clock, unix_seconds
from hyperhive.errors import Conflict, HiveError, NotFound
from hyperhive.lifecycle.approvals import rows
from hyperhive.lifecycle.approvals.audit import By
from hyperhive.lifecycle.approvals.ports import Deployer, Repos
from hyperhive.lifecycle.approvals.rows import Row
from hyperhive.names import SYSTEM, AgentName
from hyperhive.protocol.events import (
    AnyDashboardEvent,
    AnyHelperEvent,
    ApprovalAdded,
    ApprovalChanged,
    ApprovalResolved,
    ApprovalResolvedMail,
)
from hyperhive.protocol.types import Approval
from hyperhive.store import Operation, Store

log = logging.getLogger(__name__)

EVENT_DIFF_MAX: Final = 64 * 1024
"""Characters of a diff that go out with `approval_added`; `show` gives it whole."""

NEWS_SECONDS: Final = 86_400
"""For so long what failed is at hand."""

Tell = Callable[[AnyHelperEvent, str], Awaitable[None]]
Failpoint = Callable[[str], Awaitable[None]]
News = tuple[AnyHelperEvent, str]
"""A helper event, and the key that says the same one again."""


async def no_failpoint(name: str) -> None:
    """Nothing fails on purpose."""
    del name


async def tell_nobody(event: AnyHelperEvent, key: str) -> None:
    """For a queue that is used alone."""
    del event, key


class NoDeployer:
    """For a queue that is used alone: what was approved waits for a hive."""

    def approved(self, id: int) -> None:  # noqa: A002
        """Does nothing."""


class Book:
    """The rows of one hive's approvals. Await `start` before use."""

    def __init__(
        self,
        *,
        store: Store,
        repos: Repos,
        bus: Bus[AnyDashboardEvent] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        tell: Tell = tell_nobody,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        """See `ApprovalQueue`."""
        self._store = store
        self._repos = repos
        self.bus = bus if bus is not None else Bus()
        self._clock = clock
        self._tell = tell
        self._failpoint = failpoint
        self._deployer: Deployer = NoDeployer()
        self._open: dict[int, Row] = {}
        self._failed: list[Row] = []
        self._reserve_op = Operation("reserve approval", rows.each(rows.reserve))
        self._drop_op: Operation[int | None, None] = Operation("drop drafts", rows.drop_drafts)
        self._submit_op = Operation("submit approval", rows.each(rows.submit), applied=self._submitted)
        self._decide_op = Operation("decide approval", rows.each(rows.decide), applied=self._decided)
        self._advance_op = Operation("advance approval", rows.each(rows.advance), applied=self._advanced)
        self._told_op: Operation[tuple[int, int], None] = Operation("approval told", rows.told)

    async def start(self) -> None:
        """Reads what is open; drafts that a crash left are forgotten."""
        await self._store.submit(self._drop_op, None)
        found = await self._store.read(
            lambda conn: rows.in_stages(conn, ("proposal", "approved", "building"))
        )
        self._open = {row.id: row for row in found}
        since = unix_seconds(self._clock) - NEWS_SECONDS
        self._failed = await self._store.read(lambda conn: rows.failed_since(conn, since))

    def deploy_with(self, deployer: Deployer) -> None:
        """Hands what is approved to this one from now on."""
        self._deployer = deployer

    # --- after each commit, on the loop -----------------------------------------------------------------------------

    def _submitted(self, job: rows.Submit, row: Row) -> None:
        self._keep(row)
        log.info(
            "approval_requested id=%s agent=%s kind=%s by=%s", row.id, row.agent, row.kind, row.requested_by
        )
        self.bus.publish(ApprovalAdded(approval=row.wire(), diff=job.diff[:EVENT_DIFF_MAX]))
        if row.stage == "approved":
            self._deployer.approved(row.id)

    def _decided(self, job: rows.Decide, row: Row) -> None:
        self._keep(row)
        log.info("approval_%s id=%s agent=%s channel=%s", job.to, row.id, row.agent, job.by.channel)
        self.bus.publish(ApprovalChanged(approval=row.wire()))
        if row.stage == "approved":
            self._deployer.approved(row.id)

    def _advanced(self, job: rows.Advance, row: Row) -> None:
        self._keep(row)
        log.info("approval_advanced id=%s agent=%s stage=%s", row.id, row.agent, job.to)
        if row.stage == "failed":
            since = unix_seconds(self._clock) - NEWS_SECONDS
            self._failed = [one for one in self._failed if (one.resolved_at or 0) >= since] + [row]
        self.bus.publish(ApprovalChanged(approval=row.wire()))

    def _keep(self, row: Row) -> None:
        if row.stage in rows.OPEN:
            self._open[row.id] = row
        else:
            self._open.pop(row.id, None)

    # --- what becomes of the approved ones --------------------------------------------------------------------------

    async def row(self, id: int) -> Row:  # noqa: A002
        """One approval as stored.

        Raises:
            NotFound: there is none.
        """
        known = self._open.get(id)
        return known if known is not None else await self._store.read(lambda conn: rows.find(conn, id))

    def failed_since(self, at: int) -> list[Approval]:
        """What failed at or after this unix time, of the last day."""
        return [row.wire() for row in self._failed if (row.resolved_at or 0) >= at]

    async def unfinished(self) -> tuple[list[Row], list[Row]]:
        """What was approved and not carried out, and what is final and not told or not tagged."""
        approved = [row for row in self._open.values() if row.stage in {"approved", "building"}]
        return approved, await self._store.read(rows.untold)

    async def stage(
        self,
        id: int,  # noqa: A002
        stage: rows.Move,
        note: str | None = None,
        *,
        config: str | None = None,
        revision: str = "",
    ) -> Row:
        """A deploy has come to this stage. Durable on return; `settle` tells of a final one.

        Raises:
            Conflict: it cannot come to that from where it is.
        """
        job = rows.Advance(
            id=id, to=stage, by=self._by(SYSTEM, "core", note), config=config, revision=revision
        )
        return await self._store.submit(self._advance_op, job)

    async def fail(self, id: int, note: str) -> Row:  # noqa: A002
        """An open approval has failed, and its requester is told.

        Raises:
            Conflict: it was resolved already.
        """
        with anyio.CancelScope(shield=True):
            row = await self.stage(id, "failed", note)
            await self.settle(row)
        return row

    async def settle(self, row: Row, *news: News) -> None:
        """Tells of the end of a final approval: its tag, the event, the mail and what further news there are.

        Git or the mail may fail now: the next start does what is missing. Each thing is told once.
        """
        with anyio.CancelScope(shield=True):
            published = await self.publish_tag(row)
            try:
                if row.told == rows.UNTOLD:
                    await self._tell_all(row, news)
                await self._store.submit(
                    self._told_op, (row.id, rows.TOLD if published else rows.TAG_MISSING)
                )
                await self._failpoint("after tell")
            except HiveError as error:
                log.warning("approval_not_told id=%s error=%s", row.id, error)

    async def _tell_all(self, row: Row, news: Sequence[News]) -> None:
        self.bus.publish(ApprovalResolved(approval=row.wire()))
        mail = ApprovalResolvedMail(
            id=row.id, agent=row.agent, commit_ref=row.sha, status=row.status, note=row.note
        )
        await self._failpoint("before tell")
        for event, key in ((mail, f"approval:{row.id}:resolved"), *news):
            await self._tell(event, key)

    async def publish_tag(self, row: Row) -> bool:
        """The tag that says that it failed or was denied, and why. Idempotent; False: it is to be tried again.

        That it was deployed is for the deployer to publish, with main and the lock file.
        """
        if row.kind == "spawn" or row.stage not in {"failed", "denied"} or not row.sha:
            return True
        message = row.note or row.stage
        try:
            await self._failpoint("before tag")
            await self._repos.tag(AgentName(row.agent), f"{row.stage}/{row.id}", row.sha, message)
            await self._failpoint("after tag")
        except (Conflict, NotFound) as error:  # there is another, or no repo any more: no next try helps
            log.warning("tag_given_up agent=%s tag=%s/%s error=%s", row.agent, row.stage, row.id, error)
        except HiveError as error:
            log.warning("tag_not_made agent=%s tag=%s/%s error=%s", row.agent, row.stage, row.id, error)
            return False
        return True

    def _by(self, who: str, channel: str, why: str | None = None) -> By:
        return By(who, channel, unix_seconds(self._clock), why)
