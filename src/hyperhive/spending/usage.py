"""What was used and why: values, and the bounds that nothing reported can pass. Pure.

A gateway's counts come from the API's own stream; a CLI's are what a program in the agent's box says of itself, and are
cut to what one turn can be.
"""

from typing import Final, Literal

import msgspec

from hyperhive.protocol.types import TokenUsage

Source = Literal["gateway", "cli"]

TOKENS_MAX: Final = 1_000_000_000
"""More than any turn uses: a larger count is no count."""
DOLLARS_MAX: Final = 10_000.0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One metered request, or one turn. `complete` false: at least this much (the stream was cut)."""

    model: str
    tokens: TokenUsage
    complete: bool = True


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why an agent is at work: a message, and the first one of its chain."""

    message: int
    chain: int


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """The message that a chain began with."""

    sender: str
    recipient: str
    text: str
    at: int


class Total(msgspec.Struct, kw_only=True):
    """A sum of spending. `tokens` are all four counts together, `nano` nano-dollars."""

    tokens: int = 0
    nano: int = 0
    requests: int = 0

    def add(self, tokens: int, nano: int, requests: int = 1) -> None:
        """Count this in."""
        self.tokens += tokens
        self.nano += nano
        self.requests += requests


def all_tokens(usage: TokenUsage) -> int:
    """All four counts together: what a budget of tokens is about."""
    return (
        usage.input_tokens
        + usage.output_tokens
        + usage.cache_read_input_tokens
        + usage.cache_creation_input_tokens
    )


def clamped(usage: TokenUsage) -> TokenUsage:
    """The same counts, none below nothing nor above what can be."""
    return TokenUsage(
        **{name: min(max(value, 0), TOKENS_MAX) for name, value in msgspec.structs.asdict(usage).items()}
    )


def clamped_dollars(dollars: float) -> float:
    """The same amount, within what one turn can cost; nothing where it is no amount."""
    return min(dollars, DOLLARS_MAX) if dollars > 0 else 0.0  # a NaN is not above 0
