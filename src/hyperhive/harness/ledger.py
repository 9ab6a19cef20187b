"""The books of one agent's turns: attempts and their uuids, what is done, what was spent, which tools are open. Pure.

The ack rule lives here: a message is done when the uuid of its attempt is in a `result` of this process with `is_error`
false and `terminal_reason` completed. 2.1.328 lists the uuids in the result; 2.1.200 echoes each message when the model
gets it, and the next result ends those. Results are never counted: one that names none of ours acks nothing.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from hyperhive.errors import BugError
from hyperhive.harness.moves import Prompt, SpentSeen
from hyperhive.harness.outcome import Evidence, Outcome, classify, is_good
from hyperhive.harness.stream_json import Block, Frame, ModelUsage
from hyperhive.harness.turns import TurnResult
from hyperhive.protocol.types import TokenUsage

HIVE_TOOLS: Final = "mcp__hyperhive__"
SYNTHETIC: Final = "<synthetic>"
"""The model that the CLI names for messages it wrote itself: they carry no usage."""
COMPACT: Final = "/compact"


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What one result means for the turn under way."""

    frame: Frame
    outcome: Outcome
    ours: bool
    """It ends attempts of ours, or fails the turn we asked for."""
    good: bool
    compaction: bool
    """It is, or may be, the result of the compaction that we wrote."""
    covered: frozenset[str]
    leftovers: bool
    """Attempts of ours are still without a result."""


class _Turn(msgspec.Struct):
    """The turn that was asked for."""

    prompt: str
    again: str
    ids: list[int]
    injected: list[tuple[str, tuple[int, ...]]] = []
    next_text: str = ""
    done: list[int] = []
    begun: bool = False
    usage: TokenUsage = TokenUsage()
    last: TokenUsage | None = None
    cost: float = 0.0
    num_turns: int = 0
    tool_calls: dict[str, int] = {}

    def undone(self) -> tuple[int, ...]:
        return tuple(one for one in self.ids if one not in self.done)


