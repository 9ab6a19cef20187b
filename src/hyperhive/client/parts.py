"""The broker, the lifecycle and the approvals of a running hive: the library's methods, each one request.

They speak with the operator's authority, because the admin socket is the operator's. What only a harness may do
(receive, acknowledge) is not here.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from hyperhive.errors import BugError, Forbidden
from hyperhive.names import OPERATOR
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.types import (
    Approval,
    ApprovalKind,
    DeadLetter,
    InboxRow,
    Mount,
    OperatorInboxRow,
    Receipt,
    ReminderEnd,
    Urgency,
)

Ask = Callable[[r.Request], Awaitable[a.Reply]]
T = TypeVar("T", bound=a.Reply)


async def _reply(ask: Ask, request: r.Request, kind: type[T]) -> T:
    reply = await ask(request)
    if not isinstance(reply, kind):  # `protocol.answers` and this file disagree
        raise BugError(f"{r.tag_of(type(request))} was answered with {type(reply).__name__}")
    return reply


class RemoteBroker:
    """The hive's mail, as the operator may use it. Same names and meanings as `Broker`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.questions = RemoteQuestions(ask)
        self.reminders = RemoteReminders(ask)

    async def send(
        self,
        sender: str,
        recipient: str,
        body: str,
        *,
        dedupe_key: str | None = None,
        urgency: Urgency = "next_turn",
    ) -> Receipt:
        """A message, durable on return.

        Raises:
            Forbidden: `sender` is not the operator: nobody sends in another's name.
            NotFound: nobody of the recipient's name was ever there.
        """
        if sender != OPERATOR:
            raise Forbidden("over the admin socket every message is from the operator")
        done = await _reply(
            self._ask, r.Send(to=recipient, body=body, dedupe_key=dedupe_key, urgency=urgency), a.Ok
        )
        if done.id is None:
            raise BugError("a message was sent and has no id")
        return Receipt(id=done.id, duplicate=done.duplicate, held=done.held)

    async def pending(self, recipient: str) -> int:
        """How many messages wait for this agent, or for the operator (not marked done)."""
        if recipient == OPERATOR:
            return (await _reply(self._ask, r.Status(), a.HiveStatus)).hive.operator_unread
        status = await _reply(self._ask, r.Status(name=recipient), a.HiveStatus)
        return sum(agent.view.unread for agent in status.agents if agent.view.name == recipient)

    async def recent(self, recipient: str, limit: int = 30) -> list[InboxRow]:
        """The newest messages to the operator, newest first. Of an agent's inbox only its harness reads.

        Raises:
            Forbidden: another's inbox.
        """
        if recipient != OPERATOR:
            raise Forbidden("over the admin socket only the operator's inbox is listed")
        rows = await self.inbox(limit=limit, all=True)
        return [InboxRow(id=row.id, sender=row.sender, body=row.body, at=row.at) for row in rows]

    async def inbox(self, limit: int = 50, *, all: bool = False) -> list[OperatorInboxRow]:  # noqa: A002 (the wire's)
        """The operator's mail, newest first; with `all` also what is marked done."""
        return (await _reply(self._ask, r.Inbox(limit=limit, all=all), a.InboxRows)).messages

    async def done(self, ids: Sequence[int]) -> int:
        """Marks messages of the operator's inbox as done. How many were marked."""
        return (await _reply(self._ask, r.Ack(ids=list(ids)), a.Ok)).count or 0

    async def dead(self, limit: int = 100) -> list[DeadLetter]:
        """The dead letters, newest first."""
        return (await _reply(self._ask, r.Dead(limit=limit), a.DeadLetters)).dead

    async def requeue(self, message: int) -> None:
        """Gives a dead letter another life."""
        await self._ask(r.Requeue(id=message))

    async def drop(self, message: int) -> None:
        """Puts a dead letter away for good."""
        await self._ask(r.Drop(id=message))


