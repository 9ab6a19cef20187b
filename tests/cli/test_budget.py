"""What `hyperhive budget` and `turns` say of spending and its causes, also where an agent wrote the words."""

from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest

from console import Console, Done
from desk import answers, desk, does
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.types import TurnRow


async def run(console: Console, *words: str) -> Done:
    return await anyio.to_thread.run_sync(partial(console.run, *words))


@pytest.fixture
def at(console: Console, tmp_path: Path) -> Path:
    """The run directory that the console is told."""
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")
    console.env["COLUMNS"] = "200"
    return tmp_path / "run"


PAGE = p.BudgetPage(
    spent=[
        p.Spent(name="hive", hour_tokens=1_500_000, hour_cost=3.5, day_tokens=4_000_000, day_cost=9.25),
        p.Spent(
            name="alice",
            day_tokens=2_000_000,
            day_cost=6.0,
            limits=(
                p.BudgetLimit(setting="tokens_per_day", limit=2e6, spent=2e6, until=1_800_000_000, raises=1),
                p.BudgetLimit(setting="cost_per_day", limit=12.0, spent=6.0, until=1_800_000_000),
            ),
            refused="alice's budget tokens_per_day is used up: 2,000,000 tokens of 2,000,000",
            question=7,
        ),
    ],
    days=[p.DaySpent(day=1_799_971_200, agent="alice", tokens=2_000_000, cost=6.0, requests=12)],
    chains=[
        p.ChainSpent(
            chain=3, tokens=1000, cost=5.5, requests=2, agents=("alice", "bob"), first_at=1, last_at=2,
            root_from="operator", root_to="alice", root_text="build\x1b[31m it",
        ),
        p.ChainSpent(chain=1, tokens=10, cost=0.5, requests=1, agents=("bob",), first_at=1, last_at=2),
    ],
)  # fmt: skip


async def test_it_says_what_is_spent_what_is_left_and_what_waits_for_the_operator(
    console: Console, at: Path
) -> None:
    asked: list[r.Request] = []

    async def budget(request: r.Request) -> p.Reply:
        asked.append(request)
        return PAGE

    async with desk(at, {r.Budget: does(budget)}):
        done = await run(console, "budget", "--chains", "--days", "1")
        as_json = await run(console, "budget", "alice", "--tokens-per-day", "5", "--json")
    assert asked == [r.Budget(chains=True, days=1), r.Budget(name="alice", tokens_per_day=5)]
    assert "question 7" in done.out
    assert "2027-01-15" in done.out
    assert "$5.5000" in done.out
    assert "tokens_per_day 100% of 2.0M" in done.out
    assert "raised 1x" in done.out
    assert "operator -> alice: build" in done.out
    assert "not kept any more" in done.out
    assert "\x1b" not in done.out
    assert as_json.json["spent"][1]["limits"][0]["raises"] == 1


async def test_a_limit_is_set_for_whom_is_named_alone_and_that_is_said(console: Console, at: Path) -> None:
    async with desk(at, {r.Budget: answers(PAGE)}):
        nobody = await run(console, "budget", "--tokens-per-day", "5")
        negative = await run(console, "budget", "alice", "--tokens-per-day", "-5")
        hive = await run(console, "budget", "hive", "--tokens-per-day", "5000")
    assert (nobody.code, "say whose limit it is" in nobody.err) == (2, True)
    assert (negative.code, "at least 1" in negative.err) == (2, True)
    assert hive.out.startswith("the hive's limit for today is now 5,000 tokens\n")


async def test_one_budget_that_holds_for_several_is_told_once(console: Console, at: Path) -> None:
    refused = "the hive's budget tokens_per_day is used up: 5 of 5 tokens"
    spent = [
        p.Spent(name=name, refused=refused, question=number) for name, number in (("hive", 7), ("bob", None))
    ]
    async with desk(at, {r.Budget: answers(p.BudgetPage(spent=spent))}):
        done = await run(console, "budget")
    assert done.out.count(refused) == 1
    assert "(question 7: raise, wait or stop)" in done.out


async def test_turns_name_their_message_and_who_began_its_chain(console: Console, at: Path) -> None:
    def row(**fields: object) -> TurnRow:
        return TurnRow(
            started_at=1,
            ended_at=1,
            duration_ms=1,
            model="m",
            wake_from="bob",
            result_kind="ok",
            **fields,  # type: ignore[arg-type]
        )

    rows = [row(turn=3, message=12, chain=4, root="operator"), row(turn=2, message=5, chain=5), row()]
    async with desk(at, {r.Turns: answers(p.TurnRows(turns=rows))}):
        done = await run(console, "turns", "alice")
        as_json = await run(console, "turns", "alice", "--json")
    lines = done.out.splitlines()
    assert "CAUSE" in lines[0]
    assert "12 < 4 by operator" in lines[1]
    assert " 5 " in lines[2]
    assert (as_json.json["turns"][0]["chain"], as_json.json["turns"][0]["root"]) == (4, "operator")
