"""Approvals as stored: what each is, and the changes that may happen to one. Every decision has its audit entry.

Functions here run on the writer's thread, each inside one transaction; each checks the row's stage itself, so that of
two that race one wins. They know no git and tell nobody.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeVar

import msgspec

from hyperhive.errors import Conflict, HiveError, LimitReached, NotFound
from hyperhive.lifecycle.approvals.audit import By, Subject, enter
from hyperhive.lifecycle.approvals.ports import Once
from hyperhive.names import SYSTEM
from hyperhive.protocol.types import Approval, ApprovalKind, ApprovalStage, ApprovalStatus

A = TypeVar("A")
R = TypeVar("R")

Stage = Literal["draft", "proposal", "approved", "building", "deployed", "failed", "denied"]
Move = Literal["building", "deployed", "failed"]
STATUS: Final[dict[Stage, ApprovalStatus]] = {
    "draft": "pending",
    "proposal": "pending",
    "approved": "approved",
    "building": "approved",
    "deployed": "approved",
    "failed": "failed",
    "denied": "denied",
}
FINAL: Final = frozenset({"deployed", "failed", "denied"})
OPEN: Final = frozenset({"proposal", "approved", "building"})

UNTOLD: Final = 0
TOLD: Final = 1
TAG_MISSING: Final = 2
"""Whether whoever asked for what is final knows of it: no; yes; yes, and its tag could not be made yet."""

WAITING_MAX: Final = 20
"""So many proposals of one agent, and so many new agents, may wait for the operator's word."""

TRANSITIONS: Final[dict[Stage, frozenset[Stage]]] = {
    "draft": frozenset({"proposal", "approved"}),
    "proposal": frozenset({"approved", "denied", "failed"}),
    "approved": frozenset({"building", "failed"}),
    "building": frozenset({"building", "deployed", "failed"}),
    "deployed": frozenset(),
    "failed": frozenset(),
    "denied": frozenset(),
}
"""From which stage to which. `building` again: its deploy was begun once more after a crash."""


class Row(msgspec.Struct, frozen=True):
    """One approval, in the order of the table's columns."""

    id: int
    agent: str
    kind: ApprovalKind
    sha: str
    base: str
    diff_sha256: str
    stage: Stage
    requested_at: int
    requested_by: str
    resolved_at: int | None
    resolved_by: str | None
    note: str | None
    attempts: int
    told: int

    @property
    def status(self) -> ApprovalStatus:
        """The wire's word for its stage."""
        return STATUS[self.stage]

    def subject(self) -> Subject:
        """What a decision on it is about."""
        return Subject(self.id, self.agent, self.sha, self.diff_sha256)

    def wire(self) -> Approval:
        """As it is told."""
        stage: ApprovalStage = "proposal" if self.stage == "draft" else self.stage
        return Approval(
            id=self.id,
            agent=self.agent,
            kind=self.kind,
            commit_ref=self.sha,
            requested_at=self.requested_at,
            status=self.status,
            stage=stage,
            resolved_at=self.resolved_at,
            note=self.note,
            base_ref=self.base or None,
            diff_sha256=self.diff_sha256 or None,
            requested_by=self.requested_by,
            resolved_by=self.resolved_by,
        )


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """A new approval, whose commit is not there yet. Ids begin above `floor`: tags may know higher ones.

    `bounded`: it is to wait, as no more than so many may.
    """

    agent: str
    kind: ApprovalKind
    by: By
    floor: int = 0
    once: Once | None = None
    bounded: bool = True


class Submit(msgspec.Struct, frozen=True, kw_only=True):
    """A draft is complete. `approved`: it is decided already (a rollback)."""

    id: int
    sha: str = ""
    base: str = ""
    diff_sha256: str = ""
    by: By
    once: Once | None = None
    approved: bool = False
    note: str | None = None
    diff: str = ""
    """Not stored: told with the event."""


