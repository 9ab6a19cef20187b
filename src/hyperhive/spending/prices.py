"""What tokens cost: list prices by model family, as data, and the arithmetic on them. Knows nothing of who spends.

Money is counted in whole nano-dollars, so that sums are exact in any order. A model that is not listed is priced as
the dearest one that is: a budget must not be passed because a model is new. `[prices."PREFIX"]` of hive.toml adds to
the table, or replaces rows of it.
"""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from hyperhive.config import Price
from hyperhive.protocol.types import TokenUsage

NANO: Final = 1_000_000_000

SOURCE: Final = "the vendor's public price list (platform.claude.com, about-claude/pricing), read 2026-11-20"


def _price(input: float, output: float, cache_write: float, cache_read: float) -> Price:  # noqa: A002
    return Price(input=input, output=output, cache_write=cache_write, cache_read=cache_read)


PRICES: Final[Mapping[str, Price]] = {
    "claude-fable-5-1": _price(10.0, 50.0, 12.5, 0.25),
    "claude-fable": _price(10.0, 50.0, 12.5, 1.0),
    "claude-mythos-5-1": _price(10.0, 50.0, 12.5, 0.25),
    "claude-mythos": _price(10.0, 50.0, 12.5, 1.0),
    "claude-opus-5-5": _price(4.0, 20.0, 5.0, 0.2),
    "claude-opus-5": _price(5.0, 25.0, 6.25, 0.5),
    "claude-opus-4-8": _price(5.0, 25.0, 6.25, 0.5),
    "claude-opus-4-7": _price(5.0, 25.0, 6.25, 0.5),
    "claude-opus-4-6": _price(5.0, 25.0, 6.25, 0.5),
    "claude-opus-4-5": _price(5.0, 25.0, 6.25, 0.5),
    "claude-opus-4": _price(15.0, 75.0, 18.75, 1.5),
    "claude-3-opus": _price(15.0, 75.0, 18.75, 1.5),
    "claude-sonnet-5-5": _price(2.0, 10.0, 2.5, 0.1),
    "claude-sonnet-5": _price(2.0, 10.0, 2.5, 0.2),
    "claude-sonnet": _price(3.0, 15.0, 3.75, 0.3),
    "claude-3-7-sonnet": _price(3.0, 15.0, 3.75, 0.3),
    "claude-3-5-sonnet": _price(3.0, 15.0, 3.75, 0.3),
    # Cheaper up to 100,000 tokens of prompt; the dearer band, as a budget errs on the safe side.
    "claude-haiku-5-5": _price(0.5, 2.5, 0.625, 0.05),
    "claude-haiku": _price(1.0, 5.0, 1.25, 0.1),
    "claude-3-5-haiku": _price(0.8, 4.0, 1.0, 0.08),
    "claude-3-haiku": _price(0.25, 1.25, 0.3, 0.03),
}
"""US dollars a million tokens, by prefix of the model's name (the longest that fits counts). Cache writes are priced as
the usual five-minute ones. See `SOURCE`."""


class Priced(msgspec.Struct, frozen=True):
    """A cost in nano-dollars, and the family it was taken from; `guessed`: the model is not listed."""

    nano: int
    family: str
    guessed: bool


def price_of(model: str, usage: TokenUsage, own: Mapping[str, Price] | None = None) -> Priced:
    """What these tokens cost on this model. `own`: the operator's prices, which go before the table's."""
    table = {**PRICES, **(own or {})}
    fitting = [prefix for prefix in table if model.startswith(prefix)]
    family = max(fitting, key=len) if fitting else _dearest(table)
    return Priced(_cost(table[family], usage), family, guessed=not fitting)


def nano_dollars(dollars: float) -> int:
    """A sum of dollars as whole nano-dollars; what is no amount of money (negative, not finite) counts as nothing."""
    return round(dollars * NANO) if math.isfinite(dollars) and dollars > 0 else 0


def _cost(price: Price, usage: TokenUsage) -> int:
    """A dollar a million tokens is 1,000 nano-dollars a token."""
    return round(
        1000 * price.input * usage.input_tokens
        + 1000 * price.output * usage.output_tokens
        + 1000 * price.cache_write * usage.cache_creation_input_tokens
        + 1000 * price.cache_read * usage.cache_read_input_tokens
    )


def _dearest(table: Mapping[str, Price]) -> str:
    return max(table, key=lambda family: (table[family].output, table[family].input, family))
