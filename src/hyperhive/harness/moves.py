"""What goes into the turn machine and what comes out of it: states, events, actions. Values only."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from hyperhive.harness.stream_json import Frame
from hyperhive.harness.turns import TurnResult
from hyperhive.protocol.types import TokenUsage


class State(StrEnum):
    """What the agent's CLI process is doing, as far as the hive knows."""

    COLD = "cold"
    """No process."""
    STARTING = "starting"
    """Launched; has not yet answered `initialize`."""
    IDLE = "idle"
    """Warm, without a turn."""
    UNASKED = "unasked"
    """In a turn of its own, because a background task ended."""
    RUNNING = "running"
    """In a turn that was asked for."""
    INTERRUPTING = "interrupting"
    """Told to end the turn; its result is awaited."""
    COMPACTING = "compacting"
    """Shortening its session."""
    ENDING = "ending"
    """On its way out, whether it likes it or not."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened or was asked for."""


class TurnAsked(Event, frozen=True):
    """Run a turn. `again` is the prompt for a second try in the same session; `ids` the messages in it."""

    prompt: str
    again: str
    ids: tuple[int, ...]


class InjectAsked(Event, frozen=True):
    """Hand a message to the running turn, at its next tool boundary."""

    prompt: str
    ids: tuple[int, ...]


class InterruptAsked(Event, frozen=True):
    """End the running turn for something more urgent; `reason` is for the note and the banner."""

    reason: str


class CancelAsked(Event, frozen=True):
    """The operator cancels the running turn."""


class CompactAsked(Event, frozen=True):
    """Compact the session."""


class EndAsked(Event, frozen=True):
    """End the process: gently without a turn, at once within one."""


class Ready(Event, frozen=True):
    """The process answered `initialize`."""


class StartFailed(Event, frozen=True):
    """There is no process: `words` say why. `park`: trying again is useless until something is mended."""

    words: str
    park: str | None = None


class FrameSeen(Event, frozen=True):
    """A line of stream-json, `size` bytes long."""

    frame: Frame
    size: int = 0


class ResultSeen(Event, frozen=True):
    """A `result` frame (made by the machine from `FrameSeen`)."""

    frame: Frame


class InitSeen(Event, frozen=True):
    """A `system/init` frame (made by the machine from `FrameSeen`)."""

    frame: Frame


class NoiseSeen(Event, frozen=True):
    """Output that says nothing of a turn, `size` bytes of it: no frame, or one that means nothing by itself."""

    size: int


class Answered(Event, frozen=True):
    """The CLI answered a control request of this name."""

    what: str


class OutputClosed(Event, frozen=True):
    """Standard output ended, or standard input broke; the process may still be there."""


class Exited(Event, frozen=True):
    """The process is gone, and nothing of it is left. `by_hive`: it did not end by itself."""

    words: str
    by_hive: bool = False


class Tick(Event, frozen=True):
    """The machine's deadline has passed."""


class Action(msgspec.Struct, frozen=True):
    """Something for the runner to do."""


class Launch(Action, frozen=True):
    """Start the process; answer with `Ready` or `StartFailed`, and with `Exited` when it is gone."""


class Prompt(msgspec.Struct, frozen=True):
    """One user message to the CLI, with the uuid of this attempt."""

    uuid: str
    text: str


class Write(Action, frozen=True):
    """Write a user message to the process."""

    prompt: Prompt


class Ask(Action, frozen=True):
    """Send a control request; `Answered(what)` when it is answered."""

    what: str
    request: Mapping[str, str]


class CloseInput(Action, frozen=True):
    """Close standard input: an idle CLI then ends by itself."""


class Terminate(Action, frozen=True):
    """Ask the process to end (SIGTERM)."""


class Kill(Action, frozen=True):
    """End it and all its descendants."""


class Note(Action, frozen=True):
    """Tell people."""

    text: str


class SpentSeen(Action, frozen=True):
    """What a result says was spent: `usage` the sum over the turn's API calls, `last` the last inference's."""

    usage: TokenUsage
    last: TokenUsage | None
    cost: float
    tool_calls: Mapping[str, int]
    total_cost: float | None


class Unasked(Action, frozen=True):
    """A turn ended that nobody had asked for."""

    good: bool
    spent: SpentSeen


class Finish(Action, frozen=True):
    """The turn that was asked for has ended like this (without times and session).

    `standing`: the process lives on, and the session holds the text of what is pending.
    """

    result: TurnResult
    standing: bool = False


class Compacted(Action, frozen=True):
    """The compaction that was asked for has ended."""

    ok: bool
    words: str | None
