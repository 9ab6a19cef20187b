"""What is so: the turn machine's memory, and the questions that its table asks of it. Nothing here changes anything.

Each condition of `table` is a method `_when_…` of the same name; `machine` adds what is done.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from hyperhive.harness.ledger import Ledger, Settlement
from hyperhive.harness.moves import CancelAsked, Event, InitSeen, InterruptAsked, ResultSeen, State
from hyperhive.harness.outcome import Outcome

PROGRESS_KINDS: Final = frozenset(
    {"assistant", "user", "system", "stream_event", "result", "rate_limit_event"}
)
"""Frames that show that the CLI gets on; anything else may be printed for ever and counts as silence."""

WORK_KINDS: Final = PROGRESS_KINDS - {"system"}
"""What a turn is made of. A `system` frame is a sign of life, but a flood of them is a flood."""

NOISE_SECONDS: Final = 60.0
NOISE_LINE: Final = 64
"""What a line of noise counts beside its bytes."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long the machine waits, in seconds, and how much rubbish it takes."""

    stuck_seconds: float = 600.0
    result_grace: float = 10.0
    """For an answer to an interrupt or a ping, and for each step of ending a process."""
    start_seconds: float = 60.0
    noise_bytes: int = 8 * 2**20
    """Rubbish within a minute, without a frame that a turn is made of, before the process is ended."""


class Conditions:
    """See the file's header. Times are monotonic seconds."""

    def __init__(self, timing: Timing, new_uuid: Callable[[], str]) -> None:
        self.timing = timing
        self.state = State.COLD
        self.ledger = Ledger(new_uuid)
        self.deadline: float | None = None
        self._now = 0.0
        self._last_sign = 0.0
        self._noise = 0
        self._noise_since = 0.0
        self._ping_due: float | None = None
        self._limit: float | None = None
        self._wanted: InterruptAsked | CancelAsked | None = None
        self._stuck_before = False
        self._settled: Settlement | None = None
        self._decided: Outcome | None = None
        self._resume = False
        self._compacting_for: str | None = None
        self._compacted = False

    @property
    def busy(self) -> bool:
        """A turn or a compaction is under way, asked for or not."""
        return self.state not in {State.COLD, State.IDLE}

    @property
    def alive(self) -> bool:
        """There is a process, or there will be one in a moment."""
        return self.state is not State.COLD

    @property
    def has_background_tasks(self) -> bool:
        """The CLI runs something beside the turn: it must not be retired."""
        return self.ledger.has_background_tasks

    def _next_deadline(self) -> float | None:
        """When something is due if nothing happens before."""
        if self.state is State.COLD:
            return None
        due = [self._limit, self._ping_due]
        waits_for_tool = self.ledger.tool_open and self._ping_due is not None
        if self.state in {State.RUNNING, State.COMPACTING, State.UNASKED} and not waits_for_tool:
            due.append(self._last_sign + self.timing.stuck_seconds)
        return min((at for at in due if at is not None), default=None)

    # --- conditions ---------------------------------------------------------------------------------------------

    def _when_has_turn(self, _: Event) -> bool:
        return self.ledger.has_turn

    def _when_has_compaction(self, _: Event) -> bool:
        return self._compacting_for == "asked"

    def _when_tools_missing(self, event: InitSeen) -> bool:
        servers = event.frame.mcp_servers or []
        return not any(server.name == "hyperhive" and server.status == "connected" for server in servers)

    def _when_tool_lost(self, _: Event) -> bool:
        return self.ledger.tool_lost

    def _when_not_ours(self, _: Event) -> bool:
        return self._settled is not None and not self._settled.ours

    def _when_good(self, _: Event) -> bool:
        return self._settled is not None and self._settled.good

    def _when_good_and_complete(self, _: Event) -> bool:
        return self._settled is not None and self._settled.good and not self._settled.leftovers

    def _when_leftovers(self, _: Event) -> bool:
        return self._settled is not None and self._settled.leftovers

    def _when_too_long_first_time(self, _: Event) -> bool:
        settled = self._settled
        too_long = settled is not None and settled.outcome.kind == "prompt_too_long" and not settled.leftovers
        return too_long and self._compacting_for is None

    def _when_no_compaction(self, _: Event) -> bool:
        return self._settled is not None and not self._settled.compaction

    def _when_compacted_for_turn(self, event: ResultSeen) -> bool:
        return self.ledger.has_turn and self._compacted and event.frame.is_error is not True

    def _when_stuck_first_time(self, _: Event) -> bool:
        return self._wanted is None and not self._stuck_before

    def _when_silent(self, _: Event) -> bool:
        return self._is_silent() and not self.ledger.tool_open

    def _when_silent_with_tool(self, _: Event) -> bool:
        return self._is_silent() and self.ledger.tool_open and self._ping_due is None

    def _is_silent(self) -> bool:
        return self._now >= self._last_sign + self.timing.stuck_seconds

    def _when_unanswered(self, _: Event) -> bool:
        return self._ping_due is not None and self._now >= self._ping_due

    def _when_flooded(self, _: Event) -> bool:
        return self._noise > self.timing.noise_bytes

    def _when_to_be_resumed(self, _: Event) -> bool:
        return self._resume and self.ledger.has_turn
