"""The request table: which part answers what, and how its answer becomes a reply.

Each handler is a few lines: take the request apart, call one part, wrap what it gave. They decide nothing (policy does,
before them), keep nothing but `Strays`, and never learn a role. What this version does not serve has no row here. One
file a part.
"""

from collections.abc import Mapping

from hyperhive.broker import Broker
from hyperhive.handlers.itself import itself
from hyperhive.handlers.lives import lives
from hyperhive.handlers.mail import Strays, harness, mail, operators_mail
from hyperhive.handlers.patience import patient
from hyperhive.handlers.ports import Agents, Desk, Harnesses
from hyperhive.handlers.questions import questions
from hyperhive.handlers.reminders import reminders
from hyperhive.handlers.tools import tools
from hyperhive.handlers.turns import turns
from hyperhive.handlers.updates import updates
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler

__all__ = ["Agents", "Desk", "Harnesses", "request_table"]


def request_table(
    broker: Broker, agents: Agents, harnesses: Harnesses, desk: Desk, *more: Mapping[type[r.Request], Handler]
) -> dict[type[r.Request], Handler]:
    """A handler for every request that this hive serves. `more`: rows of further parts."""
    strays = Strays()
    table = {
        **mail(broker, desk, strays),
        **harness(broker, desk, strays),
        **operators_mail(broker),
        **questions(broker),
        **reminders(broker),
        **tools(broker),
        **lives(agents, harnesses),
        **updates(agents),
        **turns(harnesses),
        **itself(desk),
    }
    for rows in more:
        table |= rows
    for request in (r.Send, r.Ask, r.Answer, r.Remind):
        table[request] = patient(table[request], broker.gate)
    return table
