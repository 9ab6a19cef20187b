"""What the loop of one agent tells: a port, which the harness implements."""

from typing import Protocol

from hyperhive.harness.turns import TurnResult
from hyperhive.protocol.types import TurnStateName, WaitingReason


class LoopEvents(Protocol):
    """Contract: none of these raises or waits."""

    def state_changed(self, state: TurnStateName, reason: WaitingReason | None, until: float | None) -> None:
        """What the loop does; it may say the same again. `until`: unix seconds when it goes on by itself."""
        ...

    def noted(self, text: str) -> None:
        """Something that people should know, as one sentence."""
        ...

    def turn_settled(self, number: int, wake_from: str, result: TurnResult) -> None:
        """A turn has ended, and the core knows what became of its messages."""
        ...
