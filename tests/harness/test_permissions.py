"""Calls that ask: which they are, how long they wait, and that none is forgotten by anybody."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from hyperhive.config import Tools
from hyperhive.errors import Closed
from hyperhive.harness.drivers.authority import caution
from hyperhive.harness.permissions import NOT_MARKED, Permissions, Verdict, is_marked
from hyperhive.protocol.replies import Ok, Reply, ToolVerdict
from hyperhive.protocol.requests import AskTool, Request, WithdrawTools
from hyperhive.protocol.types import REQUEST_LINE_MAX_BYTES


@pytest.mark.parametrize(
    ("rule", "tool", "marked"),
    [
        ("WebFetch", "WebFetch", True),
        ("WebFetch", "WebSearch", False),
        ("Bash(git push:*)", "Bash", True),
        ("mcp__tracker__*", "mcp__tracker__drop", True),
        ("mcp__tracker", "mcp__tracker__drop", True),
        ("mcp__tracker", "mcp__trackers__drop", False),
        ("mcp__tracker__drop", "mcp__tracker__list", False),
    ],
)
def test_a_rule_marks_its_tool_whatever_it_says_of_the_input(rule: str, tool: str, marked: bool) -> None:
    assert is_marked(("Read", rule), tool) == marked


@pytest.mark.parametrize(
    ("tools", "isolated", "said"),
    [
        (Tools(ask=("WebFetch",)), True, True),
        (Tools(ask=("Bash(git push:*)",)), True, True),
        (Tools(ask=("WebFetch",)), False, False),
        (Tools(ask=("WebFetch",), allow=("Bash(git *)",)), False, True),
        (Tools(ask=("Bash",)), True, False),
        (Tools(ask=("WebFetch",), deny=("Bash",)), True, False),
        (Tools(), True, False),
    ],
)
def test_that_it_only_steers_is_said_where_bash_runs_unasked(
    tools: Tools, isolated: bool, said: bool
) -> None:
    assert (caution(tools, isolated=isolated) is not None) == said


async def never() -> ToolVerdict:
    """No answer."""
    await anyio.sleep_forever()
    raise AssertionError


class FakeCore:
    """A core whose verdicts a test makes: `answer` is awaited for every request that may wait."""

    def __init__(self, answer: Callable[[], Awaitable[ToolVerdict]]) -> None:
        self.asked: list[AskTool] = []
        self.withdrawn: list[list[str] | None] = []
        self.answer = answer
        self.reached = anyio.Event()
        self.reached.set()

    async def ask(self, request: Request) -> Reply:
        await self.reached.wait()
        if isinstance(request, WithdrawTools):
            self.withdrawn.append(request.calls)
            return Ok(count=0)
        assert isinstance(request, AskTool)
        self.asked.append(request)
        if not request.wait_seconds:
            return ToolVerdict(verdict="waiting", id=7)
        return await self.answer()


class Around:
    """What `Permissions` tells those around it."""

    def __init__(self) -> None:
        self.waits: list[bool] = []
        self.notes: list[str] = []
        self.went_on = 0

    def permissions(self, core: FakeCore) -> Permissions:
        return Permissions(core, self.waits.append, self.go_on, self.notes.append)

    async def go_on(self) -> None:
        self.went_on += 1


async def may(permissions: Permissions, tool: str = "WebFetch", **fields: Any) -> Verdict:
    return await permissions.may(("WebFetch",), tool, {"url": "u"}, fields.get("size", 10))


async def test_the_verdict_is_waited_for_as_long_as_it_takes_under_one_name() -> None:
    verdicts = [
        ToolVerdict(verdict="waiting", id=7),
        ToolVerdict(verdict="waiting", id=7),
        ToolVerdict(verdict="allow", id=7, message="the operator said allow once"),
    ]

    async def answer() -> ToolVerdict:
        return verdicts.pop(0)

    core, around = FakeCore(answer), Around()
    permissions = around.permissions(core)
    async with anyio.create_task_group() as tasks:
        permissions.start(tasks)
        assert (await may(permissions)).allowed
        assert len({one.call_id for one in core.asked}) == 1
        assert len(core.asked) == 4
        assert (around.waits, around.went_on) == ([True, False], 1)
        assert around.notes == [
            "WebFetch waits for the operator: question 7",
            "WebFetch: the operator said allow once",
        ]
        verdicts.append(ToolVerdict(verdict="deny", message="no"))
        assert await may(permissions) == Verdict(allowed=False, message="no")
        assert len({one.call_id for one in core.asked}) == 2, "every call has a name of its own"
        permissions.stop()


async def test_nothing_is_asked_before_the_last_life_s_questions_are_withdrawn() -> None:
    core, around = FakeCore(never), Around()
    core.reached = anyio.Event()
    permissions = around.permissions(core)
    async with anyio.create_task_group() as tasks:
        permissions.start(tasks)
        tasks.start_soon(may, permissions)
        await anyio.wait_all_tasks_blocked()
        assert core.asked == []
        core.reached.set()
        await anyio.wait_all_tasks_blocked()
        assert core.withdrawn == [None]
        assert len({one.call_id for one in core.asked}) == 1
        tasks.cancel_scope.cancel()


async def test_a_call_that_is_given_up_is_withdrawn_also_when_the_harness_is_ending() -> None:
    core, around = FakeCore(never), Around()
    permissions = around.permissions(core)
    async with anyio.create_task_group() as tasks:
        permissions.start(tasks)
        for stopped in (False, True):
            if stopped:
                permissions.stop()
            async with anyio.create_task_group() as calls:
                calls.start_soon(may, permissions)
                await anyio.wait_all_tasks_blocked()
                calls.cancel_scope.cancel()
            await permissions.finish()
            await anyio.wait_all_tasks_blocked()
            assert core.withdrawn[-1] == [core.asked[-1].call_id]
    assert around.waits == [True, False, True, False]


async def test_what_cannot_be_asked_is_denied() -> None:
    """Unmarked, too large for a line, or the core refuses: never allowed for want of an answer."""

    async def refuse() -> ToolVerdict:
        raise Closed("the core is gone")

    core, around = FakeCore(refuse), Around()
    permissions = around.permissions(core)
    async with anyio.create_task_group() as tasks:
        permissions.start(tasks)
        assert await may(permissions, "Bash") == Verdict(allowed=False, message=NOT_MARKED)
        large = await may(permissions, size=REQUEST_LINE_MAX_BYTES)
        assert (large.allowed, "too large" in large.message) == (False, True)
        assert core.asked == []
        refused = await may(permissions)
        assert (refused.allowed, "the core is gone" in refused.message) == (False, True)
        assert around.waits == [True, False]
        permissions.stop()


async def test_a_core_that_does_not_answer_holds_no_harness_at_its_end() -> None:
    core, around = FakeCore(never), Around()
    core.reached = anyio.Event()
    permissions = around.permissions(core)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            permissions.start(tasks)
            await anyio.wait_all_tasks_blocked()
            permissions.stop()
