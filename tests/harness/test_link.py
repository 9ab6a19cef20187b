"""The living process: lines, control requests, and tool calls side by side."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import repeat
from typing import Any

import anyio
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.harness.drivers.link import CALLS_MAX, OUTBOX_MAX, CliLink
from hyperhive.harness.drivers.reading import BYTES_A_SECOND, CHUNK, LINE_COST, LINES_AT_ONCE, LineReader
from hyperhive.harness.stream_json import Frame
from hyperhive.testing.clock import FakeClock
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


@pytest.mark.parametrize(
    "forged",
    [
        {"tool_name": "", "input": {}},
        {"tool_name": "Bash"},
        {"tool_name": "Bash", "input": "echo"},
        {"tool_name": "Bash", "input": {}, "permission_suggestions": [{"behavior": "allow"}]},
    ],
)
async def test_a_forged_request_for_permission_is_denied_without_harm(
    scripted: Benches, forged: dict[str, Any]
) -> None:
    """Whatever a box's CLI prints; the rules that mark tools stand on the hive's side."""
    told = await answer(scripted, {"subtype": "can_use_tool", **forged})
    assert told["response"]["behavior"] == "deny"


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


# --- a CLI that prints or reads without measure ---------------------------------------------------------------------


class Printed(ByteReceiveStream):
    """An output that has these chunks ready at once, and nothing after them."""

    def __init__(self, chunks: Iterable[bytes] = ()) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self.ended = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self.ended:
            raise anyio.EndOfStream
        for chunk in self._chunks:
            assert len(chunk) <= max_bytes
            return chunk
        await anyio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        """Nothing to close."""


class Unread(ByteSendStream):
    """An input that nobody reads."""

    async def send(self, item: bytes) -> None:
        del item
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        """Nothing to close."""


class Printing:
    """A child process that has printed this much already and reads nothing."""

    pid = 1
    returncode: int | None = None

    def __init__(self, stdout: Printed, stderr: Printed) -> None:
        self.stdin: ByteSendStream = Unread()
        self.stdout: ByteReceiveStream = stdout
        self.stderr: ByteReceiveStream = stderr
        self._outputs = (stdout, stderr)

    def terminate(self) -> None:
        """It has nothing to end."""

    async def kill(self) -> None:
        for output in self._outputs:
            output.ended = True

    async def wait(self) -> int:
        await anyio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        """It has nothing to close."""


class Heard:
    """A listener that counts."""

    def __init__(self) -> None:
        self.lines = 0
        self.bytes = 0
        self.closed = 0

    def on_frame(self, line: bytes, frame: Frame) -> None:
        del frame
        self.lines += 1
        self.bytes += len(line)

    def on_noise(self, line: bytes, size: int) -> None:
        del line
        self.lines += 1
        self.bytes += size

    def on_stderr(self, text: str) -> None:
        self.lines += 1
        self.bytes += len(text)

    def on_answer(self, what: str) -> None:
        del what

    def on_output_closed(self) -> None:
        self.closed += 1


@asynccontextmanager
async def printing(chunks: Iterable[bytes], where: str) -> AsyncIterator[tuple[CliLink, Heard, FakeClock]]:
    heard, clock = Heard(), FakeClock()
    outputs = {"stdout": Printed(), "stderr": Printed()} | {where: Printed(chunks)}
    link = CliLink(Printing(**outputs), await LocalTools({}).open_session(), heard, clock)
    async with anyio.create_task_group() as group:
        group.start_soon(link.serve)
        yield link, heard, clock
        group.cancel_scope.cancel()


@pytest.mark.parametrize("where", ["stdout", "stderr"])
async def test_others_get_their_turn_while_a_chunk_of_tiny_lines_is_handled(where: str) -> None:
    lines = 20_000
    async with printing([b"y\n" * lines], where) as (_, heard, _):
        rounds = most = before = 0
        with anyio.fail_after(20):
            while heard.lines < lines:
                await checkpoint()
                rounds += 1
                most, before = max(most, heard.lines - before), heard.lines
    assert most <= LINES_AT_ONCE
    assert rounds >= lines / LINES_AT_ONCE


@pytest.mark.parametrize("where", ["stdout", "stderr"])
@pytest.mark.parametrize("line", [b"y\n", b"y" * (CHUNK // 8 - 1) + b"\n"], ids=["tiny", "long"])
async def test_no_more_than_its_share_is_read_in_a_second(where: str, line: bytes) -> None:
    chunk = line * (4096 // len(line) or 1)
    async with printing(repeat(chunk), where) as (_, heard, clock):
        for seconds in (1, 2, 3):
            with anyio.fail_after(20):
                await clock.until_sleepers()
            cost = heard.bytes + heard.lines * LINE_COST
            assert (seconds - 1) * BYTES_A_SECOND < cost * 1.01, "it is read on"
            assert cost <= seconds * (BYTES_A_SECOND + len(chunk) + LINES_AT_ONCE * LINE_COST)
            await clock.advance(1.1)


async def test_a_cli_that_reads_nothing_is_as_good_as_gone_before_its_queue_grows_without_end() -> None:
    async with printing([], "stdout") as (link, heard, _):
        queued = 0
        while not heard.closed and queued < 2 * OUTBOX_MAX:
            link.send_prompt("u", "x" * 2**20)
            queued += 2**20
            await checkpoint()
    assert heard.closed
    assert queued <= OUTBOX_MAX + 2**20