class RemoteQuestions:
    """The hive's questions, as the operator may ask and answer them. Same names and meanings as `Questions`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def ask(
        self,
        asker: str,
        question: str,
        *,
        target: str,
        options: Sequence[str] = (),
        multi: bool = False,
        ttl_seconds: int | None = None,
    ) -> int:
        """Asks an agent; gives the question's id. The answer comes to the operator's inbox.

        Raises:
            Forbidden: `asker` is not the operator. NotFound: nobody of the target's name was ever there.
        """
        if asker != OPERATOR:
            raise Forbidden("over the admin socket every question is the operator's")
        request = r.Ask(
            question=question, to=target, options=tuple(options), multi=multi, ttl_seconds=ttl_seconds
        )
        return (await _reply(self._ask, request, a.QuestionQueued)).id

    async def open(self, target: str | None = OPERATOR) -> list[a.Question]:
        """The open questions to the operator, oldest first; to another target, or (None) all of them."""
        reply = await _reply(self._ask, r.Questions(all=target != OPERATOR), a.QuestionRows)
        rows = list(reply.questions)
        for number in reply.left_out:  # too long to come together
            found = (await _reply(self._ask, r.Questions(id=number), a.QuestionRows)).questions
            rows += [row for row in found if row.answered_at is None]
        rows.sort(key=lambda row: row.id)
        return rows if target in (None, OPERATOR) else [row for row in rows if row.target == target]

    async def answer(self, question: int, answer: str) -> None:
        """Answers a question; one to an agent in its place.

        Raises:
            NotFound: there is none. Conflict: somebody was faster; the message says who, and when.
        """
        await self._ask(r.Answer(id=question, answer=answer))

    async def cancel(self, question: int) -> None:
        """Withdraws a question; its asker is told."""
        await self._ask(r.CancelQuestion(id=question))


class RemoteReminders:
    """Reminders, as the operator may set them. Same names and meanings as the broker's `Reminders`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def set(
        self,
        by: str,
        message: str,
        *,
        delay_seconds: int | None = None,
        due_at: int | None = None,
        file_path: str | None = None,
        to: str | None = None,
    ) -> int:
        """Sets a reminder, one's own or (`to`) an agent's; gives its id.

        Raises:
            Forbidden: `by` is not the operator. Otherwise as `Reminders.set`.
        """
        if by != OPERATOR:
            raise Forbidden("over the admin socket every reminder is set by the operator")
        request = r.Remind(
            message=message, delay_seconds=delay_seconds, due_at=due_at, file_path=file_path, to=to
        )
        return (await _reply(self._ask, request, a.ReminderQueued)).id

    async def loose_ends(self, owner: str | None = None) -> list[ReminderEnd]:
        """What is still to come, of one owner or of all."""
        ends = (await _reply(self._ask, r.GetLooseEnds(), a.LooseEnds)).loose_ends
        return [end for end in ends if isinstance(end, ReminderEnd) and owner in (None, end.owner)]

    async def cancel(self, reminder: int) -> None:
        """Deletes a reminder, whoever's it is.

        Raises:
            NotFound: there is none of this id (any more).
        """
        await self._ask(r.CancelLooseEnd(kind="reminder", id=reminder))


