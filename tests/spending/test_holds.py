"""What is set aside for requests under way keeps them within a budget, whoever comes when and ends when."""

import random

import pytest

from hyperhive.spending.grants import Window
from hyperhive.spending.holds import Hold, Holds
from hyperhive.spending.limits import HIVE, Bound, Measure

AGENTS = ("alice", "bob", "eve")
LARGEST = 400


def bound(scope: str, spent: int, limit: int, measure: Measure) -> Bound:
    window = Window(scope, "hour", 0)
    return Bound(setting="x", window=window, measure=measure, limit=limit, base=limit, spent=spent, raises=0)


@pytest.mark.parametrize("measure", ["tokens", "cost"])
@pytest.mark.parametrize("seed", range(60))
def test_a_budget_is_overshot_by_one_request_of_each_agent_and_an_agents_own_by_one(
    seed: int, measure: Measure
) -> None:
    """As far as estimates hold: a request uses what was set aside for it, or less."""
    rng = random.Random(f"{seed} {measure}")
    limits = {HIVE: rng.randint(1, 3000), **{name: rng.randint(1, 3000) for name in AGENTS}}
    spent = dict.fromkeys(limits, 0)
    holds = Holds()
    under_way: list[tuple[str, int, Hold]] = []

    def bounds(name: str) -> list[Bound]:
        return [bound(scope, spent[scope], limits[scope], measure) for scope in (name, HIVE)]

    def refused(name: str) -> bool:
        return any(one.spent >= one.limit for one in bounds(name))

    while not all(refused(name) for name in AGENTS) or under_way:
        name = rng.choice(AGENTS)
        size = rng.randint(1, LARGEST)
        if rng.random() < 0.6 and not refused(name):
            alone = not under_way
            hold = holds.take((name, HIVE), size, size, bounds(name))
            assert hold is not None or not alone, "where nothing is under way nobody waits"
            if hold is not None:
                under_way.append((name, size, hold))
        elif under_way:
            name, size, hold = under_way.pop(rng.randrange(len(under_way)))
            used = rng.randint(0, size)
            for scope in (name, HIVE):
                spent[scope] += used
            hold.release()
            hold.release()
    assert not holds._held
    assert all(spent[name] < limits[name] + LARGEST for name in AGENTS), (spent, limits)
    assert spent[HIVE] < limits[HIVE] + len(AGENTS) * LARGEST, (spent, limits)


def test_agents_that_ask_for_one_thing_at_a_time_never_wait_for_each_other() -> None:
    holds = Holds()
    nearly = [bound(HIVE, 999, 1000, "tokens")]
    assert all(holds.take((name, HIVE), 500, 500, nearly) for name in AGENTS)
    assert holds.take(("alice", HIVE), 1, 1, nearly) is None
