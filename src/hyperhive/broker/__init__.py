"""Durable inboxes: `Broker`. Questions, reminders and limits join it later."""

from hyperhive.broker.broker import Broker as Broker
from hyperhive.broker.handout import Lease as Lease
from hyperhive.broker.limits import Limits as Limits
from hyperhive.broker.listings import InboxCounts as InboxCounts
from hyperhive.broker.questions import Errand as Errand
from hyperhive.broker.questions import QuestionRow as QuestionRow
from hyperhive.broker.questions import Questions as Questions
from hyperhive.broker.questions import raise_in as raise_in
from hyperhive.broker.schema import MIGRATIONS as MIGRATIONS

__all__ = [
    "MIGRATIONS",
    "Broker",
    "Errand",
    "InboxCounts",
    "Lease",
    "Limits",
    "QuestionRow",
    "Questions",
    "raise_in",
]
