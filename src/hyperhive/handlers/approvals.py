"""Approvals and deploys: what is asked for, what is shown, what the operator decides."""

import sqlite3
from collections.abc import Sequence
from typing import Protocol

from hyperhive.broker import Broker, origins, repeats
from hyperhive.errors import LimitReached
from hyperhive.handlers.fitting import REPLY_ROOM, fitting
from hyperhive.lifecycle.approvals import ApprovalQueue
from hyperhive.lifecycle.deploy import Deployer
from hyperhive.names import parse_resident
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import CALL_ID, Handler
from hyperhive.protocol.policy import Caller


class Rebuilds(Protocol):
    """Puts right what drifted, and starts the agent anew: the lifecycle, or its deployer alone."""

    async def rebuild(self, agent: str, /, *, now: bool = False) -> str | None: ...


def approvals(
    queue: ApprovalQueue, deployer: Deployer, broker: Broker, agents: Rebuilds | None = None
) -> dict[type[r.Request], Handler]:
    """The queue, its audit table, and what puts configs back or right."""
    rebuilds = deployer if agents is None else agents

    def once(caller: Caller, request: str, *fields: str) -> "BrokerOnce":
        in_hand = broker.in_flight_now(caller.name)
        return BrokerOnce(broker.effect(caller.name, request, fields, CALL_ID.get()), in_hand)

    async def request_spawn(caller: Caller, request: r.RequestSpawn) -> p.Reply:
        key = once(caller, "request_spawn", request.name)
        number = await queue.request_spawn(request.name, by=caller.name, channel=caller.channel, once=key)
        return p.Ok(id=number)

    async def request_apply_commit(caller: Caller, request: r.RequestApplyCommit) -> p.Reply:
        number = await queue.request_apply_commit(
            request.agent,
            request.commit_ref,
            by=caller.name,
            channel=caller.channel,
            once=once(caller, "request_apply_commit", request.agent, request.commit_ref),
        )
        return p.Ok(id=number)

    async def pending(caller: Caller, request: r.Pending) -> p.Reply:
        del caller, request
        rows = await queue.pending()
        return p.Approvals(approvals=rows[: fitting(rows)])

    async def show(caller: Caller, request: r.Show) -> p.Reply:
        del caller
        shown = await queue.show(request.id)
        reply = p.ApprovalDiff(approval=shown.approval, diff=shown.diff, warnings=shown.warnings)
        if len(encode(reply)) > REPLY_ROOM:
            raise LimitReached(
                f"the diff of approval {request.id} is too long to be shown, so that it cannot be approved",
                hint=f"`hyperhive deny {request.id}`, and let it be split",
            )
        return reply

    async def approve(caller: Caller, request: r.Approve) -> p.Reply:
        done = await queue.approve(
            request.id, request.sha, request.diff_sha256, by=caller.name, channel=caller.channel
        )
        return p.Ok(id=done.id)

    async def deny(caller: Caller, request: r.Deny) -> p.Reply:
        done = await queue.deny(request.id, request.note, by=caller.name, channel=caller.channel)
        return p.Ok(id=done.id)

    async def audit(caller: Caller, request: r.Audit) -> p.Reply:
        del caller
        entries = [
            p.AuditEntry(
                id=one.id,
                at=one.at,
                approval=one.approval,
                agent=one.agent,
                action=one.action,
                who=one.who,
                channel=one.channel,
                sha=one.sha or None,
                diff_sha256=one.diff_sha256 or None,
                why=one.why,
            )
            for one in await queue.audit(request.limit, request.before, request.agent)
        ]
        return p.AuditRows(entries=entries[: fitting(entries)])

    async def rollback(caller: Caller, request: r.Rollback) -> p.Reply:
        number = await deployer.roll_back(request.name, request.to, by=caller.name, channel=caller.channel)
        return p.Ok(id=number)

    async def rebuild(caller: Caller, request: r.Rebuild) -> p.Reply:
        del caller
        said = await rebuilds.rebuild(parse_resident(request.name), now=request.now)
        return p.Ok(note=f"{request.name} is rebuilt; {said}" if said else None)

    return {
        r.RequestSpawn: request_spawn,
        r.RequestApplyCommit: request_apply_commit,
        r.Pending: pending,
        r.Show: show,
        r.Approve: approve,
        r.Deny: deny,
        r.Audit: audit,
        r.Rollback: rollback,
        r.Rebuild: rebuild,
    }


class BrokerOnce:
    """Implements `approvals.ports.Once`: a turn that runs again asks for nothing twice, and what led to it is noted."""

    def __init__(self, effect: repeats.Effect, in_hand: Sequence[int]) -> None:
        self._effect = effect
        self._in_hand = in_hand

    def earlier(self, conn: sqlite3.Connection) -> int | None:
        """See `Once`."""
        found = repeats.earlier(conn, self._effect)
        return None if found is None else found.result_id

    def remember(self, conn: sqlite3.Connection, id: int) -> None:  # noqa: A002
        """See `Once`."""
        repeats.remember(conn, self._effect, id)
        origins.remember(conn, "approval", id, self._in_hand, self._effect.now)
