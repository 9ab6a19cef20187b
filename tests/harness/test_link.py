"""The living process: lines, control requests, and tool calls side by side."""

import json
from typing import Any

import anyio
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.harness.drivers.link import CALLS_MAX, LineReader
from hyperhive.testing.tools import LocalTools
from hyperhive.testing.turns import TurnBench, message
from turn_tools import Benches, frames


@given(st.lists(st.binary(max_size=40)), st.integers(1, 60))
def test_lines_come_out_as_they_went_in_however_they_are_cut(lines: list[bytes], width: int) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    data = b"".join(line + b"\n" for line in lines)
    reader = LineReader(limit=100)
    found = [line for at in range(0, len(data), width) for line in reader.feed(data[at : at + width])]
    assert found == lines
    assert (reader.rest, reader.dropped) == (b"", 0)


@given(st.integers(11, 60), st.integers(1, 20))
def test_a_line_over_the_limit_is_dropped_and_counted_and_the_next_is_whole(size: int, width: int) -> None:
    data = b"x" * size + b"\nshort\n"
    reader = LineReader(limit=10)
    found = [line for at in range(0, len(data), width) for line in reader.feed(data[at : at + width])]
    if width <= 10:
        assert found == [b"short"]
        assert reader.dropped == size
    assert found[-1] == b"short"


def test_the_rest_is_what_has_no_newline_yet() -> None:
    reader = LineReader(limit=100)
    assert reader.feed(b"a\nb") == [b"a"]
    assert reader.rest == b"b"


def said(bench: TurnBench) -> str:
    """The last words of the turn."""
    return str([frame for frame in frames(bench) if frame["type"] == "result"][-1]["result"])


async def answer(scripted: Benches, request: dict[str, Any]) -> dict[str, Any]:
    bench = scripted.bench()
    runner = await scripted.runner(bench)
    assert (await runner.run([message(1, f"[[control {json.dumps(request)}]]")])).ok
    decoded: dict[str, Any] = json.loads(said(bench))
    return decoded


async def test_what_would_ask_for_permission_is_denied_with_a_reason(scripted: Benches) -> None:
    told = await answer(scripted, {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}})
    assert told["response"]["behavior"] == "deny"
    assert told["response"]["message"]


async def test_a_request_that_nobody_serves_is_answered_with_an_error(scripted: Benches) -> None:
    told = await answer(scripted, {"subtype": "elicitation", "message": "password?"})
    assert told["subtype"] == "error"
    assert "elicitation" in told["error"]


async def test_a_notification_to_the_tools_is_answered_too(scripted: Benches) -> None:
    request = {
        "subtype": "mcp_message",
        "message": {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
    }
    assert (await answer(scripted, request))["subtype"] == "success"


async def test_calls_run_side_by_side(scripted: Benches) -> None:
    waiting = 0
    together = anyio.Event()

    async def wait_for_the_others(_: object) -> str:
        nonlocal waiting
        waiting += 1
        if waiting == 10:
            together.set()
        await together.wait()
        return "all there"

    bench = scripted.bench(tools=LocalTools({"whoami": wait_for_the_others}))
    runner = await scripted.runner(bench)
    with anyio.fail_after(20):
        assert (await runner.run([message(1, "[[many-calls 10]]")])).ok
    assert said(bench) == "10 of 10 answered"


async def test_too_many_calls_at_once_are_refused_and_the_others_served(scripted: Benches) -> None:
    bench = scripted.bench()
    runner = await scripted.runner(bench)
    assert (await runner.run([message(1, "[[many-calls 300]]")])).ok
    served = int(said(bench).split()[0])
    assert CALLS_MAX <= served <= 300


async def test_a_session_of_tools_ends_with_its_process(scripted: Benches) -> None:
    tools = LocalTools({})
    runner = await scripted.runner(scripted.bench(tools=tools))
    assert (await runner.run([message(1, "[[say hi]]")])).ok
    assert tools.open == 1
    await runner.retire()
    assert tools.open == 0
