"""A hive of mail in one process, for test_kill.py to kill: it works until it is killed, and notes what it was told.

Senders send, receivers take, ack or requeue. Before an operation a line says that it begins, after the answer a line
says so; both go straight to a pipe, so the parent knows exactly what was answered when the process died.
"""

import os
import random
import sys

import anyio
import msgspec

from hyperhive.broker import Broker

RECEIVERS = ("bob", "carol")


def say(*words: object) -> None:
    os.write(1, msgspec.json.encode(words) + b"\n")


async def sender(broker: Broker, name: str, first: int) -> None:
    number = first
    while True:
        body = f"{name} {number}"
        recipient = RECEIVERS[number % 2]
        say("send", body)
        receipt = await broker.send(name, recipient, body)
        say("sent", name, recipient, body, receipt.id)
        number += 1


async def receiver(broker: Broker, name: str, chance: random.Random) -> None:
    while True:
        batch = await broker.recv(name, chance.randint(1, 8), 5)
        say(
            "got",
            name,
            [[message.id, message.sender, message.body, message.redelivered] for message in batch],
        )
        bodies = [message.body for message in batch]
        if chance.random() < 0.2:
            await broker.requeue_inflight(name)
            say("requeued", name, bodies)
            continue
        ids = [message.id for message in batch]
        say("ack", bodies)
        await broker.ack_turn(name, ids if chance.random() < 0.5 else None)
        say("acked", name, bodies)


async def main(path: str, first: int, seed: int) -> None:
    chance = random.Random(seed)
    async with Broker.open(path) as broker:
        for name in RECEIVERS:
            await broker.requeue_inflight(name)
        say("open")
        async with anyio.create_task_group() as group:
            for name in ("alice", "dave", "erin"):
                group.start_soon(sender, broker, name, first)
            for name in RECEIVERS:
                group.start_soon(receiver, broker, name, chance)


anyio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
