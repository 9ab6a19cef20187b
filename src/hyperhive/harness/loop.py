"""The loop of one agent: wait for mail, run a turn, settle with the core, wait where something is wrong; repeat.

It owns which messages are acked and which go back, and nothing else does. Before anything else is popped, whatever a
turn left in flight is settled: so no ack can cover a message of a turn that did not end well. How a turn is run is the
runner's affair; what is shown of it the harness's (`LoopEvents`).
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Protocol

import anyio
import msgspec

from hyperhive.accounts import BoundAccount
from hyperhive.clock import Clock
from hyperhive.errors import Closed, HiveError, MissingPart, WorldError
from hyperhive.harness.backoff import Backoff, Random
from hyperhive.harness.core import Core
from hyperhive.harness.files import TurnNumbers
from hyperhive.harness.slots import Slots, WarmProcess
from hyperhive.harness.turns import TurnResult, UnaskedTurn
from hyperhive.protocol.replies import Messages, Reply, Unread
from hyperhive.protocol.requests import AckTurn, Recv, Request, RequeueInflight, Status
from hyperhive.protocol.types import (
    RECV_MAX,
    RECV_WAIT_MAX_SECONDS,
    Delivery,
    TurnStateName,
    Urgency,
    WaitingReason,
)

log = logging.getLogger(__name__)

CORE_RETRY_SECONDS = 5.0


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


class LoopEvents(Protocol):
    """What the loop tells its harness. None of these may raise or wait."""

    def state_changed(self, state: TurnStateName, reason: WaitingReason | None, until: float | None) -> None:
        """`until`: unix seconds when the waiting is over by itself, where that is known."""
        ...

    def noted(self, text: str) -> None: ...

    def turn_settled(self, number: int, wake_from: str, result: TurnResult) -> None: ...


class LoopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Pauses after failed turns, in seconds."""

    backoff_seconds: float = 5.0
    backoff_max_seconds: float = 300.0


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
        settings: LoopSettings,
        clock: Clock,
        random: Random,
        parked_seconds: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`parked_seconds`: after which time an agent that waits for the operator looks again by itself, if ever."""
        self._core = core
        self._runner = runner
        self._slots = slots
        self._numbers = numbers
        self._account = account
        self._events = events
        self._clock = clock
        self._parked_seconds = parked_seconds
        self._backoff = Backoff(settings.backoff_seconds, settings.backoff_max_seconds, random)
        self._busy = anyio.Lock()
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
        self._changes = 0
        self._seen_changes = 0
        self._generation = 0
        self._wake = anyio.Event()
        self._idle_wait: anyio.CancelScope | None = None  # waiting for mail or for a slot

    # --- from outside -----------------------------------------------------------------------------------------------

    @property
    def in_turn(self) -> bool:
        """A turn runs, or waits for its slot."""
        return self._in_turn

    @property
    def lock(self) -> anyio.Lock:
        """Held during a turn. Whoever else makes the CLI work (compaction) holds it meanwhile."""
        return self._busy

    def changed(self) -> None:
        """Model, account or config changed: an agent that was parked or paused tries again at once."""
        self._changes += 1
        self._backoff.reset()
        self._wake.set()

    def ready_for_more(self) -> None:
        """The runner has come to a state in which it may take more mail into its turn."""
        if self._in_hand and self._in_turn:
            self._more.set()

    def unasked(self, turn: UnaskedTurn) -> None:
        """The CLI ran a turn by itself; what it took is settled at the next boundary."""
        self._unasked = turn
        self._stop_waiting()

    def drain(self, *, now: bool) -> None:
        """Start no other turn; `run` returns once the running one has ended (`now`: it is interrupted)."""
        self._draining = True
        if now:
            self._hurry.set()
        self._wake.set()
        self._stop_waiting()

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
            await self._account_usable()
            self._in_hand += await self._next_mail()
            await self._settle_unasked()
            if self._in_hand:
                await self._account_usable()  # it may have changed while we waited for mail
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
            async with self._busy:
                number, result = await self._run_in_slot(message)
                await self._settle(number, result)
        finally:
            self._in_turn = False
        self._events.turn_settled(number, message.sender, result)
        await self._after(result)

    async def _run_in_slot(self, message: Delivery) -> tuple[int, TurnResult]:
        number = await self._numbers.next()
        async with AsyncExitStack() as stack:
            with anyio.CancelScope() as self._idle_wait:
                if self._draining:
                    self._idle_wait.cancel()
                slot = self._slots.turn(
                    self._runner, lambda: self._events.state_changed("queued", None, None)
                )
                await stack.enter_async_context(slot)
            self._idle_wait = None
            if self._draining:
                return number, self._not_run(message, "the hive stops", interrupted=True)
            unread = await self._ask(Status())
            self._fresh.discard(message.id)
            self._generation = self._account().state.generation
            self._seen_changes = self._changes
            self._events.state_changed("thinking", None, None)
            return number, await self._run_watched(message, unread, number)

    async def _run_watched(self, message: Delivery, unread: Reply, number: int) -> TurnResult:
        """The turn, with an eye on more urgent mail."""
        self._interruption = None
        async with anyio.create_task_group() as group:
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
        self, message: Delivery, note: str, *, interrupted: bool = False, park: str | None = None
    ) -> TurnResult:
        now = self._clock.time()
        return TurnResult(
            kind="failed",
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
        await self._runner.interrupt("the hive stops")

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
        self._urgent_next = any(one.urgency == "interrupt" for one in self._in_hand)
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

    # --- after a turn -----------------------------------------------------------------------------------------------

    async def _after(self, result: TurnResult) -> None:
        """Nothing after a turn that ended well, was cancelled or gave way; else note why, and wait."""
        gave_way = self._interruption is not None or self._draining
        if result.ok or result.kind == "cancelled":
            self._backoff.reset()
        elif result.kind == "needs_login":
            self._account().state.login_refused(self._generation)
        elif result.park is not None:
            if self._changes == self._seen_changes:
                self._events.noted(f"waiting for the operator: {result.park}")
                await self._pause("operator", self._parked_seconds())
        elif result.kind == "limited" and result.reset_at is not None and not gave_way:
            # Never sooner than the backoff: a reset time that has passed must not make a loop of it.
            soonest = self._clock.time() + self._backoff.next_seconds()
            self._account().state.limit(max(result.reset_at, soonest))
        elif not gave_way:
            await self._back_off(result)

    async def _back_off(self, result: TurnResult) -> None:
        seconds = self._backoff.next_seconds()
        limited = result.kind == "limited"
        what = "the API does not serve" if limited else f"the turn ended as {result.kind}"
        why = f" ({result.note})" if result.note else ""
        self._events.noted(f"{what}{why}: next try in {seconds:.0f} s")
        await self._pause("limited" if limited else "backoff", seconds)

    async def _account_usable(self) -> None:
        """Wait while the account needs a login or is at its limit; its agents then come back one after the other."""
        while not self._draining:
            state = self._account().state
            until = state.blocked_until(self._clock.time())
            if until is None:
                return
            if state.needs_login:
                await self._pause("login", None, state.changed)
            else:
                self._events.noted(f"the account {state.name} is at its limit until {until:.0f} (unix time)")
                await self._pause("limited", until - self._clock.time(), state.changed)
            if state.blocked_until(self._clock.time()) is None and (delay := state.release_delay()):
                await self._pause("limited", delay, state.changed)

    async def _pause(
        self,
        reason: WaitingReason,
        seconds: float | None,
        changed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Wait so long (None: for ever), or until `changed`, `drain` or the account says so."""
        if self._draining:
            return
        until = None if seconds is None else self._clock.time() + seconds
        self._events.state_changed("waiting", reason, until)
        self._wake = wake = anyio.Event()
        async with anyio.create_task_group() as group:

            async def first(wait: Callable[[], Awaitable[None]]) -> None:
                await wait()
                group.cancel_scope.cancel()

            group.start_soon(first, wake.wait)
            if changed is not None:
                group.start_soon(first, changed)
            if seconds is not None:
                group.start_soon(first, lambda: self._clock.sleep(seconds))

    async def _ask(self, request: Request) -> Reply:
        """Ask the core, again and again while its world is broken (a full disk): nothing may be skipped over.

        Raises:
            HiveError: the core refuses, or is closed.
        """
        while True:
            try:
                return await self._core.ask(request)
            except Closed:
                raise
            except WorldError as error:
                self._events.noted(f"the hive cannot take this now: {error}; trying again")
                await self._clock.sleep(CORE_RETRY_SECONDS)
