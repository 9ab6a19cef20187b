"""`python -m tests.bench`: runs the benchmarks and prints one table, as ratios with the baselines of the same run.

--rounds N     rounds of each group (5)
--only WORD    groups whose title contains WORD (may be given more than once)
--list         titles only
"""

import argparse
import os
import platform
import sqlite3
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from tests.bench import groups
from tests.bench.table import run_group, show


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [
        group
        for group in groups.all_groups()
        if not options.only or any(word.casefold() in group.title.casefold() for word in options.only)
    ]
    if not chosen:
        parser.error("no group's title contains that")
    if options.list:
        print("\n".join(group.title for group in chosen))
        return 0
    print(f"# HyperHive's speed, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start")
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}. Medians of {options.rounds} rounds,"
    )
    print(
        "all contenders of a group in turns, (lowest–highest). Flushes: counted at SQLite's file layer in one more"
    )
    print("round that is not timed.")
    good = True
    for group in chosen:
        good &= show(group, run_group(group, options.rounds))
    print("\nall goals met" if good else "\nnot all goals met")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
