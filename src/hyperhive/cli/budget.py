"""`hyperhive budget`: what was spent, what may be, and which messages caused it."""

import time
from typing import Annotated

from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.render import ago, count, money, table
from hyperhive.errors import BadRequest
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import BudgetLimit, BudgetPage, ChainSpent, DaySpent, Spent
from hyperhive.terminal import visible

Flag = Annotated[bool, Parameter(negative="")]


def budget(
    name: str | None = None,
    /,
    *,
    chains: Flag = False,
    days: int = 0,
    tokens_per_day: int | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Show what was spent in this hour and today (UTC), or set a limit for today.

    Args:
        name: an agent, or hive for all together; without one, everybody.
        chains: also the dearest chains of messages, with the message that each began with.
        days: also what was spent on each of so many days.
        tokens_per_day: the limit for today, whatever hive.toml says; tomorrow that holds again.
        common: flags of every command.
    """
    if tokens_per_day is not None and name is None:
        raise BadRequest(
            "say whose limit it is",
            hint=f"hyperhive budget NAME --tokens-per-day {tokens_per_day}; NAME hive: all agents",
        )
    if tokens_per_day is not None and tokens_per_day < 1:
        raise BadRequest("--tokens-per-day takes at least 1", hint="`hyperhive kill NAME` stops an agent")
    session = Session(common)
    answer = session.ask(r.Budget(name=name, chains=chains, days=days, tokens_per_day=tokens_per_day))

    def render() -> None:
        page = answer.read(BudgetPage)
        if tokens_per_day is not None:
            whose = "the hive's" if name == "hive" else f"{name}'s"
            session.screen.line(visible(f"{whose} limit for today is now {tokens_per_day:,} tokens"))
        _show_spent(session, page.spent)
        if days:
            _show_days(session, page.days)
        if chains:
            _show_chains(session, page.chains)

    return session.show(answer, render)


def _show_spent(session: Session, spent: list[Spent]) -> None:
    header = ("NAME", "HOUR", "COST", "TODAY", "COST", "BUDGET")
    rows = [
        [
            one.name, count(one.hour_tokens), money(one.hour_cost), count(one.day_tokens), money(one.day_cost),
            "; ".join(_limit(limit) for limit in one.limits) or "-",
        ]
        for one in spent
    ]  # fmt: skip
    session.screen.lines(table(header, rows, session.screen.columns, right=frozenset({1, 2, 3, 4})))
    refusals: dict[str, int | None] = {}
    for one in spent:
        if one.refused is not None:  # the hive's is that of every agent
            refusals[one.refused] = refusals.get(one.refused) or one.question
    for refused, number in refusals.items():
        question = "" if number is None else f" (question {number}: raise, wait or stop)"
        session.screen.body(f"{refused}{question}", indent="")


def _limit(limit: BudgetLimit) -> str:
    cost = limit.setting.startswith("cost")
    shown = money(limit.limit) if cost else count(int(limit.limit))
    part = int(100 * limit.spent / limit.limit) if limit.limit else 100
    share = f"{part}%" if part < 1000 else "far over"
    until = time.strftime("%H:%M", time.localtime(limit.until))  # a window is a day at most
    raised = f", raised {limit.raises}x" if limit.raises else ""
    return f"{limit.setting} {share} of {shown} until {until}{raised}"


def _show_days(session: Session, days: list[DaySpent]) -> None:
    session.screen.line()
    header = ("DAY", "AGENT", "TOKENS", "COST", "REQUESTS")
    rows = [
        [
            time.strftime("%Y-%m-%d", time.gmtime(one.day)),
            one.agent,
            count(one.tokens),
            money(one.cost),
            str(one.requests),
        ]
        for one in days
    ]
    session.screen.lines(table(header, rows, session.screen.columns, right=frozenset({2, 3, 4})))


def _show_chains(session: Session, chains: list[ChainSpent]) -> None:
    session.screen.line()
    now = time.time()
    header = ("CHAIN", "COST", "TOKENS", "LAST", "AGENTS", "BEGAN WITH")
    rows = [
        [str(one.chain), money(one.cost), count(one.tokens), ago(one.last_at, now), ",".join(one.agents), _began(one)]
        for one in chains
    ]  # fmt: skip
    session.screen.lines(table(header, rows, session.screen.columns, right=frozenset({0, 1, 2})))


def _began(chain: ChainSpent) -> str:
    if chain.root_from is None:
        return f"message {chain.chain}, which is not kept any more"
    return f"{chain.root_from} -> {chain.root_to}: {chain.root_text}"
