"""The server's half of the SSE rows, a process of its own: `python -m tests.bench.sse_server hub|bare`.

Prints its port; publishes once so many readers are there as its standard input says; prints the seconds of processor
time that took. `bare` is the floor: uvicorn, and a loop that writes frames which were encoded before.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import anyio
import anyio.to_thread
import uvicorn

from hyperhive.web.streaming import HubLimits
from stream_world import Core, served

EVENTS, PER_SECOND = 500, 100
PADDING = "x" * 120

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def publish(one: Callable[[int, str], None]) -> float:
    """Events at their pace, each with the time at which it came; gives the processor time."""
    begun, used = time.monotonic(), time.process_time()
    for number in range(EVENTS):
        await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
        one(number, f"{time.monotonic_ns()} {PADDING}")
    await asyncio.sleep(0.5)
    return time.process_time() - used


async def wait_for_readers(count: Callable[[], int]) -> None:
    wanted = int(await anyio.to_thread.run_sync(sys.stdin.readline))
    while count() < wanted:  # noqa: ASYNC110 (before anything is timed)
        await asyncio.sleep(0.01)


async def hub_server() -> None:
    core = Core("hive")
    hub = core.hub(limits=HubLimits(of_one=512))
    async with served(hub) as port:
        print(json.dumps({"port": port}), flush=True)
        await wait_for_readers(lambda: hub.statistics()["connected"])
        used = await publish(lambda number, note: core.publish("hive", number, note))
        print(json.dumps({"cpu": used}), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)


class Bare:
    """Every reader has a queue of encoded frames; a task each writes them."""

    def __init__(self) -> None:
        self.queues: list[asyncio.Queue[bytes]] = []

    async def __call__(self, scope: dict[str, Any], receive: object, send: Send) -> None:
        del scope, receive
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.queues.append(queue)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"id: e:0\ndata: {}\n\n", "more_body": True})
        while True:
            await send({"type": "http.response.body", "body": await queue.get(), "more_body": True})

    def put(self, number: int, note: str) -> None:
        frame = (
            b'id: e:%d\ndata: {"kind":"message_state","seq":%d,"id":%d,"state":"acked","note":"%b","stream":"hive"}\n\n'
            % (number, number, number, note.encode())
        )
        for queue in self.queues:
            queue.put_nowait(frame)


async def bare_server() -> None:
    app = Bare()
    config = uvicorn.Config(
        app,
        port=0,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="off",
        loop="none",
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.get_running_loop().create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (before anything is timed)
        await asyncio.sleep(0.01)
    print(json.dumps({"port": server.servers[0].sockets[0].getsockname()[1]}), flush=True)
    await wait_for_readers(lambda: len(app.queues))
    print(json.dumps({"cpu": await publish(app.put)}), flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline)
    task.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(hub_server() if sys.argv[1] == "hub" else bare_server())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(0)
