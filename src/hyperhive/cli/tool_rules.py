"""`tool-rules`: what you allowed once and for all, and taking it back. Rules are made by answering `allow always`."""

import time

import msgspec

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.render import ago, table
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import ToolRuleRows
from hyperhive.protocol.types import ToolRule
from hyperhive.terminal import visible


def tool_rules(*, revoke: int | None = None, common: Common = DEFAULTS) -> int:
    """List the tools that agents may use without asking you again, or take one back.

    Args:
        revoke: the rule's number; the next such call asks you.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.ToolRules(revoke=revoke))

    def render() -> None:
        rules = answer.read(ToolRuleRows).rules
        if revoke is not None:
            [rule] = rules
            session.screen.line(visible(f"{rule.agent} asks again before it uses {rule.tool}"))
        elif rules:
            now = time.time()
            rows = [
                (str(one.id), one.agent, one.tool, _input(one), ago(one.allowed_at, now), str(one.question))
                for one in rules
            ]
            header = ("id", "agent", "tool", "input", "allowed", "question")
            session.screen.lines(table(header, rows, session.screen.columns, right=frozenset({0})))
        else:
            session.screen.line("no rules: every marked tool asks")

    return session.show(answer, render)


def _input(rule: ToolRule) -> str:
    return "any" if rule.input is None else msgspec.json.encode(rule.input).decode()
