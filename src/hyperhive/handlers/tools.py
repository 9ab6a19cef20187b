"""Tool calls that ask the operator, and the rules that spare the question."""

from hyperhive.broker import Broker
from hyperhive.handlers.fitting import fitting
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller


def tools(broker: Broker) -> dict[type[r.Request], Handler]:
    """What harnesses ask of their agents' tools, and what the operator may look at and take back."""

    async def ask(caller: Caller, request: r.AskTool) -> p.Reply:
        return await broker.tools.ask(
            caller.name, request.call_id, request.tool, request.input, request.wait_seconds
        )

    async def withdraw(caller: Caller, request: r.WithdrawTools) -> p.Reply:
        return p.Ok(count=await broker.tools.withdraw(caller.name, request.calls))

    async def rules(caller: Caller, request: r.ToolRules) -> p.Reply:
        del caller
        if request.revoke is not None:
            return p.ToolRuleRows(rules=[await broker.tools.revoke(request.revoke)])
        rows = await broker.tools.rules()
        return p.ToolRuleRows(rules=rows[: fitting(rows)])

    return {r.AskTool: ask, r.WithdrawTools: withdraw, r.ToolRules: rules}