class RemoteLifecycle:
    """The hive's agents. Same names and meanings as `Lifecycle`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def list(self) -> list[str]:
        """The names of the managed agents."""
        return (await _reply(self._ask, r.List(), a.Agents)).agents

    async def status(self, name: str | None = None) -> a.HiveStatus:
        """The hive and its agents, or one of them."""
        return await _reply(self._ask, r.Status(name=name), a.HiveStatus)

    async def spawn(self, name: str, *, mounts: Sequence[Mount] = ()) -> None:
        """Creates an agent and starts it.

        Raises:
            Conflict: an agent of that name is alive.
        """
        await self._ask(r.Spawn(name=name, mounts=[*mounts] or None))

    async def start(self, name: str) -> None:
        """Starts a stopped agent."""
        await self._ask(r.Start(name=name))

    async def stop(self, name: str, *, now: bool = False) -> None:
        """Stops an agent; its running turn ends first, unless `now`."""
        await self._ask(r.Kill(name=name, now=now))

    async def restart(self, name: str, *, now: bool = False) -> None:
        """Stops and starts an agent."""
        await self._ask(r.Restart(name=name, now=now))

    async def rebuild(self, name: str, *, now: bool = False) -> None:
        """Puts right whatever drifted on the host."""
        await self._ask(r.Rebuild(name=name, now=now))

    async def update(self, name: str, *, now: bool = False) -> None:
        """Builds the agent's approved config anew by the hive's own revision.

        Raises:
            WorldError: it is not well on that, and goes on as it was.
        """
        await self._ask(r.Update(name=name, now=now))

    async def update_all(self) -> str:
        """`update` for every agent that another revision built; says who that was.

        Raises:
            WorldError: some go on as they were, and why.
        """
        return (await _reply(self._ask, r.UpdateAll(), a.Ok)).note or ""

    async def meta_update(self, names: Sequence[str]) -> str:
        """With Nix: pins what is newest of these shared inputs, once every agent's system was built with it.

        Raises:
            NotAvailable: this hive's agents are not built by Nix. NotFound: there is no such input.
            WorldError: it cannot be locked or built; nothing has changed then.
        """
        return (await _reply(self._ask, r.MetaUpdate(inputs=list(names)), a.Ok)).note or ""

    async def restore(self, name: str) -> None:
        """Brings a destroyed agent back, with the state it had.

        Raises:
            NotFound: there is no tombstone of this name.
        """
        await self._ask(r.Restore(name=name))

    async def destroy(self, name: str, *, purge: bool = False, now: bool = False) -> None:
        """Removes an agent; its state is kept unless `purge`."""
        await self._ask(r.Destroy(name=name, purge=purge, now=now))

    async def rollback(self, name: str, to: int) -> int:
        """Deploys what was deployed under number `to` again; gives the new approval's id once that is durable."""
        return _id_of(await _reply(self._ask, r.Rollback(name=name, to=to), a.Ok))


class RemoteApprovals:
    """The hive's approvals. Same names and meanings as `ApprovalQueue`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def submit(
        self, agent: str, commit_ref: str = "", *, kind: ApprovalKind = "apply_commit"
    ) -> Approval:
        """Asks for a new agent; returns the approval.

        Raises:
            Forbidden: only the manager proposes commits.
        """
        if kind != "spawn":
            raise Forbidden(f"only the manager proposes commits, and {commit_ref!r} is for one")
        number = _id_of(await _reply(self._ask, r.RequestSpawn(name=agent), a.Ok))
        return (await self.show(number)).approval

    async def pending(self) -> list[Approval]:
        """What waits for the operator, oldest first."""
        return (await _reply(self._ask, r.Pending(), a.Approvals)).approvals

    async def show(self, id: int) -> a.ApprovalDiff:  # noqa: A002 - as on the wire
        """One approval with its whole diff, and what should be said with it."""
        return await _reply(self._ask, r.Show(id=id), a.ApprovalDiff)

    async def diff(self, id: int) -> str:  # noqa: A002
        """The diff that `show` gives."""
        return (await self.show(id)).diff

    async def approve(self, id: int, sha: str | None = None, diff_sha256: str | None = None) -> Approval:  # noqa: A002
        """Approves exactly what was shown. Durable on return; then it is carried out.

        Raises:
            Conflict: it moved (`moved`), was not shown (`unseen`), does not build on what is deployed
                (`stale_base`), or is resolved already.
        """
        await self._ask(r.Approve(id=id, sha=sha, diff_sha256=diff_sha256))
        return (await self.show(id)).approval

    async def deny(self, id: int, note: str | None = None) -> Approval:  # noqa: A002
        """Denies it; whoever asked is told."""
        await self._ask(r.Deny(id=id, note=note))
        return (await self.show(id)).approval

    async def audit(self, limit: int = 100, before: int | None = None) -> list[a.AuditEntry]:
        """Every decision, newest first, before entry `before`."""
        return (await _reply(self._ask, r.Audit(limit=limit, before=before), a.AuditRows)).entries


def _id_of(done: a.Ok) -> int:
    if done.id is None:
        raise BugError("the hive gave no id")
    return done.id
