"""The stream's row: lines of the agent CLI through parse, event, history on disk, and fan-out to ten readers."""

import time
from pathlib import Path

import anyio
import msgspec
from tests.bench.table import Goal, Group, Sample

from hyperhive.clock import SYSTEM_CLOCK
from hyperhive.eventlog import EventLogs
from hyperhive.harness.display import Display
from hyperhive.harness.stream_json import parse_frame
from hyperhive.protocol.events import Stream
from hyperhive.protocol.live import clean_line

LINES, READERS, CHUNK = 30_000, 10, 64
GOAL = 50_000

LINE = msgspec.json.encode(
    {
        "type": "assistant",
        "message": {
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": "haiku",
            "content": [
                {
                    "type": "text",
                    "text": "The parser reads one line at a time and keeps what it does not know. " * 8,
                },
                {"type": "tool_use", "id": "toolu_01", "name": "Bash", "input": {"command": "ls -la " * 60}},
            ],
            "stop_reason": None,
            "usage": {
                "input_tokens": 4,
                "cache_creation_input_tokens": 1200,
                "cache_read_input_tokens": 15_000,
                "output_tokens": 83,
            },
        },
        "parent_tool_use_id": None,
        "session_id": "5e55a0f0-0000-4000-8000-000000000000",
        "uuid": "a77e3970-0000-4000-8000-000000000000",
    }
)


async def _stream(path: Path) -> Sample:
    logs = EventLogs()
    display = Display(path / "events.sqlite", logs, SYSTEM_CLOCK, buffer=256, model="haiku")
    await display.open()
    seen = 0

    async def reader() -> None:
        nonlocal seen
        async for _ in display.bus.subscribe():
            seen += 1

    begin = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(READERS):
            group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        for _ in range(LINES // CHUNK):
            for _ in range(CHUNK):  # a read from a pipe brings many lines at once
                parse_frame(LINE)
                display.emit(Stream(line=clean_line(LINE)))
            await anyio.lowlevel.checkpoint()
        await display.close()
    took = time.perf_counter() - begin
    await logs.aclose()
    if display.bus.statistics().lost:
        raise RuntimeError("a reader that kept up lost frames")
    return Sample(LINES // CHUNK * CHUNK / took, LINES // CHUNK * CHUNK)


def groups() -> list[Group]:
    """The stream's group."""
    us = "hyperhive"
    return [
        Group(
            f"stream-json, {len(LINE)} bytes a line: parse, event, history, {READERS} readers",
            " lines/s",
            {us: lambda path: anyio.run(_stream, path), "the goal": lambda _: Sample(GOAL)},
            [Goal(us, "the goal", 1)],
            count_flushes=False,
        )
    ]
