"""Durable inboxes without a hive: `python examples/script.py [FILE]`.

Two workers share a file of inboxes. One message is taken by a worker that fails; it comes back, marked, and is done by
the next attempt. Run it twice with the same FILE: what was acknowledged does not come again.
"""

import sys
import tempfile
from pathlib import Path

import anyio

from hyperhive import Broker


async def play(path: Path) -> None:
    """The whole story, on the inboxes in `path`."""
    async with Broker.open(path) as broker:
        first = await broker.send("alice", "bob", "count the tests", dedupe_key="task-1")
        again = await broker.send("alice", "bob", "count the tests", dedupe_key="task-1")
        print(f"sent {first.id}; sent again under the same key: duplicate={again.duplicate}")

        [message] = await broker.recv("bob", wait_seconds=1.0)
        print(f"bob got {message.id} from {message.sender}: {message.body}")

        await broker.requeue_inflight("bob")  # what a harness does after a turn that failed
        [message] = await broker.recv("bob", wait_seconds=1.0)
        print(f"bob got {message.id} again: redelivered={message.redelivered}")

        await broker.send("bob", "alice", "there are 42")
        done = await broker.ack_turn("bob")
        print(f"bob's turn ended well: {done} acknowledged, {await broker.pending('bob')} pending")

        for row in await broker.recent("alice", limit=30):
            print(f"alice's inbox: {row.sender}: {row.body}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        anyio.run(play, Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as directory:
            anyio.run(play, Path(directory) / "mail.sqlite")
