"""Sends until the kernel refuses to let files grow, then reads back what was answered. Run by test_disk.py."""

import resource
import signal
import sys

import anyio

from hyperhive.broker import Broker
from hyperhive.errors import StoreFailed


async def main(path: str) -> None:
    answered, refused = [], 0
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    broker = await Broker.open(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    for number in range(400):
        try:
            await broker.send("alice", "bob", f"{number} " + "x" * 4000)
            answered.append(number)
        except StoreFailed:
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await broker.send("alice", "bob", "400 last")
    answered.append(400)
    await broker.store.abandon()
    async with Broker.open(path) as again:
        out = []
        while batch := await again.recv("bob", 32, 0):
            out += [int(message.body.split()[0]) for message in batch]
    assert out == answered, (out, answered)
    print(refused, len(out))


anyio.run(main, sys.argv[1])