class Ledger:
    """See the file's header. `new_uuid` gives a fresh uuid each time it is called."""

    def __init__(self, new_uuid: Callable[[], str]) -> None:
        self._new_uuid = new_uuid
        self._turn: _Turn | None = None
        self._attempts: dict[str, tuple[int, ...]] = {}
        self._injected: set[str] = set()
        self._compaction: str | None = None
        self._echoed: set[str] = set()
        self._evidence = Evidence()
        self._open_tools: dict[str, str] = {}
        self._calls: dict[str, int] = {}
        self._last: TokenUsage | None = None
        self._total: float | None = 0.0
        self._tasks: set[str] = set()
        self._tasks_listed: int | None = None
        self.window: int | None = None
        self.model = ""
        self.tool_lost = False

    # --- what is known ------------------------------------------------------------------------------------------

    @property
    def has_turn(self) -> bool:
        """A turn was asked for and has not ended."""
        return self._turn is not None

    @property
    def tool_open(self) -> bool:
        """The model waits for a tool (for the operator's permission too)."""
        return bool(self._open_tools)

    @property
    def has_background_tasks(self) -> bool:
        """Something runs in the CLI beside its turn."""
        return bool(self._tasks) if self._tasks_listed is None else self._tasks_listed > 0

    @property
    def model_has_begun(self) -> bool:
        """The CLI has taken the turn's prompt up, so that a crash may be the prompt's doing."""
        return self._turn is not None and self._turn.begun

    def queued(self) -> list[str]:
        """Attempts that were handed to the running turn and have no result yet."""
        return [uuid for uuid in self._attempts if uuid in self._injected]

    # --- attempts -----------------------------------------------------------------------------------------------

    def open_turn(self, prompt: str, again: str, ids: tuple[int, ...]) -> None:
        """A turn is asked for."""
        self._turn = _Turn(prompt=prompt, again=again, ids=list(ids), next_text=prompt)

    def attempt(self) -> Prompt:
        """The next try at the turn's messages, under a fresh uuid."""
        turn = self._require_turn()
        return self._register(turn.next_text, turn.undone())

    def inject(self, prompt: str, ids: tuple[int, ...]) -> Prompt:
        """A message for the running turn."""
        turn = self._require_turn()
        turn.ids.extend(ids)
        turn.injected.append((prompt, ids))
        handed = self._register(prompt, ids)
        self._injected.add(handed.uuid)
        return handed

    def retry(self, *, in_session: bool) -> None:
        """Make the next attempt carry all that is not done.

        With `in_session` the session still has the text: it is then told of, not repeated.
        """
        turn = self._require_turn()
        self._attempts.clear()
        self._injected.clear()
        texts = [turn.again if in_session else turn.prompt]
        texts += [text for text, ids in turn.injected if not set(ids) <= set(turn.done)]
        turn.next_text = "\n\n".join(texts)

    def compaction(self) -> Prompt:
        """The order to compact the session."""
        self._compaction = self._new_uuid()
        self._open_tools.clear()
        return Prompt(self._compaction, COMPACT)

    def _register(self, text: str, ids: tuple[int, ...]) -> Prompt:
        uuid = self._new_uuid()
        self._attempts[uuid] = ids
        return Prompt(uuid, text)

    def _require_turn(self) -> _Turn:
        if self._turn is None:
            raise BugError("no turn is under way")
        return self._turn

    # --- frames -------------------------------------------------------------------------------------------------

    def observe(self, frame: Frame) -> None:
        """Take in any frame but a result."""
        if frame.type == "assistant":
            self._observe_assistant(frame)
        elif frame.type == "user":
            self._observe_user(frame)
        elif frame.type == "system":
            self._observe_system(frame)
        if frame.type != "result":
            self._evidence.observe(frame)

    def _observe_assistant(self, frame: Frame) -> None:
        message = frame.message
        if message is None:
            return
        for block in message.content if isinstance(message.content, list) else ():
            if block.type == "tool_use" and block.name:
                self._calls[block.name] = self._calls.get(block.name, 0) + 1
                if frame.parent_tool_use_id is None and block.id:
                    self._open_tools[block.id] = block.name
        if frame.parent_tool_use_id is None and message.model != SYNTHETIC:
            self.model = message.model or self.model
            if message.usage is not None:
                self._last = message.usage.tokens()
        self._begin()

    def _observe_user(self, frame: Frame) -> None:
        if frame.isReplay:
            if frame.uuid in self._attempts:
                self._echoed.add(frame.uuid)
                self._begin()
            return
        message = frame.message
        for block in message.content if message is not None and isinstance(message.content, list) else ():
            if block.type == "tool_result" and block.tool_use_id:
                self._close_tool(block)

    def _close_tool(self, block: Block) -> None:
        name = self._open_tools.pop(block.tool_use_id or "", "")
        if (
            block.is_error
            and name.startswith(HIVE_TOOLS)
            and b"not connected" in bytes(block.content).lower()
        ):
            self.tool_lost = True

    def _observe_system(self, frame: Frame) -> None:
        if frame.subtype == "init":
            self.model = frame.model or self.model
            if self._attempts:
                self._begin()
        elif frame.subtype == "background_tasks_changed" and frame.tasks is not None:
            self._tasks_listed = len(frame.tasks)
        elif frame.subtype == "task_started" and frame.task_id:
            self._tasks.add(frame.task_id)
        elif frame.subtype == "task_notification" and frame.task_id:
            self._tasks.discard(frame.task_id)

    def _begin(self) -> None:
        if self._turn is not None:
            self._turn.begun = True

    # --- results ------------------------------------------------------------------------------------------------

    def read_result(self, frame: Frame) -> Settlement:
        """What this result means; nothing is booked yet."""
        named = frame.user_message_uuids
        unasked = frame.origin is not None and frame.origin.kind == "task-notification"
        if named is not None:
            covered = frozenset(named) & self._attempts.keys()
            compaction = self._compaction in named
        else:
            covered = frozenset(self._echoed) & self._attempts.keys()
            compaction = not unasked and not covered
        failed = frame.is_error is True
        ours = bool(covered) or (failed and not named and not unasked)
        good = is_good(frame) and bool(covered)
        return Settlement(
            frame=frame,
            outcome=classify(frame, self._evidence),
            ours=ours,
            good=good,
            compaction=compaction and self._compaction is not None,
            covered=covered,
            leftovers=bool(self._attempts.keys() - covered),
        )

    def settle(self, settlement: Settlement) -> SpentSeen:
        """Book a result that is ours: what it covers is done if it is good, and without an attempt if not."""
        turn = self._require_turn()
        for uuid in settlement.covered:
            ids = self._attempts.pop(uuid)
            self._injected.discard(uuid)
            if settlement.good:
                turn.done.extend(one for one in ids if one not in turn.done)
        if not settlement.good and not settlement.leftovers:
            self._attempts.clear()
        return self._spend(settlement.frame)

    def settle_compaction(self, settlement: Settlement) -> SpentSeen:
        """Book the result of a compaction."""
        self._compaction = None
        return self._spend(settlement.frame)

    def settle_unasked(self, settlement: Settlement) -> SpentSeen:
        """Book a result that nobody asked for: not on the turn that runs."""
        turn, self._turn = self._turn, None
        spent = self._spend(settlement.frame)
        self._turn = turn
        return spent

    def _spend(self, frame: Frame) -> SpentSeen:
        """What was spent since the last result, added to the turn's books."""
        usage = frame.usage.tokens() if frame.usage is not None else TokenUsage()
        calls, self._calls = self._calls, {}
        last, self._last = self._last, None
        cost, total = self._cost(frame)
        self._window(frame.modelUsage)
        self._open_tools.clear()
        self._echoed.clear()
        self._evidence = Evidence()
        turn = self._turn
        if turn is not None:
            turn.usage = turn.usage + usage
            turn.last = last or turn.last
            turn.cost += cost
            turn.num_turns += frame.num_turns or 0
            for name, count in calls.items():
                turn.tool_calls[name] = turn.tool_calls.get(name, 0) + count
        return SpentSeen(usage, last, cost, calls, total)

    def _cost(self, frame: Frame) -> tuple[float, float | None]:
        """Cost since the last result, and the running total where that is what it was taken from."""
        since = frame.model_usage_since_last_result
        total = frame.total_cost_usd
        before, self._total = self._total, total if total is not None else self._total
        if since is not None:
            return sum(model.costUSD or 0.0 for model in since.values()), None
        if total is None:
            return 0.0, None
        # The total belongs to the session and is kept across resumes, but falls back when a CLI was killed.
        return (total - before if before is not None and total >= before else total), total

    def seed_total(self, total: float | None) -> None:
        """The session's running total so far; None: not known."""
        self._total = total

    def _window(self, models: Mapping[str, ModelUsage] | None) -> None:
        windows = {name: one.contextWindow for name, one in (models or {}).items() if one.contextWindow}
        if windows:
            self.window = windows.get(self.model) or max(windows.values())

    # --- ends ---------------------------------------------------------------------------------------------------

    def close_turn(self, outcome: Outcome) -> TurnResult:
        """The turn's result, without session and times. Nothing of it is left under way."""
        turn = self._require_turn()
        self._turn = None
        self._attempts.clear()
        self._injected.clear()
        for name, count in self._calls.items():
            turn.tool_calls[name] = turn.tool_calls.get(name, 0) + count
        self._calls = {}
        return TurnResult(
            kind=outcome.kind,
            done=tuple(one for one in turn.ids if one in turn.done),
            pending=turn.undone(),
            note=outcome.note,
            blame=outcome.blame,
            interrupted=outcome.interrupted,
            reset_at=outcome.reset_at,
            park=outcome.park,
            usage=turn.usage,
            last_usage=turn.last or self._last,
            context_window=self.window,
            cost=turn.cost,
            num_turns=turn.num_turns,
            tool_calls=turn.tool_calls,
            model=self.model,
        )

    def forget_process(self) -> None:
        """The process is gone: what it had open is closed, what it echoed ends nothing any more."""
        self._attempts.clear()
        self._injected.clear()
        self._compaction = None
        self._echoed.clear()
        self._open_tools.clear()
        self._tasks.clear()
        self._tasks_listed = None
        self._evidence = Evidence()
        self.tool_lost = False
