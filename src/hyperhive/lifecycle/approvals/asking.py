"""`Asking`: how a proposal or a wish comes to be an approval that waits. Decides nothing.

A proposal's commit is imported first, under an id that was kept for it, and the approval is there with its row: what a
crash or a caller that went away leaves is a draft, which nobody sees and the next start forgets.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import anyio

from hyperhive.bus import Bus
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.errors import Conflict, HiveError, LimitReached, NotFound
from hyperhive.lifecycle.approvals import rows
from hyperhive.lifecycle.approvals.audit import By
from hyperhive.lifecycle.approvals.book import Book, Failpoint, Tell, no_failpoint, tell_nobody
from hyperhive.lifecycle.approvals.ports import Once, Repos
from hyperhive.lifecycle.approvals.rows import Row
from hyperhive.names import AgentName, parse_agent_name, parse_resident
from hyperhive.protocol.events import AnyDashboardEvent
from hyperhive.protocol.types import ApprovalKind
from hyperhive.store import Store

Remarks = Callable[[AgentName, str, str], Awaitable[Sequence[str]]]


class Asking(Book):
    """A book in which approvals are asked for."""

    def __init__(
        self,
        *,
        store: Store,
        repos: Repos,
        bus: Bus[AnyDashboardEvent] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        alive: Callable[[str], bool] = lambda _: False,
        tell: Tell = tell_nobody,
        remarks: Remarks | None = None,
        ready: Callable[[AgentName], Awaitable[None]] | None = None,
        room: Callable[[], Awaitable[None]] | None = None,
        admit: Callable[[AgentName], None] | None = None,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        """Await `start` before use.

        Args:
            alive: whether there is an agent of this name now.
            tell: mails helper events, each under a key that says the same event again.
            ready: returns when an agent has its repos.
            remarks: what should be said of a change (agent, base, sha) beside its diff.
            room: raises WorldError where nothing new should be begun on this disk.
            admit: raises Conflict where what a new agent of this name is to have is another's already.
            failpoint: called before and after each step; for tests.
        """
        super().__init__(store=store, repos=repos, bus=bus, clock=clock, tell=tell, failpoint=failpoint)
        self._alive = alive
        self._remarks = remarks
        self._ready = ready
        self._room = room
        self._admit = admit
        self._locks: dict[str, anyio.Lock] = defaultdict(anyio.Lock)

    # --- requests ---------------------------------------------------------------------------------------------------

    async def request_apply_commit(
        self, agent: str, commit_ref: str, *, by: str, channel: str = "library", once: Once | None = None
    ) -> int:
        """Proposes a commit of an agent's proposed repo; returns the approval's id.

        The commit is resolved and imported once: from then on only its full hash counts.

        Raises:
            NotFound: no such agent or commit. Conflict `stale_base`: it does not build on what is deployed.
            LimitReached: the change is too large to be judged, or too many of the agent's wait already.
            BadRequest: it holds what no repo may hold. WorldError: the disk is low.
        """
        name = parse_resident(agent)
        async with self._locks[name]:
            if not self._alive(name):
                raise NotFound(f"there is no agent named {name}", hint="`hyperhive list` shows who there is")
            if self._room is not None:
                await self._room()
            if self._ready is not None:
                await self._ready(name)
            floor = highest(await self._repos.tags(name))
            number, new = await self._reserve(name, "apply_commit", self._by(by, channel), floor, once)
            if not new:
                return number
            try:
                await self._failpoint("before propose")
                proposed = await self._repos.propose(name, commit_ref, number)
                await self._failpoint("after propose")
                diff = await self._repos.diff(name, proposed.base_sha, proposed.sha)
                if diff.too_big:
                    raise LimitReached(
                        "the change is too large for anybody to judge it",
                        hint="split it into smaller commits, and propose the first of them",
                    )
                row = await self._submit(
                    rows.Submit(
                        id=number,
                        sha=proposed.sha,
                        base=proposed.base_sha,
                        diff_sha256=diff.sha256,
                        by=self._by(by, channel),
                        once=once,
                        diff=diff.text,
                    )
                )
            except (HiveError, anyio.get_cancelled_exc_class()):
                with anyio.CancelScope(shield=True):
                    await self._store.submit(self._drop_op, number)
                raise
        return row.id

    async def request_spawn(
        self, name: str, *, by: str, channel: str = "library", once: Once | None = None
    ) -> int:
        """Asks for a new agent; returns the approval's id.

        Raises:
            InvalidName: nobody can be named so.
            Conflict: there is such an agent already, or the port of its own is another's.
            LimitReached: too many new agents wait already.
        """
        agent = parse_agent_name(name)
        async with self._locks[agent]:
            self._check_not_alive(agent)
            number, new = await self._reserve(agent, "spawn", self._by(by, channel), 0, once)
            if not new:
                return number
            row = await self._submit(rows.Submit(id=number, by=self._by(by, channel), once=once))
        return row.id

    async def resolve_all(self, agent: str, reason: str) -> None:
        """Fails every open approval of an agent that is alive no more, also what is just asked for. Idempotent."""
        async with self._locks[agent]:
            for row in [row for row in self._open.values() if row.agent == agent]:
                with suppress(Conflict):  # it was resolved in this moment
                    await self.fail(row.id, reason)

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _reserve(
        self,
        agent: str,
        kind: ApprovalKind,
        by: By,
        floor: int,
        once: Once | None,
        *,
        bounded: bool = True,
    ) -> tuple[int, bool]:
        job = rows.Reserve(agent=agent, kind=kind, by=by, floor=floor, once=once, bounded=bounded)
        return await self._store.submit(self._reserve_op, job)

    async def _submit(self, job: rows.Submit) -> Row:
        await self._failpoint("before submit")
        row = await self._store.submit(self._submit_op, job)
        await self._failpoint("after submit")
        return row

    def _check_not_alive(self, agent: AgentName, number: int | None = None) -> None:
        if self._alive(agent):
            what = f"`hyperhive start {agent}` starts it"
            raise Conflict(
                f"there is an agent named {agent} already",
                hint=what if number is None else f"{what}; `hyperhive deny {number}` ends this approval",
            )
        if self._admit is not None:
            self._admit(agent)


def highest(tags: Mapping[str, str]) -> int:
    """The highest id that a tag bears: a database that was lost must not give it again."""
    numbers = (name.rpartition("/")[2] for name in tags)
    return max((int(number) for number in numbers if number.isdecimal()), default=0)
