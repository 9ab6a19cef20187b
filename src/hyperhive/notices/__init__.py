"""Notices: telling the operator, away from the screens, that something waits for a human.

    what waits     matters.py       who is told   channels.py
    what was told  outbox.py        when          notifier.py, quiet.py

What waits is handed in by the hive; nothing here asks questions, reads mail or decides anything.
"""

from hyperhive.notices.channels import Channel, Failed, Notice, Unknown, channel_of
from hyperhive.notices.matters import Matter
from hyperhive.notices.notifier import Notifier
from hyperhive.notices.outbox import MIGRATIONS, NoticeRow

__all__ = [
    "MIGRATIONS",
    "Channel",
    "Failed",
    "Matter",
    "Notice",
    "NoticeRow",
    "Notifier",
    "Unknown",
    "channel_of",
]
