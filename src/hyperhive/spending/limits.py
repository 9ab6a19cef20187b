"""What may be spent: the limits of an agent and of the hive, with what the operator granted, and which of them is hit.

Pure: totals, grants and configuration in, a verdict out.
"""

from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

from hyperhive.config import Budget, HiveConfig
from hyperhive.spending.grants import Grant, Window
from hyperhive.spending.prices import NANO, nano_dollars
from hyperhive.spending.usage import Total
from hyperhive.spending.windows import WindowName, end_of, start_of

HIVE: Final = "hive"
"""The scope of all agents together; no agent can be named so."""

Measure = Literal["tokens", "cost"]
_SETTINGS: Final[tuple[tuple[str, WindowName, Measure], ...]] = (
    ("tokens_per_hour", "hour", "tokens"),
    ("cost_per_hour", "hour", "cost"),
    ("tokens_per_day", "day", "tokens"),
    ("cost_per_day", "day", "cost"),
)


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that is in force now; `base`: without any raise. All are tokens, or nano-dollars."""

    setting: str
    window: Window
    measure: Measure
    limit: int
    base: int
    spent: int
    raises: int

    @property
    def until(self) -> int:
        """When its window is over (unix seconds)."""
        return end_of(self.window.span, self.window.start)

    @property
    def used(self) -> float:
        """The part of it that is spent; 1 and more: all of it."""
        return self.spent / self.limit if self.limit > 0 else 1.0

    @property
    def raises_needed(self) -> int:
        """How often as much again must be granted until something is left; 0 where something is."""
        return 0 if self.spent < self.limit else (self.spent - self.limit) // max(1, self.base) + 1

    def in_words(self) -> str:
        """What is spent, of how much."""
        if self.measure == "tokens":
            return f"{self.spent:,} of {self.limit:,} tokens"
        return f"${self.spent / NANO:,.2f} of ${self.limit / NANO:,.2f}"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Why an agent may not go on now.

    Attributes:
        message: one sentence for people.
        until: unix seconds when it may again by itself.
        question_id: what the operator was asked about it, once that is stored.
        window: whose budget for which time is used up; None: it is, or was, another reason to wait.
        raises: how often that was raised before.
    """

    message: str
    until: int
    question_id: int | None = None
    window: Window | None = None
    raises: int = 0


SpentIn = Callable[[str, WindowName, float], Total]
GrantOf = Callable[[Window], Grant]


def bounds(scope: str, config: HiveConfig, spent: SpentIn, grant: GrantOf, now: float) -> Iterator[Bound]:
    """The limits of one scope that are in force."""
    for setting, span, measure in _SETTINGS:
        window = Window(scope, span, start_of(span, now))
        given = grant(window)
        configured = _configured(scope, setting, config)
        override = given.tokens if setting == "tokens_per_day" else None
        if override is not None:
            base, times = override, 1 + given.raises - given.raises_then
        elif configured is not None:
            base, times = _units(measure, configured), 1 + given.raises
        else:
            continue
        total = spent(scope, span, now)
        yield Bound(
            setting=setting,
            window=window,
            measure=measure,
            limit=base * times,
            base=base,
            spent=total.tokens if measure == "tokens" else total.nano,
            raises=given.raises,
        )


def used_up(found: Iterator[Bound]) -> Bound | None:
    """The limit that is hit; of several the one that lasts longest."""
    hit = [bound for bound in found if bound.spent >= bound.limit]
    return max(hit, key=lambda bound: bound.until) if hit else None


def verdict(bound: Bound) -> Verdict:
    """What a limit that is hit means."""
    whose = "the hive's budget" if bound.window.scope == HIVE else f"{bound.window.scope}'s budget"
    return Verdict(
        message=f"{whose} {bound.setting} is used up: {bound.in_words()}",
        until=bound.until,
        window=bound.window,
        raises=bound.raises,
    )


def _units(measure: Measure, value: float) -> int:
    return int(value) if measure == "tokens" else nano_dollars(value)


def _configured(scope: str, setting: str, config: HiveConfig) -> float | None:
    """The least of what is set for this scope."""
    if scope == HIVE:
        budgets: tuple[Budget, ...] = (config.file.budget,)
    else:
        agent = config.agent(scope)
        budgets = (agent.budget, agent.limits.budget)
    values: list[float] = [value for one in budgets if (value := getattr(one, setting)) is not None]
    return min(values, default=None)
