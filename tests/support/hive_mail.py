"""Waiting for mail of a running hive, without sleeping: over its stream."""

from hyperhive.client import RemoteHive
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import InboxRows
from hyperhive.protocol.types import OperatorInboxRow


async def mail_from(operator: RemoteHive, sender: str) -> OperatorInboxRow:
    """The newest message of `sender` to the operator, once there is one."""
    async with operator.events("hive") as frames:
        async for _ in frames:  # the first frame comes at once
            reply = await operator.request(r.Inbox())
            assert isinstance(reply, InboxRows)
            for row in reply.messages:
                if row.sender == sender:
                    return row
    raise AssertionError("the hive went away")