class Decide(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's word. `sha`, `base` and `diff_sha256` are what was seen."""

    id: int
    to: Literal["approved", "denied"]
    by: By
    sha: str = ""
    base: str = ""
    diff_sha256: str = ""


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """A deploy goes on, or an approval fails. `deployed` comes with what the agent runs from now on."""

    id: int
    to: Move
    by: By
    config: str | None = None
    revision: str = ""


_COLUMNS: Final = ", ".join(Row.__struct_fields__)
_ONE: Final = f"SELECT {_COLUMNS} FROM approvals WHERE id = ?"  # noqa: S608 - our own words
_WAITING: Final = (
    "SELECT count(*) FROM approvals WHERE stage IN ('draft', 'proposal', 'approved', 'building')"
    " AND kind = ? AND (? IS NULL OR agent = ?)"
)
_UNDER_WAY: Final = (
    "SELECT id FROM approvals WHERE agent = ? AND stage IN ('approved', 'building') AND id <> ?"
)


def each(function: Callable[[sqlite3.Connection, A], R]) -> Callable[
    [sqlite3.Connection, Sequence[A]], Sequence[R | HiveError]
]:  # fmt: skip
    """A batch function of one that raises HiveError before it has changed anything."""

    def run(conn: sqlite3.Connection, batch: Sequence[A]) -> Sequence[R | HiveError]:
        return [_one(function, conn, argument) for argument in batch]

    return run


def _one(
    function: Callable[[sqlite3.Connection, A], R], conn: sqlite3.Connection, argument: A
) -> R | HiveError:
    try:
        return function(conn, argument)
    except HiveError as error:
        return error


# --- reading ----------------------------------------------------------------------------------------------------------


def find(conn: sqlite3.Connection, number: int) -> Row:
    """One approval.

    Raises:
        NotFound: there is none.
    """
    found = conn.execute(_ONE, (number,)).fetchone()
    if found is None or found[6] == "draft":
        raise NotFound(f"there is no approval {number}", hint="`hyperhive pending` lists the open ones")
    return Row(*found)


def in_stages(conn: sqlite3.Connection, stages: Sequence[Stage], agent: str | None = None) -> list[Row]:
    """All approvals in these stages, oldest first."""
    marks = ", ".join("?" * len(stages))
    query = f"SELECT {_COLUMNS} FROM approvals WHERE stage IN ({marks})"  # noqa: S608 - our own words
    only = " AND agent = ?" if agent is not None else ""
    arguments = [*stages, *([agent] if agent is not None else [])]
    return [Row(*row) for row in conn.execute(f"{query}{only} ORDER BY id", arguments)]


def untold(conn: sqlite3.Connection) -> list[Row]:
    """What is final, and was not told, or its tag is missing."""
    query = f"SELECT {_COLUMNS} FROM approvals WHERE told <> {TOLD} ORDER BY id"  # noqa: S608 - our own words
    return [Row(*row) for row in conn.execute(query)]


def failed_since(conn: sqlite3.Connection, at: int) -> list[Row]:
    """What failed at or after this unix time, oldest first."""
    query = f"SELECT {_COLUMNS} FROM approvals WHERE stage = 'failed' AND resolved_at >= ? ORDER BY id"  # noqa: S608
    return [Row(*row) for row in conn.execute(query, (at,))]


# --- changing ---------------------------------------------------------------------------------------------------------


def reserve(conn: sqlite3.Connection, new: Reserve) -> tuple[int, bool]:
    """A draft's id; or the id that this request led to before, and False.

    Raises:
        LimitReached: too many wait already.
    """
    if new.once is not None and (earlier := new.once.earlier(conn)) is not None:
        return earlier, False
    if new.bounded:
        _check_room(conn, new)
    (last,) = conn.execute(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'approvals'"
    ).fetchone()
    number = max(last, new.floor) + 1
    conn.execute(
        "INSERT INTO approvals (id, agent, kind, stage, requested_at, requested_by) VALUES (?, ?, ?, 'draft', ?, ?)",
        (number, new.agent, new.kind, new.by.at, new.by.who),
    )
    return number, True


def submit(conn: sqlite3.Connection, job: Submit) -> Row:
    """The draft becomes a proposal, or what is approved already."""
    draft = Row(*conn.execute(_ONE, (job.id,)).fetchone())
    if job.approved:
        _check_free(conn, draft)
    stage: Stage = "approved" if job.approved else "proposal"
    decided = (job.by.at, job.by.who) if job.approved else (None, None)
    conn.execute(
        "UPDATE approvals SET stage = ?, sha = ?, base = ?, diff_sha256 = ?, resolved_at = ?, resolved_by = ?,"
        " note = ? WHERE id = ? AND stage = 'draft'",
        (stage, job.sha, job.base, job.diff_sha256, *decided, job.note, job.id),
    )
    row = find(conn, job.id)
    if job.once is not None:
        job.once.remember(conn, job.id)
    enter(conn, row.subject(), "rollback" if job.approved else "requested", job.by)
    return row


def drop_drafts(conn: sqlite3.Connection, batch: Sequence[int | None]) -> Sequence[HiveError | None]:
    """Forgets drafts: these, or all (None), which a crash left."""
    for number in batch:
        conn.execute(
            "DELETE FROM approvals WHERE stage = 'draft' AND (? IS NULL OR id = ?)", (number, number)
        )
    return [None] * len(batch)


def decide(conn: sqlite3.Connection, job: Decide) -> Row:
    """The operator's decision. One wins.

    Raises:
        NotFound: there is none. Conflict: it was resolved already (the message says by whom), another of the agent's
            is under way, or what is proposed is not what was seen (`moved`).
    """
    row = find(conn, job.id)
    if row.stage != "proposal":
        raise Conflict(resolution(row))
    if job.to == "approved":
        _check_free(conn, row)
        changed = conn.execute(
            "UPDATE approvals SET stage = 'approved', resolved_at = ?, resolved_by = ?, base = ?, diff_sha256 = ?"
            " WHERE id = ? AND stage = 'proposal' AND sha = ?",
            (job.by.at, job.by.who, job.base, job.diff_sha256, job.id, job.sha),
        ).rowcount
    else:
        changed = conn.execute(
            "UPDATE approvals SET stage = 'denied', resolved_at = ?, resolved_by = ?, note = ?, told = 0"
            " WHERE id = ? AND stage = 'proposal'",
            (job.by.at, job.by.who, job.by.why, job.id),
        ).rowcount
    if changed != 1:
        raise Conflict(f"approval {job.id} is for another commit now", code="moved")
    row = find(conn, job.id)
    enter(conn, row.subject(), job.to, job.by)
    return row


def advance(conn: sqlite3.Connection, job: Advance) -> Row:
    """A step of its deploy, or its failure.

    Raises:
        Conflict: it is at no stage from which that can happen: somebody else has resolved it.
    """
    row = find(conn, job.id)
    if job.to not in TRANSITIONS[row.stage]:
        raise Conflict(resolution(row))
    if job.to == "building":
        conn.execute(
            "UPDATE approvals SET stage = 'building', attempts = attempts + 1 WHERE id = ?", (job.id,)
        )
        return find(conn, job.id)
    decided = (row.resolved_at or job.by.at, row.resolved_by or job.by.who)
    note = job.by.why if job.to == "failed" else job.by.why or row.note
    conn.execute(
        "UPDATE approvals SET stage = ?, resolved_at = ?, resolved_by = ?, note = ?, told = 0 WHERE id = ?",
        (job.to, *decided, note, job.id),
    )
    row = find(conn, job.id)
    enter(conn, row.subject(), job.to, job.by)
    if job.to == "deployed" and row.kind == "apply_commit":
        conn.execute(
            "INSERT INTO deployments (agent, number, sha, config, at, revision) VALUES (?, ?, ?, ?, ?, ?)",
            (row.agent, row.id, row.sha, job.config or "{}", job.by.at, job.revision),
        )
    return row


def told(conn: sqlite3.Connection, batch: Sequence[tuple[int, int]]) -> Sequence[HiveError | None]:
    """Whom it concerns knows: by approval, `TOLD` or `TAG_MISSING`."""
    conn.executemany("UPDATE approvals SET told = ?2 WHERE id = ?1", batch)
    return [None] * len(batch)


def resolution(row: Row) -> str:
    """What to say to whoever comes too late."""
    how = f" ({row.note})" if row.note else ""
    if row.stage == "failed" and row.resolved_by == SYSTEM:
        return f"approval {row.id} has failed already{how}"
    word = "denied" if row.stage == "denied" else "approved"
    end = ", and has failed" if row.stage == "failed" else ""
    return f"approval {row.id} was {word} by {row.resolved_by} already{end}{how}"


def _check_room(conn: sqlite3.Connection, new: Reserve) -> None:
    """A manager that asks in a circle must not bury what the operator has to read."""
    of = (new.kind, new.agent if new.kind == "apply_commit" else None)
    (waiting,) = conn.execute(_WAITING, (*of, of[1])).fetchone()
    if waiting >= WAITING_MAX:
        what = "new agents" if new.kind == "spawn" else f"changes of {new.agent}"
        raise LimitReached(
            f"{waiting} {what} wait for the operator already", hint="ask again when some of them are decided"
        )


def _check_free(conn: sqlite3.Connection, row: Row) -> None:
    other = conn.execute(_UNDER_WAY, (row.agent, row.id)).fetchone()
    if other is not None:
        raise Conflict(
            f"approval {other[0]} of {row.agent} is being deployed", hint="ask again when that is done"
        )
