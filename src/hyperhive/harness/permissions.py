"""Tool calls that ask: which ones do, and one agent's calls that wait for the operator.

The CLI asks before it runs a tool that the config marks `ask`; each such request becomes a question of the core's, of
which the verdict is waited for, also through a restart of the core. A call that nobody waits for any more (the turn was
interrupted, the CLI died, this is the harness's next life) is withdrawn, so that an answer never comes too late for
something else. Nothing here ever allows: it passes on what the core said.
"""

import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import anyio
import msgspec
from anyio.abc import TaskGroup

from hyperhive.errors import HiveError
from hyperhive.harness.core import Core
from hyperhive.protocol.replies import ToolVerdict
from hyperhive.protocol.requests import AskTool, WithdrawTools
from hyperhive.protocol.types import RECV_WAIT_MAX_SECONDS, REQUEST_LINE_MAX_BYTES

log = logging.getLogger(__name__)

LAST_WITHDRAWAL_SECONDS: Final = 2.0
LINE_ROOM: Final = 4096
"""What a request's own fields may take of its line, beside the tool's input."""
NOT_MARKED: Final = "Not allowed here, and nobody is there to be asked."


class Verdict(NamedTuple):
    """Whether a call may run; `message` is for the model where it may not."""

    allowed: bool
    message: str


def rule_name(rule: str) -> str:
    """The tool of a rule such as `Bash(git push:*)`."""
    return rule.partition("(")[0]


def is_marked(rules: Iterable[str], tool: str) -> bool:
    """Whether one of these rules is about this tool, whatever it says of the input: that, the CLI has matched."""
    return any(_covers(rule_name(rule), tool) for rule in rules)


def _covers(name: str, tool: str) -> bool:
    # A server's name alone means all of its tools.
    return fnmatchcase(tool, name) or (name.startswith("mcp__") and tool.startswith(f"{name}__"))


class Permissions:
    """The tool calls of one agent that ask.

    Args:
        core: asked as this agent's harness.
        on_waiting: called with whether some call waits for the operator, when that changes.
        go_on: awaited before the verdict of a call that has waited is given: there may be no room for it now.
        note: tells people.
        new_id: gives names for calls that never repeat.
    """

    def __init__(
        self,
        core: Core,
        on_waiting: Callable[[bool], object],
        go_on: Callable[[], Awaitable[None]],
        note: Callable[[str], object],
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._core = core
        self._on_waiting = on_waiting
        self._go_on = go_on
        self._note = note
        self._new_id = new_id
        self._waiting = 0
        self._tasks: TaskGroup | None = None
        self._withdrawing: set[anyio.CancelScope] = set()
        self._left: set[str] = set()
        self._cleared = anyio.Event()

    def start(self, tasks: TaskGroup) -> None:
        """Withdraws what an earlier life of this harness asked; before that is done, nothing is asked anew."""
        self._tasks = tasks
        tasks.start_soon(self._withdraw, None)

    def stop(self) -> None:
        """Holds no task for longer than a moment any more. What is given up from now on waits for `finish`."""
        self._tasks = None
        for scope in self._withdrawing:
            scope.deadline = anyio.current_time() + LAST_WITHDRAWAL_SECONDS

    async def finish(self) -> None:
        """Withdraws what is left, as far as the core answers soon; the harness's next life does the rest."""
        calls, self._left = sorted(self._left), set()
        if calls:
            with anyio.move_on_after(LAST_WITHDRAWAL_SECONDS):
                await self._withdraw(calls)

    async def may(self, rules: Sequence[str], tool: str, tool_input: dict[str, Any], size: int) -> Verdict:
        """Whether this call may run; waits for the operator, for as long as it takes.

        Cancelling withdraws the question. `size`: of the input in bytes.
        """
        if not is_marked(rules, tool):
            return Verdict(allowed=False, message=NOT_MARKED)
        if size > REQUEST_LINE_MAX_BYTES - LINE_ROOM:
            limit = REQUEST_LINE_MAX_BYTES - LINE_ROOM
            return Verdict(
                allowed=False,
                message=f"Not allowed: its input of {size} bytes is too large to ask for; the limit is {limit}.",
            )
        await self._cleared.wait()
        call = AskTool(call_id=self._new_id(), tool=tool, input=tool_input)
        try:
            verdict = await self._ask(call)
            if verdict.verdict == "waiting":
                verdict = await self._wait(call, verdict)
        except anyio.get_cancelled_exc_class():
            self._give_up(call.call_id)
            raise
        except HiveError as error:
            return Verdict(allowed=False, message=f"Not allowed: the operator could not be asked: {error}")
        return Verdict(allowed=verdict.verdict == "allow", message=verdict.message or "")

    async def _wait(self, call: AskTool, verdict: ToolVerdict) -> ToolVerdict:
        self._note(f"{call.tool} waits for the operator: question {verdict.id}")
        self._count(1)
        try:
            while verdict.verdict == "waiting":
                verdict = await self._ask(call, RECV_WAIT_MAX_SECONDS)
        finally:
            self._count(-1)
        self._note(f"{call.tool}: {verdict.message}")
        await self._go_on()
        return verdict

    async def _ask(self, call: AskTool, wait_seconds: float = 0) -> ToolVerdict:
        asked = msgspec.structs.replace(call, wait_seconds=wait_seconds)
        reply = await self._core.ask(asked)
        if not isinstance(reply, ToolVerdict):
            return ToolVerdict(verdict="deny", message="Not allowed: the core gave no verdict.")
        return reply

    def _give_up(self, call_id: str) -> None:
        if self._tasks is None:
            self._left.add(call_id)
        else:
            self._tasks.start_soon(self._withdraw, [call_id])

    async def _withdraw(self, calls: list[str] | None) -> None:
        """Tells the core, for as long as that takes."""
        with anyio.CancelScope() as scope:
            self._withdrawing.add(scope)
            try:
                await self._core.ask(WithdrawTools(calls=calls))
            except HiveError as error:
                log.warning("tool_calls_not_withdrawn calls=%s error=%s", calls, error)
            finally:
                self._withdrawing.discard(scope)
                self._cleared.set()

    def _count(self, step: int) -> None:
        before, self._waiting = self._waiting, self._waiting + step
        if bool(before) != bool(self._waiting):
            self._on_waiting(bool(self._waiting))
