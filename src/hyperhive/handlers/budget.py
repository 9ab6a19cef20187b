"""What is spent and may be: the operator's look and word, a harness's turns, and who caused each of them."""

from collections.abc import Callable, Mapping

import msgspec

from hyperhive.budgets import Budgets
from hyperhive.clock import Clock
from hyperhive.errors import BadRequest, NotFound
from hyperhive.handlers.fitting import fitting
from hyperhive.handlers.ports import Agents, Standings
from hyperhive.names import AgentName, parse_resident
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Answer, Handler
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.types import TurnRow
from hyperhive.spending import HIVE, Root, Spending, Usage
from hyperhive.spending.limits import Bound
from hyperhive.spending.prices import NANO
from hyperhive.spending.rows import ChainRow, DayRow

DAY = 86_400
CHAIN_DAYS = 30
CHAINS = 20


def budget(
    budgets: Budgets,
    agents: Agents,
    metered: Callable[[AgentName], bool],
    standings: Standings,
    clock: Clock,
) -> dict[type[r.Request], Handler]:
    """What is spent. `metered`: whether the gateway counts what this agent uses."""
    spending = budgets.spending

    async def may_turn(caller: Caller, request: r.MayTurn) -> p.Reply:
        verdict = await budgets.may_turn(caller.name, request.wait_seconds)
        limited = standings.limited_until(caller.name)
        if verdict is None:
            return p.Admission(limited_until=limited)
        return p.Admission(
            refused=verdict.message,
            until=verdict.until,
            question=verdict.question_id,
            limited_until=limited,
        )

    async def charge(caller: Caller, request: r.Charge) -> p.Reply:
        cause, refused = await budgets.charge(
            caller.name,
            Usage(model=request.model, tokens=request.usage),
            cost=request.cost,
            key=request.key,
            turn=request.turn,
            started_at=request.started_at,
            messages=request.messages,
            metered=metered(caller.name),
        )
        if request.limited_until is not None:
            standings.claimed(caller.name, request.limited_until)
        if cause is None:
            return p.Charged(refused=refused)
        return p.Charged(message=cause.message, chain=cause.chain, refused=refused)

    async def look(caller: Caller, request: r.Budget) -> p.Reply:
        del caller
        name = None if request.name is None else _scope(request.name, agents)
        if request.tokens_per_day is not None:
            if request.tokens_per_day == 0:
                raise BadRequest(
                    "a budget of nothing stops every turn", hint="`hyperhive kill NAME` stops an agent"
                )
            await budgets.set_tokens_per_day(name or HIVE, request.tokens_per_day)
        now = clock.time()
        of = None if name == HIVE else name
        days = await spending.days(of, now - (request.days - 1) * DAY) if request.days else []
        chains = await spending.chains(of, now - CHAIN_DAYS * DAY, CHAINS) if request.chains else []
        shown = [name] if name is not None else [HIVE, *sorted({*agents.names(), *spending.spenders()})]
        rows = [_day(row) for row in days]
        return p.BudgetPage(
            spent=[_spent(budgets, scope) for scope in shown],
            days=rows[: fitting(rows)] if rows else rows,
            chains=[_chain(row) for row in chains],
        )

    return {r.MayTurn: may_turn, r.Charge: charge, r.Budget: look}


def with_budgets(
    table: dict[type[r.Request], Handler],
    budgets: Budgets,
    agents: Agents,
    metered: Callable[[AgentName], bool],
    standings: Standings,
    clock: Clock,
) -> dict[type[r.Request], Handler]:
    """The table of a hive that counts what it spends."""
    turns = with_roots(table[r.Turns], budgets.spending)
    return {**table, **budget(budgets, agents, metered, standings, clock), r.Turns: turns}


def with_roots(turns: Handler, spending: Spending) -> Handler:
    """The handler of `turns`, which also says who wrote the first message of each turn's chain."""

    async def handler(caller: Caller, request: r.Turns) -> p.Reply | Answer:
        reply = await turns(caller, request)
        if not isinstance(reply, p.TurnRows):
            return reply
        roots = await spending.roots({row.chain for row in reply.turns if row.chain is not None})
        return p.TurnRows(turns=[_with_root(row, roots) for row in reply.turns])

    return handler


def _with_root(row: TurnRow, roots: Mapping[int, Root]) -> TurnRow:
    root = None if row.chain is None else roots.get(row.chain)
    return row if root is None else msgspec.structs.replace(row, root=root.sender)


def _scope(name: str, agents: Agents) -> str:
    if name == HIVE:
        return HIVE
    if name not in agents.names():
        raise NotFound(
            f"there is no agent named {parse_resident(name)}", hint="`hyperhive list` shows who there is"
        )
    return name


def _spent(budgets: Budgets, scope: str) -> p.Spent:
    spending = budgets.spending
    hour, day = spending.spent(scope, "hour"), spending.spent(scope, "day")
    verdict = spending.over_budget(scope)
    return p.Spent(
        name=scope,
        hour_tokens=hour.tokens,
        hour_cost=hour.nano / NANO,
        day_tokens=day.tokens,
        day_cost=day.nano / NANO,
        limits=tuple(_limit(bound) for bound in spending.bounds(scope)),
        refused=None if verdict is None else verdict.message,
        question=None if verdict is None else budgets.question_of(verdict),
    )


def _limit(bound: Bound) -> p.BudgetLimit:
    unit = NANO if bound.measure == "cost" else 1
    return p.BudgetLimit(
        setting=bound.setting,
        limit=bound.limit / unit,
        spent=bound.spent / unit,
        until=bound.until,
        raises=bound.raises,
    )


def _day(row: DayRow) -> p.DaySpent:
    return p.DaySpent(
        day=row.day, agent=row.agent, tokens=row.tokens, cost=row.cost_nano / NANO, requests=row.requests
    )


def _chain(row: ChainRow) -> p.ChainSpent:
    root = row.root
    return p.ChainSpent(
        chain=row.chain,
        tokens=row.tokens,
        cost=row.cost_nano / NANO,
        requests=row.requests,
        agents=row.agents,
        first_at=row.first_at,
        last_at=row.last_at,
        root_from=None if root is None else root.sender,
        root_to=None if root is None else root.recipient,
        root_text=None if root is None else root.text,
    )
