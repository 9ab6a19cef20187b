"""`ApprovalQueue`: what waits for the operator's word, and the word itself.

A decision and its audit entry are one transaction, and of two decisions one wins. What was approved is handed to a
`Deployer`; how it is carried out is not known here. The rows, and what is told of them, are the book's.
"""

import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import anyio
import msgspec

from hyperhive.bus import Bus
from hyperhive.clock import SYSTEM_CLOCK, Clock, unix_seconds
from hyperhive.config import RuntimeName
from hyperhive.errors import Conflict, Forbidden, HiveError, LimitReached, NotFound
from hyperhive.lifecycle.approvals import rows
from hyperhive.lifecycle.approvals.audit import By, Entry, entries
from hyperhive.lifecycle.approvals.book import Book, Failpoint, Tell, no_failpoint, tell_nobody
from hyperhive.lifecycle.approvals.ports import Once, Repos
from hyperhive.lifecycle.approvals.rows import Row
from hyperhive.names import OPERATOR, AgentName, parse_agent_name, parse_resident
from hyperhive.opening import Opening
from hyperhive.protocol.events import AnyDashboardEvent
from hyperhive.protocol.types import Approval, ApprovalEnd, ApprovalKind
from hyperhive.store import Store

Remarks = Callable[[AgentName, str, str], Awaitable[Sequence[str]]]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One approval as it is now, with all of its diff and what should be said with it."""

    approval: Approval
    diff: str
    warnings: tuple[str, ...] = ()


class ApprovalQueue(Book):
    """The approvals of one hive, on a store opened with `MIGRATIONS`.

    Guarantees: what `approve`, `deny` and the requests answered is durable, and stands in the audit table in the same
    transaction; each approval is resolved once, and whoever comes second learns by whom; only the operator decides;
    what is approved is exactly what was shown, or it is refused.

    >>> import anyio, tempfile
    >>> state_dir = tempfile.mkdtemp()
    >>> async def main() -> None:
    ...     async with ApprovalQueue.open(state_dir, runtime="process") as queue:
    ...         asked = await queue.submit("bob", kind="spawn")
    ...         print([(one.id, one.agent, one.status) for one in await queue.pending()])
    ...         denied = await queue.deny(asked.id, "not now")
    ...         print(denied.status, denied.note, await queue.pending())
    >>> anyio.run(main)
    [(1, 'bob', 'pending')]
    denied not now []
    """

    _close: Callable[[], Awaitable[None]] | None = None

    @classmethod
    def open(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        agents: Collection[str] = (),
        runtime: RuntimeName = "auto",
        clock: Clock = SYSTEM_CLOCK,
        environ: Mapping[str, str] = os.environ,
    ) -> Opening["ApprovalQueue"]:
        """A queue of its own in `state_dir`. What is approved waits there for a hive to carry it out.

        Args:
            agents: who there is; their config repos are made where they are missing.
            runtime: in what the proposed repos are read.

        Raises:
            MissingPart: the runtime does not work here, or there is no git for the repos.
            StoreLocked: another process owns the state directory. StoreFailed: it cannot be opened.
        """
        from hyperhive.lifecycle.approvals.alone import open_alone

        return Opening(lambda: open_alone(state_dir, agents, runtime, clock, environ))

    async def aclose(self) -> None:
        """Closes what it opened itself. From any task, any number of times."""
        if self._close is not None:
            await self._close()

    def close_with(self, close: Callable[[], Awaitable[None]]) -> None:
        """What `aclose` does."""
        self._close = close

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
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        """Await `start` before use.

        Args:
            alive: whether there is an agent of this name now.
            tell: mails helper events, each under a key that says the same event again.
            ready: returns when an agent has its repos.
            remarks: what should be said of a change (agent, base, sha) beside its diff.
            room: raises WorldError where nothing new should be begun on this disk.
            failpoint: called before and after each step; for tests.
        """
        super().__init__(store=store, repos=repos, bus=bus, clock=clock, tell=tell, failpoint=failpoint)
        self._alive = alive
        self._remarks = remarks
        self._ready = ready
        self._room = room
        self._locks: dict[str, anyio.Lock] = defaultdict(anyio.Lock)

    # --- requests ---------------------------------------------------------------------------------------------------

    async def request_apply_commit(
        self, agent: str, commit_ref: str, *, by: str, channel: str = "library", once: Once | None = None
    ) -> int:
        """Proposes a commit of an agent's proposed repo; returns the approval's id.

        The commit is resolved and imported once: from then on only its full hash counts.

        Raises:
            NotFound: no such agent or commit. Conflict `stale_base`: it does not build on what is deployed.
            LimitReached: the change is too large to be judged. BadRequest: it holds what no repo may hold.
        """
        name = parse_resident(agent)
        if not self._alive(name):
            raise NotFound(f"there is no agent named {name}", hint="`hyperhive list` shows who there is")
        async with self._locks[name]:
            if self._ready is not None:
                await self._ready(name)
            floor = _highest(await self._repos.tags(name))
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
            InvalidName: nobody can be named so. Conflict: there is such an agent already.
        """
        agent = parse_agent_name(name)
        async with self._locks[agent]:
            self._check_not_alive(agent)
            number, new = await self._reserve(agent, "spawn", self._by(by, channel), 0, once)
            if not new:
                return number
            row = await self._submit(rows.Submit(id=number, by=self._by(by, channel), once=once))
        return row.id

    async def submit(
        self, agent: str, commit_ref: str = "", *, kind: ApprovalKind = "apply_commit", by: str = OPERATOR
    ) -> Approval:
        """Either request, by its kind; returns the approval.

        Raises:
            HiveError: as the two requests.
        """
        if kind == "spawn":
            number = await self.request_spawn(agent, by=by)
        else:
            number = await self.request_apply_commit(agent, commit_ref, by=by)
        return (await self.row(number)).wire()

    # --- looking ----------------------------------------------------------------------------------------------------

    def pending_now(self) -> list[Approval]:
        """What waits for the operator, oldest first."""
        return [row.wire() for row in self._open.values() if row.stage == "proposal"]

    async def pending(self) -> list[Approval]:
        """What waits for the operator, oldest first."""
        await anyio.lowlevel.checkpoint()
        return self.pending_now()

    async def show(self, id: int) -> Shown:  # noqa: A002
        """One approval with its whole diff: while it is open against what is deployed now, later as it was decided.

        Raises:
            NotFound: there is none.
        """
        row = await self.row(id)
        if row.kind == "spawn":
            return Shown(approval=row.wire(), diff="")
        agent = AgentName(row.agent)
        base = await self._repos.main(agent) if row.stage == "proposal" else row.base
        diff = await self._repos.diff(agent, base, row.sha)
        warnings = list(diff.hidden)
        if row.stage == "proposal":
            if not await self._repos.descends(agent, base, row.sha):
                warnings.append("it does not build on what is deployed now, and cannot be approved any more")
            elif self._remarks is not None:
                warnings += await self._remarks(agent, base, row.sha)
        now = msgspec.structs.replace(row, base=base, diff_sha256=diff.sha256)
        return Shown(approval=now.wire(), diff=diff.text, warnings=tuple(warnings))

    async def diff(self, id: int) -> str:  # noqa: A002
        """The diff that `show` gives."""
        return (await self.show(id)).diff

    async def audit(self, limit: int = 100, before: int | None = None) -> list[Entry]:
        """Every decision, newest first, before entry `before`."""
        return await self._store.read(lambda conn: entries(conn, limit, before))

    def loose_ends(self, requester: str | None = None) -> list[ApprovalEnd]:
        """What nobody has decided yet: all of it, or what one has asked for."""
        now = unix_seconds(self._clock)
        return [
            ApprovalEnd(
                id=row.id,
                agent=row.agent,
                approval_kind=row.kind,
                commit_ref=row.sha,
                age_seconds=max(0, now - row.requested_at),
            )
            for row in self._open.values()
            if row.stage == "proposal" and requester in (None, row.requested_by)
        ]

    # --- decisions --------------------------------------------------------------------------------------------------

    async def approve(
        self,
        id: int,  # noqa: A002
        sha: str | None = None,
        diff_sha256: str | None = None,
        *,
        by: str = OPERATOR,
        channel: str = "library",
    ) -> Approval:
        """Approves exactly what was shown. Durable on return; then it is carried out.

        Args:
            id: the approval's.
            sha: the commit that was shown; a spawn has none.
            diff_sha256: the hash of the diff that was shown, against what was deployed then.
            by: who decides.
            channel: by which way.

        Raises:
            NotFound: there is none. Forbidden: only the operator decides.
            Conflict: resolved already, and by whom; `unseen`: commit or diff are not named; `moved`: they are not what
                is proposed now; `stale_base`: it does not build on what is deployed (it has failed with that); or the
                agent's name is taken. WorldError: the disk is low.
        """
        _check_decides(by)
        row = await self.row(id)
        async with self._locks[row.agent]:
            row = await self.row(id)
            if row.stage != "proposal":
                raise Conflict(rows.resolution(row))
            if self._room is not None:
                await self._room()
            if row.kind == "spawn":
                self._check_not_alive(AgentName(row.agent))
                decision = rows.Decide(id=id, to="approved", by=self._by(by, channel))
            else:
                decision = await self._checked(row, sha, diff_sha256, self._by(by, channel))
            await self._failpoint("before approve")
            row = await self._store.submit(self._decide_op, decision)
            await self._failpoint("after approve")
        return row.wire()

    async def deny(
        self,
        id: int,  # noqa: A002
        note: str | None = None,
        *,
        by: str = OPERATOR,
        channel: str = "library",
    ) -> Approval:
        """Denies an approval, for a reason. Durable on return; whoever asked is told.

        Raises:
            NotFound: there is none. Forbidden: only the operator decides. Conflict: resolved already, and by whom.
        """
        _check_decides(by)
        decision = rows.Decide(id=id, to="denied", by=self._by(by, channel, note))
        await self._failpoint("before deny")
        row = await self._store.submit(self._decide_op, decision)
        await self._failpoint("after deny")
        await self.settle(row)
        return row.wire()

    async def _checked(self, row: Row, sha: str | None, diff_sha256: str | None, by: By) -> rows.Decide:
        """The decision that this commit is to be applied, where it is the one that was seen."""
        agent = AgentName(row.agent)
        if sha is None or diff_sha256 is None:
            raise Conflict(
                f"approval {row.id} is approved by the commit and the diff that you saw",
                hint=f"`hyperhive show {row.id}` shows both",
                code="unseen",
            )
        tagged = (await self._repos.tags(agent)).get(f"proposal/{row.id}")
        base = await self._repos.main(agent)
        if tagged == row.sha and not await self._repos.descends(agent, base, row.sha):
            reason = "stale_base: it does not build on what is deployed now; rebase it and propose it again"
            await self.fail(row.id, reason)
            raise Conflict(
                f"approval {row.id} does not build on what is deployed now: it has failed",
                hint="a proposal on the present base can be approved",
                code="stale_base",
            )
        diff = await self._repos.diff(agent, base, row.sha)
        if tagged != row.sha or sha != row.sha or diff_sha256 != diff.sha256:
            raise Conflict(
                f"approval {row.id} is not what you saw any more: it is commit {row.sha} with diff {diff.sha256} now",
                hint=f"look again: `hyperhive show {row.id}`",
                code="moved",
            )
        if diff.too_big:
            raise LimitReached(f"the change of approval {row.id} is too large for anybody to judge it")
        return rows.Decide(id=row.id, to="approved", by=by, sha=row.sha, base=base, diff_sha256=diff.sha256)

    async def roll_back(
        self, agent: str, to: int, to_sha: str, *, by: str = OPERATOR, channel: str = "library"
    ) -> int:
        """A new approval, approved already: the tree of an earlier deployment on top of what is deployed now.

        Raises:
            Forbidden: only the operator decides. Conflict: another one of this agent is being deployed.
        """
        _check_decides(by)
        name = parse_resident(agent)
        async with self._locks[name]:
            entered = self._by(by, channel, f"rollback to deployed/{to}")
            floor = _highest(await self._repos.tags(name))
            number, _ = await self._reserve(name, "apply_commit", entered, floor, None)
            try:
                base = await self._repos.main(name)
                message = f"rollback to deployed/{to} (approval {number})"
                sha = await self._repos.rollback_commit(name, to_sha, base, message)
                diff = await self._repos.diff(name, base, sha)
                row = await self._submit(
                    rows.Submit(
                        id=number,
                        sha=sha,
                        base=base,
                        diff_sha256=diff.sha256,
                        by=entered,
                        approved=True,
                        note=entered.why,
                        diff=diff.text,
                    )
                )
            except (HiveError, anyio.get_cancelled_exc_class()):
                with anyio.CancelScope(shield=True):
                    await self._store.submit(self._drop_op, number)
                raise
        return row.id

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _reserve(
        self, agent: str, kind: ApprovalKind, by: By, floor: int, once: Once | None
    ) -> tuple[int, bool]:
        job = rows.Reserve(agent=agent, kind=kind, by=by, floor=floor, once=once)
        return await self._store.submit(self._reserve_op, job)

    async def _submit(self, job: rows.Submit) -> Row:
        await self._failpoint("before submit")
        row = await self._store.submit(self._submit_op, job)
        await self._failpoint("after submit")
        return row

    def _check_not_alive(self, agent: AgentName) -> None:
        if self._alive(agent):
            raise Conflict(f"there is an agent named {agent} already")


def _check_decides(by: str) -> None:
    if by != OPERATOR:
        raise Forbidden("only the operator decides on approvals")


def _highest(tags: Mapping[str, str]) -> int:
    """The highest id that a tag bears: a database that was lost must not give it again."""
    numbers = (name.rpartition("/")[2] for name in tags)
    return max((int(number) for number in numbers if number.isdecimal()), default=0)
