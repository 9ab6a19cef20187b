"""When the loop of one agent waits instead of working: after a failed turn, for its account, for the operator.

What ended how is the runner's to say, what becomes of the messages the loop's; this file only says when the next try
is due, tells people why, and waits. New mail never cuts a pause short.
"""

import time
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from hyperhive.accounts import AccountState, BoundAccount
from hyperhive.clock import Clock
from hyperhive.errors import HiveError
from hyperhive.harness.backoff import Backoff, Random
from hyperhive.harness.loop_events import LoopEvents
from hyperhive.harness.turns import TurnResult
from hyperhive.protocol.replies import Admission
from hyperhive.protocol.types import RECV_WAIT_MAX_SECONDS, WaitingReason

LIMIT_MAX_SECONDS = 8 * 86400.0
"""No usage limit lasts longer than a week; what a CLI says beyond that is cut to this."""
_YEAR_9999 = 253_402_300_799

MayTurn = Callable[[float], Awaitable[Admission]]
"""Asks the core whether a turn may start, for at most so many seconds while it may not."""


class PauseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Pauses after failed turns, in seconds."""

    backoff_seconds: float = 5.0
    backoff_max_seconds: float = 300.0


class Pauses:
    """One loop's waiting. `changed` and `stop` may be called from any task while another one waits."""

    def __init__(
        self,
        *,
        account: Callable[[], BoundAccount],
        events: LoopEvents,
        settings: PauseSettings,
        clock: Clock,
        random: Random,
        parked_seconds: Callable[[], float | None],
        may_turn: MayTurn,
        watch_login: Callable[[AccountState], Awaitable[None]],
    ) -> None:
        self._account = account
        self._may_turn = may_turn
        self._watch_login = watch_login
        self._events = events
        self._clock = clock
        self._parked_seconds = parked_seconds
        self._backoff = Backoff(settings.backoff_seconds, settings.backoff_max_seconds, random)
        self._stopped = False
        self._changes = 0
        self._seen_changes = 0
        self._generation = 0
        self._wake = anyio.Event()

    def changed(self) -> None:
        """Model, account or config changed: whoever waits tries again at once."""
        self._changes += 1
        self._backoff.reset()
        self._wake.set()

    def stop(self) -> None:
        """Nobody waits from now on."""
        self._stopped = True
        self._wake.set()

    def turn_starts(self) -> None:
        """What changes from here on, this turn knew nothing of."""
        self._seen_changes = self._changes
        self._generation = self._account().state.generation

    def account_usable(self) -> bool:
        """Whether a turn under the agent's account has a chance now."""
        return self._account().state.blocked_until(self._clock.time()) is None

    async def for_account(self) -> None:
        """Wait while the account needs a login or is at its limit; its agents then come back one after the other."""
        while not self._stopped:
            account = self._account()
            state = account.state
            if state.blocked_until(self._clock.time()) is not None:
                state.line.park(account.agent)
                await self._for_state(state)
            elif delay := state.line.wait(account.agent, self._clock.monotonic()):
                await self._pause("limited", delay, state.changed)
            else:
                return
        self._account().state.line.leave(self._account().agent)

    async def for_budget(self) -> None:
        """Wait while mail is there and the core lets no turn start: a budget is used up."""
        told: int | None = -1
        admission = await self._may_turn(0)
        while admission.refused is not None and not self._stopped:
            if admission.until != told:
                told = admission.until
                self._events.noted(f"no turn starts: {admission.refused}")
            admission = await self._until_admitted(admission)

    async def _until_admitted(self, refused: Admission) -> Admission:
        """The core's next word on whether a turn may start."""
        heard: list[Admission | HiveError] = []

        async def ask() -> None:
            try:
                heard.append(await self._may_turn(RECV_WAIT_MAX_SECONDS))
            except HiveError as error:  # told outside of the pause's task group, which would wrap it
                heard.append(error)

        until = None if refused.until is None else refused.until - self._clock.time()
        await self._pause("budget", until, ask, for_ever=True)
        answer = heard[0] if heard else await self._may_turn(0)
        if isinstance(answer, HiveError):
            raise answer
        return answer

    def limited(self, until: float) -> None:
        """The core says that the account is at its limit until then. Embedded, the two know the same."""
        self._account().state.limit(until)

    def learn(self, result: TurnResult) -> None:
        """What a turn's end says of the account, for all who share it; to be told before another turn may start."""
        if result.kind == "needs_login":
            self._account().state.login_refused(self._generation)
        elif result.kind == "limited" and result.reset_at is not None:
            # Never sooner than the backoff: a reset time that has passed must not make a loop of it.
            now = self._clock.time()
            soonest = now + self._backoff.next_seconds()
            self._account().state.limit(max(min(result.reset_at, now + LIMIT_MAX_SECONDS), soonest))

    async def after(self, result: TurnResult, *, gave_way: bool) -> None:
        """Nothing after a turn that ended well, was cancelled or gave way to something; else say why, and wait.

        What the account keeps from working is waited for before the next turn, and so is a budget.
        """
        account = result.kind == "needs_login" or (result.kind == "limited" and result.reset_at is not None)
        if result.ok or result.kind == "cancelled":
            self._backoff.reset()
        elif account or result.cut_by_budget or gave_way or self._stopped:
            return
        elif result.park is not None:
            await self._for_operator(result.park)
        else:
            await self._back_off(result)

    async def _for_state(self, state: AccountState) -> None:
        if state.needs_login or state.limited_until is None:
            await self._pause("login", None, lambda: self._login_landed(state))
            return
        until = state.limited_until
        self._events.noted(f"the account {state.name} is at its limit until {_clock(until)}")
        await self._pause("limited", until - self._clock.time(), state.changed)

    async def _login_landed(self, state: AccountState) -> None:
        async def watch() -> None:
            await self._watch_login(state)

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await state.changed()
            group.cancel_scope.cancel()

    async def _for_operator(self, why: str) -> None:
        if self._changes == self._seen_changes:
            self._events.noted(f"waiting for the operator: {why}")
            await self._pause("operator", self._parked_seconds())

    async def _back_off(self, result: TurnResult) -> None:
        seconds = self._backoff.next_seconds()
        limited = result.kind == "limited"
        what = "the API does not serve" if limited else f"the turn ended as {result.kind}"
        why = f" ({result.note})" if result.note else ""
        self._events.noted(f"{what}{why}: next try in {seconds:.0f} s")
        await self._pause("limited" if limited else "backoff", seconds)

    async def _pause(
        self,
        reason: WaitingReason,
        seconds: float | None,
        changed: Callable[[], Awaitable[None]] | None = None,
        *,
        for_ever: bool = False,
    ) -> None:
        """Wait so long (None, or `for_ever`: for ever), or until `changed`, `Pauses.changed` or `stop`."""
        if self._stopped:
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
            if seconds is not None and not for_ever:
                group.start_soon(first, lambda: self._clock.sleep(seconds))


def _clock(until: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(min(until, _YEAR_9999)))
