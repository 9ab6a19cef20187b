"""`ApprovalQueue`: what waits for the operator's word, and the word itself.

A decision and its audit entry are one transaction, and of two decisions one wins. What was approved is handed to a
`Deployer`; how it is carried out is not known here. The rows, and what is told of them, are the book's.
"""

import os
from collections.abc import Awaitable, Callable, Collection, Mapping

import anyio
import msgspec

from hyperhive.clock import SYSTEM_CLOCK, Clock, unix_seconds
from hyperhive.config import RuntimeName
from hyperhive.errors import BadRequest, Conflict, Forbidden, HiveError, LimitReached, NotFound, WorldError
from hyperhive.lifecycle.approvals import rows
from hyperhive.lifecycle.approvals.asking import Asking, highest
from hyperhive.lifecycle.approvals.audit import By, Entry, entries
from hyperhive.lifecycle.approvals.ports import Diff
from hyperhive.lifecycle.approvals.rows import Row
from hyperhive.names import OPERATOR, AgentName, parse_resident
from hyperhive.opening import Opening
from hyperhive.protocol.types import Approval, ApprovalEnd, ApprovalKind


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One approval as it is now, with all of its diff and what should be said with it."""

    approval: Approval
    diff: str
    warnings: tuple[str, ...] = ()


class ApprovalQueue(Asking):
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

    def open_now(self) -> list[Approval]:
        """What is not final: what waits for the operator, and what was approved and is being carried out."""
        return [row.wire() for row in self._open.values()]

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
        if row.stage in rows.FINAL:
            return await self._show_final(row)
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

    async def _show_final(self, row: Row) -> Shown:
        """What was decided is told also where a purge, or a lost disk, took its repo away."""
        try:
            diff = await self._repos.diff(AgentName(row.agent), row.base, row.sha)
        except (NotFound, WorldError, BadRequest):  # the last: it failed before it had a base
            gone = f"its diff is gone: the config repo of {row.agent} does not hold it any more"
            return Shown(approval=row.wire(), diff="", warnings=(gone,))
        return Shown(approval=row.wire(), diff=diff.text, warnings=tuple(diff.hidden))

    async def diff(self, id: int) -> str:  # noqa: A002
        """The diff that `show` gives."""
        return (await self.show(id)).diff

    async def audit(
        self, limit: int = 100, before: int | None = None, agent: str | None = None
    ) -> list[Entry]:
        """Every decision, newest first, before entry `before`; `agent`: those about this one."""
        return await self._store.read(lambda conn: entries(conn, limit, before, agent))

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
                self._check_not_alive(AgentName(row.agent), id)
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
        with anyio.CancelScope(shield=True):  # who denied may go away; who asked is told all the same
            row = await self._store.submit(self._decide_op, decision)
            await self._failpoint("after deny")
            await self.settle(row)
        return row.wire()

    async def _checked(self, row: Row, sha: str | None, diff_sha256: str | None, by: By) -> rows.Decide:
        """The decision that this commit is to be applied, where it is the one that was seen."""
        agent = AgentName(row.agent)
        base = await self._repos.main(agent)
        if sha is None or diff_sha256 is None:
            diff = await self._repos.diff(agent, base, row.sha)
            raise Conflict(
                f"approval {row.id} is approved by naming the commit and the diff that you saw: {_now(row, diff)}",
                hint=f"`hyperhive show {row.id}` shows them; name them by --sha and --diff",
                code="unseen",
            )
        tagged = (await self._repos.tags(agent)).get(f"proposal/{row.id}")
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
                f"approval {row.id} is not what you saw any more: {_now(row, diff)}",
                hint=f"look again: `hyperhive show {row.id}`",
                code="moved",
            )
        if diff.too_big:
            raise LimitReached(f"the change of approval {row.id} is too large for anybody to judge it")
        return rows.Decide(id=row.id, to="approved", by=by, sha=row.sha, base=base, diff_sha256=diff.sha256)

    def _deploying(self, agent: AgentName) -> bool:
        return any(row.agent == agent and row.stage != "proposal" for row in self._open.values())

    async def roll_back(
        self, agent: str, to: int, to_sha: str, *, by: str = OPERATOR, channel: str = "library"
    ) -> int:
        """A new approval, approved already: the tree of an earlier deployment on top of what is deployed now.

        Raises:
            Forbidden: only the operator decides. Conflict: another one of this agent is being deployed, or it would
                change nothing.
        """
        _check_decides(by)
        name = parse_resident(agent)
        async with self._locks[name]:
            entered = self._by(by, channel, f"rollback to deployed/{to}")
            floor = highest(await self._repos.tags(name))
            number, _ = await self._reserve(name, "apply_commit", entered, floor, None, bounded=False)
            try:
                base = await self._repos.main(name)
                message = f"rollback to deployed/{to} (approval {number})"
                sha = await self._repos.rollback_commit(name, to_sha, base, message)
                diff = await self._repos.diff(name, base, sha)
                if not diff.text and not self._deploying(name):
                    raise Conflict(
                        f"what was deployed under {to} is what {name} runs",
                        hint=f"`hyperhive rebuild {name}` puts right what drifted",
                    )
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


def _now(row: Row, diff: Diff) -> str:
    return f"it is commit {row.sha} with diff {diff.sha256} now"


def _check_decides(by: str) -> None:
    if by != OPERATOR:
        raise Forbidden("only the operator decides on approvals")
