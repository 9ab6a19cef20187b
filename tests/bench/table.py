"""The frame of the benchmarks: groups of contenders that run in turns, goals as ratios within one run, one table.

A contender is a function that works once and gives a `Sample`. All contenders of a group run in every round, so that a
noisy machine disturbs them alike; what is compared are medians. Flushes are counted in one extra round that is not
timed, by a shim in SQLite's file layer. Nothing here measures anything by itself.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlite_shim import library, recording


@dataclass(frozen=True)
class Sample:
    """What one run gave: messages (or requests) a second, or seconds; and how many messages it handled."""

    value: float
    messages: int = 0


Contender = Callable[[Path], Sample]
"""Works once, in an empty directory of its own."""


@dataclass(frozen=True)
class Goal:
    """`us` compared with `baseline`: the ratio must reach `reach` (`at_most`: stay below it); `aim` is the hope."""

    us: str
    baseline: str
    reach: float
    aim: float | None = None
    at_most: bool = False

    def met(self, ratio: float) -> bool:
        return ratio <= self.reach if self.at_most else ratio >= self.reach


@dataclass(frozen=True)
class Group:
    """Contenders that do the same work. `unit` is `/s` or ` ms`; `flush_goal` is (us, reach, aim) a message."""

    title: str
    unit: str
    contenders: dict[str, Contender]
    goals: Sequence[Goal] = ()
    flush_goal: tuple[str, float, float] | None = None
    count_flushes: bool = True
    rounds: int | None = None


@dataclass
class Result:
    """All samples of one contender in one group."""

    samples: list[float] = field(default_factory=list)
    flushes: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> str:
        return f"{_short(min(self.samples))}–{_short(max(self.samples))}"


@contextmanager
def _directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hyperhive-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run_group(group: Group, rounds: int) -> dict[str, Result]:
    """Runs all contenders in turns."""
    results = {name: Result() for name in group.contenders}
    for number in range(group.rounds or rounds):
        for name, contender in group.contenders.items():
            _progress(f"{group.title}: round {number + 1}, {name} ...")
            with _directory() as path:
                results[name].samples.append(contender(path).value)
    if group.count_flushes and library() is not None:
        for name, contender in group.contenders.items():
            with _directory() as path, recording(path) as recorder:
                messages = contender(path).messages
                if messages:
                    results[name].flushes = recorder.flushes() / messages
    _progress("")
    return results


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)


def show(group: Group, results: dict[str, Result]) -> bool:
    """Prints the group; true where every goal was met."""
    print(f"\n## {group.title}\n")
    width = max(len(name) for name in results)
    for name, result in results.items():
        flushes = "" if result.flushes is None else f"   {result.flushes:.3f} flushes a message"
        print(f"  {name:<{width}}  {_short(result.median):>8}{group.unit}  ({result.spread}){flushes}")
    good = True
    for goal in group.goals:
        if goal.us not in results or goal.baseline not in results:
            continue
        ratio = results[goal.us].median / results[goal.baseline].median
        good &= goal.met(ratio)
        aim = f", aim {goal.aim:g}x" if goal.aim is not None else ""
        sign = "<=" if goal.at_most else ">="
        verdict = "met" if goal.met(ratio) else "MISSED"
        print(f"  {goal.us} / {goal.baseline}: {ratio:.2f}x  (goal {sign} {goal.reach:g}x{aim})  {verdict}")
    if group.flush_goal is not None:
        us, reach, aim_flushes = group.flush_goal
        flushes_a_message = results[us].flushes
        if flushes_a_message is not None:
            good &= flushes_a_message <= reach
            verdict = "met" if flushes_a_message <= reach else "MISSED"
            print(
                f"  {us}: {flushes_a_message:.3f} flushes  (goal <= {reach:g}, aim {aim_flushes:g})  {verdict}"
            )
    return good


def timed(work: Callable[[], int]) -> Sample:
    """Runs `work`, which returns how many messages it handled; gives messages a second."""
    begin = time.perf_counter()
    messages = work()
    return Sample(messages / (time.perf_counter() - begin), messages)


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
