"""The story that the hive is for, told by the stand-in API: operator → manager → agent → manager → operator.

One `Task` is one story. Each leg is a turn of a real CLI that calls `mcp__hyperhive__send`; which rule answers follows
from the text that woke the agent, so a turn that runs again says the same again. `Told` reads from the stand-in's log
what the models were shown.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hyperhive.harness.wake import REDELIVERED
from hyperhive.testing.fake_anthropic import tool_turn

Json = dict[str, Any]

SECTION = re.compile(
    r"\[message (\d+) from (\S+), boundary (\w+)\]\n(.*?)\n\[end of message \1, boundary \3\]", re.DOTALL
)
FIRST_CALL = {
    "input_tokens": 11,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 70,
    "output_tokens": 5,
}
SECOND_CALL = {
    "input_tokens": 13,
    "cache_read_input_tokens": 2000,
    "cache_creation_input_tokens": 90,
    "output_tokens": 7,
}
"""What the stand-in says that the two calls of one turn used."""


@dataclass(frozen=True)
class Task:
    """One story, and the four messages that it must come to."""

    number: int
    agent: str = "alice"

    @property
    def order(self) -> str:
        return f"find out about thing {self.number}."

    @property
    def ways(self) -> list[tuple[str, str, str]]:
        """Sender, recipient and body of each message, in order."""
        return [
            ("operator", "manager", self.order),
            ("manager", self.agent, f"please look at thing {self.number}."),
            (self.agent, "manager", f"thing {self.number} is blue."),
            ("manager", "operator", f"report: thing {self.number} is blue."),
        ]

    @property
    def report(self) -> str:
        return self.ways[-1][2]

    def rules(self, **step: object) -> list[Json]:
        """What the models answer to the first three; `step` goes into every step of theirs."""
        found = []
        for (_, _, heard), (_, to, said) in zip(self.ways, self.ways[1:], strict=False):
            rule = tool_turn(rf"\n{re.escape(heard)}\n", send(to, said), end="sent")
            for one, usage in zip(rule["steps"], (FIRST_CALL, SECOND_CALL), strict=True):
                one |= {"usage": usage, **step}
            found.append({**rule, "tools": True})
        return found


def send(to: str, body: str, **more: object) -> tuple[str, Json]:
    """The tool call that writes to somebody."""
    return "mcp__hyperhive__send", {"to": to, "body": body, **more}


def bash(command: str) -> tuple[str, Json]:
    """The tool call that runs a command."""
    return "Bash", {"command": command, "description": "what the test asks for"}


def scenario(tasks: Iterable[Task], *more: Json, **step: object) -> Json:
    """All these stories, after `more` rules."""
    return {"rules": [*more, *(rule for task in tasks for rule in task.rules(**step))]}


@dataclass(frozen=True)
class Shown:
    """One message as a prompt showed it to a model."""

    id: int
    sender: str
    body: str
    marked: bool


def shown(requests: Sequence[Json]) -> list[Shown]:
    """Every message but the system's that a model was woken by. A turn's later calls repeat its text: counted once."""
    return [
        Shown(int(number), sender, text.removeprefix(f"{REDELIVERED}\n"), text.startswith(REDELIVERED))
        for request in requests
        if request["round"] == 0 and request["body"].get("tools")
        for number, sender, _, text in SECTION.findall(request["text"])
        if sender != "system"
    ]


def once(bodies: Iterable[tuple[str, str, str]], wanted: Iterable[tuple[str, str, str]]) -> None:
    """Asserts that each wanted message is there exactly once."""
    there = list(bodies)
    for way in wanted:
        assert there.count(way) == 1, f"{way} is there {there.count(way)} times"
