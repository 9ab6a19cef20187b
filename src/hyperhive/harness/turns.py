"""What a turn is given and what it comes to: values without behaviour.

`outcome` fills in the kind, `machine` the rest but the times, `runner` the times.
"""

import msgspec

from hyperhive.protocol.types import ResultKind, TokenUsage


class TurnResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one turn ended.

    `done` are the messages that the ack rule holds for: a result of this process with `is_error` false and
    `terminal_reason` completed named their attempt. Nothing else may ack a message. `pending` are all others that
    the turn was given or was handed meanwhile (`inject`), in order.
    """

    kind: ResultKind
    done: tuple[int, ...] = ()
    pending: tuple[int, ...] = ()
    note: str | None = None
    """One sentence for people; what the CLI said, where it said something."""
    blame: bool = False
    """The messages may have caused this ending (stuck, too long even after compaction, CLI crash, max turns)."""
    interrupted: bool = False
    """The turn was ended for something more urgent, or with the harness: nobody's fault."""
    reset_at: int | None = None
    """With `limited`: unix seconds when the account's limit ends, where the CLI said so."""
    park: str | None = None
    """Trying again is useless until model, account or config changes: why."""
    usage: TokenUsage = TokenUsage()
    """What the turn spent: the sum over its calls of the API."""
    last_usage: TokenUsage | None = None
    """The last inference's usage: how full the context is. None where there was none."""
    context_window: int | None = None
    """Tokens that the model's context holds."""
    cost: float = 0.0
    """US dollars by the CLI's own list price."""
    num_turns: int = 0
    """Model calls in the turn, as the CLI counts them."""
    tool_calls: dict[str, int] = {}
    """How often each tool was called, subagents' calls included."""
    session_id: str = ""
    model: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0
    """Unix seconds, UTC."""
    duration_ms: int = 0
    message: int | None = None
    """The message that caused the turn, and the first one of that one's chain, as the core told."""
    chain: int | None = None
    cut_by_budget: bool = False
    """A request of it was refused because a budget is used up: nobody's fault."""

    @property
    def ok(self) -> bool:
        """The turn ended well, and every message of it is done."""
        return self.kind == "ok"


class UnaskedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that the CLI ran by itself, because a background task ended.

    It is shown and billed, and acks nothing but what a `recv` inside it took: `ok` says whether that may be acked.
    """

    ok: bool
    note: str | None = None
    usage: TokenUsage = TokenUsage()
    last_usage: TokenUsage | None = None
    cost: float = 0.0
    tool_calls: dict[str, int] = {}
    session_id: str = ""
    model: str = ""

    def joined(self, later: "UnaskedTurn") -> "UnaskedTurn":
        """This one and a later one as one."""
        calls = {
            name: self.tool_calls.get(name, 0) + later.tool_calls.get(name, 0)
            for name in {**self.tool_calls, **later.tool_calls}
        }
        return msgspec.structs.replace(
            later,
            ok=self.ok and later.ok,
            note=later.note or self.note,
            usage=self.usage + later.usage,
            last_usage=later.last_usage or self.last_usage,
            cost=self.cost + later.cost,
            tool_calls=calls,
            model=later.model or self.model,
        )
