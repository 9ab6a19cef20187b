"""Reminders in one process, for test_reminders_kill.py to kill: it sets them until it is killed, and notes each answer.

Every third goes to a file, every fourth is cancelled; all are due within the life of the process or the next.
"""

import os
import sys
from itertools import count
from pathlib import Path

import anyio
import msgspec

from hyperhive.agent_files import AgentFiles
from hyperhive.broker import MIGRATIONS, Broker
from hyperhive.errors import NotFound
from hyperhive.paths import Paths
from hyperhive.store import Store


def say(*words: object) -> None:
    os.write(1, msgspec.json.encode(words) + b"\n")


async def main(state: Path, first: int) -> None:
    paths = Paths.of(state)
    async with Store.open(paths.database, migrations=[MIGRATIONS]) as store:
        broker = Broker(store=store, files=AgentFiles(paths, isolated=True))
        await broker.start()
        say("open")
        for number in count(first):
            text = f"text {number}"
            path = f"notes/{number}.md" if number % 3 == 0 else None
            say("set", text)
            one = await broker.reminders.set("bob", text, delay_seconds=number % 2, file_path=path)
            say("was set", one, text)
            if number % 4 == 1:
                say("cancel", text)
                try:
                    await broker.reminders.cancel(one, by="bob")
                except NotFound:  # it was delivered already
                    continue
                say("cancelled", text)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
