"""The loop of one agent: wait for mail, run a turn, settle with the core; repeat.

It owns which messages are acked and which go back, and nothing else does. Before anything else is popped, whatever a
turn left in flight is settled: so no ack can cover a message of a turn that did not end well. How a turn is run is the
runner's affair, when to wait instead that of `pauses`; what is shown of it the harness's (`LoopEvents`).
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Protocol

import anyio
import msgspec

from hyperhive.accounts import BoundAccount
from hyperhive.clock import Clock
from hyperhive.errors import BadRequest, Closed, HiveError, MissingPart, NotAvailable, TimedOut, WorldError
from hyperhive.harness.backoff import Random
from hyperhive.harness.core import Core
from hyperhive.harness.files import TurnNumbers
from hyperhive.harness.loop_events import LoopEvents
from hyperhive.harness.model_gate import ModelGate
from hyperhive.harness.pauses import Pauses, PauseSettings
from hyperhive.harness.slots import Slots, WarmProcess
from hyperhive.harness.turns import TurnResult, UnaskedTurn
from hyperhive.protocol.replies import Admission, Charged, Messages, Reply, Unread
from hyperhive.protocol.requests import AckTurn, Charge, MayTurn, Recv, Request, RequeueInflight, Status
from hyperhive.protocol.types import RECV_MAX, RECV_WAIT_MAX_SECONDS, Delivery, ResultKind, Urgency
from hyperhive.spending.usage import clamped, clamped_dollars

log = logging.getLogger(__name__)

CORE_RETRY_SECONDS = 5.0
UNIX_MAX = 2**53
"""No time that a request holds is later."""
HURRY_SECONDS = 5.0
"""What a hurried loop still waits for a core that may be gone; in real time."""


class Runner(WarmProcess, Protocol):
    """What the loop needs of a `TurnRunner`."""

    async def run(
        self, messages: Sequence[Delivery], *, unread: int = 0, turn: int = 0, interruption: str | None = None
    ) -> TurnResult: ...

    async def inject(self, delivery: Delivery) -> bool:
        """Hand a message to the running turn. False: there is none that could take it now."""
        ...

    async def interrupt(self, reason: str) -> bool:
        """End the running turn; its result says `interrupted`. False: there is none."""
        ...


class TurnLoop:
    """One agent's loop. `run` it once; the other methods may be called from any task meanwhile."""

    def __init__(
        self,
        *,
        core: Core,
        runner: Runner,
        slots: Slots,
        numbers: TurnNumbers,
        account: Callable[[], BoundAccount],
        events: LoopEvents,
        settings: PauseSettings,
        clock: Clock,
        random: Random,
        parked_seconds: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`parked_seconds`: after which time an agent that waits for the operator looks again by itself, if ever."""
        self._gate = ModelGate(core)
        self._pauses = Pauses(
            account=account,
            events=events,
            settings=settings,
            clock=clock,
            random=random,
            parked_seconds=parked_seconds,
            watch_login=self._gate.watch_login,
            may_turn=self._may_turn,
        )
        self._core = core
        self._runner = runner
        self._slots = slots
        self._numbers = numbers
        self._events = events
        self._clock = clock
        self._in_turn = False
        self._draining = False
        self._in_hand: list[Delivery] = []  # popped, and given to no turn yet
        self._fresh: set[int] = set()  # requeued unseen: their redelivered mark would be untrue
        self._urgent_next = False
        self._interruption: str | None = None
        self._interrupted: dict[int, str] = {}
        self._more = anyio.Event()
        self._hurry = anyio.Event()
        self._unasked: UnaskedTurn | None = None
        self._idle_wait: anyio.CancelScope | None = None
        self._slot_wait: anyio.CancelScope | None = None
        self._waiting: int | None = None  # the turn that does not run yet
        self._called_off = False
        self._asking: anyio.CancelScope | None = None

    # --- from outside -----------------------------------------------------------------------------------------------

    @property
    def in_turn(self) -> bool:
        """A turn runs, or waits for its slot."""
        return self._in_turn

    def changed(self) -> None:
        """Model, account or config changed: an agent that was parked or paused tries again at once."""
        self._pauses.changed()

    def ready_for_more(self) -> None:
        """The runner has come to a state in which it may take more mail into its turn."""
        if self._in_hand and self._in_turn:
            self._more.set()

    def unasked(self, turn: UnaskedTurn) -> None:
        """The CLI ran a turn by itself; what it took is settled at the next boundary."""
        before = self._unasked
        self._unasked = before if before is not None and not before.ok else turn
        self._stop_waiting()

    def cancel(self) -> bool:
        """The operator cancels a turn that waits for its slot: its message is a dead letter.

        Returns:
            Whether there was one. A turn that runs is the runner's to cancel.
        """
        if self._waiting is None:
            return False
        self._called_off = True
        if self._slot_wait is not None:
            self._slot_wait.cancel()
        return True

    def drain(self, *, now: bool) -> None:
        """Start no other turn; `run` returns once the running one has ended (`now`: it is interrupted)."""
        self._draining = True
        if now:
            self._hurry.set()
            self._hurry_the_core()
        self._pauses.stop()
        self._stop_waiting()
        if self._slot_wait is not None:
            self._slot_wait.cancel()

    def _stop_waiting(self) -> None:
        if self._idle_wait is not None:
            self._idle_wait.cancel()

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `drain`.

        Raises:
            HiveError: the core refuses what every harness may ask; the lifecycle decides what becomes of the agent.
        """
        await self._ask(RequeueInflight())
        while not self._draining:
            await self._pauses.for_account()
            await self._pauses.for_budget()
            self._in_hand += await self._next_mail()
            await self._settle_unasked()
            if self._in_hand:
                await self._pauses.for_account()  # it may have changed while we waited for mail
            if self._in_hand and not self._draining:
                await self._turn(self._in_hand.pop(0))
        if self._in_hand:
            await self._requeue()

    async def _next_mail(self) -> list[Delivery]:
        """One message; none where some are in hand already, or something else wants attention."""
        if self._in_hand or self._wanted_elsewhere():
            return []
        if self._urgent_next:
            self._urgent_next = False
            urgent = await self._recv(wait_seconds=0, min_urgency="interrupt", limit=RECV_MAX)
            if urgent:  # what interrupted goes before what it interrupted
                return sorted(urgent, key=lambda one: (one.redelivered, one.id))
        waiting = await self._recv(wait_seconds=0)
        if waiting or self._wanted_elsewhere():
            return waiting
        self._events.state_changed("idle", None, None)
        with anyio.CancelScope() as self._idle_wait:
            return await self._recv(wait_seconds=RECV_WAIT_MAX_SECONDS)
        return []

    def _wanted_elsewhere(self) -> bool:
        return self._draining or self._unasked is not None

    async def _recv(
        self, *, wait_seconds: float, min_urgency: Urgency | None = None, limit: int = 1
    ) -> list[Delivery]:
        reply = await self._ask(Recv(wait_seconds=wait_seconds, max=limit, min_urgency=min_urgency))
        messages = reply.messages if isinstance(reply, Messages) else []
        return [
            msgspec.structs.replace(one, redelivered=False) if one.id in self._fresh else one
            for one in messages
        ]

    async def _turn(self, message: Delivery) -> None:
        self._in_turn = True
        try:
            number, result = await self._run_in_slot(message)
            if result is None:
                self._in_hand.insert(0, message)
                await self._requeue()
                return
            await self._settle(number, result)
        finally:
            self._in_turn = False
        self._events.turn_settled(number, message.sender, result)
        if result.kind == "needs_login":
            await self._runner.retire()  # a process reads its login when it starts
        await self._pauses.after(result, gave_way=self._interruption is not None)

    async def _run_in_slot(self, message: Delivery) -> tuple[int, TurnResult | None]:
        """The turn's number and result; None where it may not start any more, now that it could."""
        number = self._waiting = await self._numbers.next()
        self._called_off = False
        try:
            async with AsyncExitStack() as stack:
                await self._wait_for_slot(stack)
                unread = None if self._draining or self._called_off else await self._ask(Status())
                self._waiting = None
                if self._called_off:
                    cancelled = self._not_run(message, "cancelled by the operator", kind="cancelled")
                    return number, await self._charged(number, cancelled)
                if unread is None:
                    return number, self._not_run(message, "the agent was stopped", interrupted=True)
                admission = await self._may_turn()
                if admission.refused is not None or not self._pauses.account_usable():
                    return number, None
                self._fresh.discard(message.id)
                self._pauses.turn_starts()
                self._events.state_changed("thinking", None, None)
                result = await self._gate.judged(await self._run_watched(message, unread, number))
                result = await self._charged(number, result)
                self._pauses.learn(result)  # before somebody else gets the slot
                return number, result
        finally:
            self._waiting = None

    async def _wait_for_slot(self, stack: AsyncExitStack) -> None:
        """Hold a slot until `stack` ends; without one where the turn is called off or the loop drained meanwhile."""
        with anyio.CancelScope() as self._slot_wait:
            if self._draining:
                self._slot_wait.cancel()
            slot = self._slots.turn(self._runner, lambda: self._events.state_changed("queued", None, None))
            await stack.enter_async_context(slot)
        self._slot_wait = None

    async def _run_watched(self, message: Delivery, unread: Reply, number: int) -> TurnResult:
        """The turn, with an eye on more urgent mail."""
        self._interruption = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._numbers.keep)
            group.start_soon(self._watch_urgent)
            group.start_soon(self._hand_over)
            group.start_soon(self._end_when_hurried)
            try:
                waiting = unread.unread if isinstance(unread, Unread) else 0
                result = await self._runner.run(
                    [message],
                    unread=waiting,
                    turn=number,
                    interruption=self._interrupted.pop(message.id, None),
                )
            except HiveError as error:
                park = str(error) if isinstance(error, MissingPart) else None
                result = self._not_run(message, str(error), park=park)
            group.cancel_scope.cancel()
        return result

    def _not_run(
        self,
        message: Delivery,
        note: str,
        *,
        kind: ResultKind = "failed",
        interrupted: bool = False,
        park: str | None = None,
    ) -> TurnResult:
        now = self._clock.time()
        return TurnResult(
            kind=kind,
            pending=(message.id,),
            note=note,
            interrupted=interrupted,
            park=park,
            started_at=now,
            ended_at=now,
        )

    async def _watch_urgent(self) -> None:
        """Hand `soon` mail to the running turn; end it for `interrupt` mail. What comes too late stays in hand."""
        while True:
            try:
                urgent = await self._recv(wait_seconds=RECV_WAIT_MAX_SECONDS, min_urgency="soon")
            except HiveError as error:
                log.warning("urgent_mail_not_watched error=%s", error)
                return
            self._in_hand += urgent
            for one in urgent:
                # Once only: two messages that interrupt each other for ever would be no progress.
                if one.urgency == "interrupt" and not one.redelivered:
                    self._interruption = f"message {one.id} from {one.sender}"
                    if not await self._runner.interrupt(self._interruption):
                        self._interruption = None
                    return
            self._more.set()

    async def _hand_over(self) -> None:
        """Give the running turn the `soon` mail in hand, when it takes it. What failed before goes alone."""
        while True:
            for one in [one for one in self._in_hand if one.urgency == "soon" and not one.redelivered]:
                if self._interruption is not None or not await self._runner.inject(one):
                    break
                self._in_hand.remove(one)
                self._fresh.discard(one.id)
            self._more = anyio.Event()
            await self._more.wait()

    async def _end_when_hurried(self) -> None:
        await self._hurry.wait()
        await self._runner.interrupt("the agent was stopped")

    # --- what it cost ---

    async def _may_turn(self, wait_seconds: float = 0) -> Admission:
        """Whether a turn may start, as far as budgets go."""
        try:
            reply = await self._ask(MayTurn(wait_seconds=wait_seconds))
        except (BadRequest, NotAvailable):  # an older core than this harness: it knows no budgets
            return Admission()
        if not isinstance(reply, Admission):
            return Admission()
        if reply.limited_until is not None:
            self._pauses.limited(reply.limited_until)
        return reply

    async def _charged(self, number: int, result: TurnResult) -> TurnResult:
        """The result, after the core has counted what it cost: before its messages are settled, which are its cause."""
        charge = Charge(
            key=f"{number}.{result.started_at:.3f}",
            turn=number,
            started_at=int(result.started_at),
            model=result.model[:200],
            usage=clamped(result.usage),
            cost=clamped_dollars(result.cost),
            messages=[*result.done, *result.pending],
            limited_until=None if result.reset_at is None else min(max(result.reset_at, 0), UNIX_MAX),
        )
        try:
            reply = await self._ask(charge)
        except (BadRequest, NotAvailable):
            return result
        if not isinstance(reply, Charged):
            return result
        result = msgspec.structs.replace(result, message=reply.message, chain=reply.chain)
        if reply.refused is None or result.ok or result.kind == "cancelled":
            return result
        # What the CLI made of the refusal is no matter: the turn was ended for its budget, and the messages wait.
        return msgspec.structs.replace(
            result,
            kind="limited",
            note=reply.refused,
            blame=False,
            park=None,
            reset_at=None,
            cut_by_budget=True,
        )

    # --- settling ---------------------------------------------------------------------------------------------------

    async def _settle(self, number: int, result: TurnResult) -> None:
        """Tell the core what is done and what goes back. After it, nothing but `_in_hand` is in flight."""
        given = {*result.done, *result.pending}
        self._in_hand = [one for one in self._in_hand if one.id not in given]
        # A turn that the CLI ran by itself meanwhile and that failed may have taken messages, too.
        clean = result.ok and (self._unasked is None or self._unasked.ok)
        self._unasked = None
        if result.done or result.ok:
            await self._ask(AckTurn(ids=list(result.done), taken=clean, turn=number))
        if clean:
            if result.pending:
                await self._ask(RequeueInflight(ids=list(result.pending)))
        elif result.kind == "cancelled":
            if self._in_hand:
                await self._ask(RequeueInflight(ids=self._set_aside()))
            await self._ask(RequeueInflight(dead="cancelled"))
        else:
            if result.blame and result.pending:
                reason = f"{result.kind}: {result.note}" if result.note else result.kind
                await self._ask(RequeueInflight(ids=list(result.pending), blame=reason[:1000]))
            if self._interruption is not None:
                self._interrupted.update(dict.fromkeys(result.pending, self._interruption))
            await self._requeue()

    async def _requeue(self) -> None:
        """Put back everything that is in flight."""
        self._set_aside()
        await self._ask(RequeueInflight())

    def _set_aside(self) -> list[int]:
        """Let go of what no turn has seen: it will come again without a mark, urgent mail first. Gives the ids."""
        ids = [one.id for one in self._in_hand]
        self._fresh.update(one.id for one in self._in_hand if not one.redelivered)
        self._urgent_next |= any(one.urgency == "interrupt" for one in self._in_hand)
        self._in_hand = []
        return ids

    async def _settle_unasked(self) -> None:
        """A turn that the CLI ran by itself acks what its `recv` calls took, or gives it back."""
        turn, self._unasked = self._unasked, None
        if turn is None:
            return
        if turn.ok:
            await self._ask(AckTurn(ids=[], taken=True))
        else:
            await self._requeue()

    # --- the core ---------------------------------------------------------------------------------------------------

    async def _ask(self, request: Request) -> Reply:
        """Ask the core, again and again while its world is broken (a full disk): nothing may be skipped over.

        Raises:
            HiveError: the core refuses or is closed, or the loop is hurried and the core does not answer.
        """
        if isinstance(request, Recv) or (isinstance(request, MayTurn) and request.wait_seconds):
            # its wait is ended by a scope of its own
            return await self._ask_until_answered(request)
        with anyio.CancelScope() as self._asking:
            self._hurry_the_core()
            return await self._ask_until_answered(request)
        raise TimedOut("the core gave no answer, and the harness cannot wait for it")

    async def _ask_until_answered(self, request: Request) -> Reply:
        while True:
            try:
                return await self._core.ask(request)
            except WorldError as error:
                if isinstance(error, Closed) or self._hurry.is_set():
                    raise
                self._events.noted(f"the hive cannot take this now: {error}; trying again")
                await self._clock.sleep(CORE_RETRY_SECONDS)

    def _hurry_the_core(self) -> None:
        if self._hurry.is_set() and self._asking is not None:
            self._asking.deadline = anyio.current_time() + HURRY_SECONDS
