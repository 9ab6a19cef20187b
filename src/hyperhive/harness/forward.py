"""In the box: `python3 forward.py SOCKET PROGRAM ARG...`, for a CLI that speaks HTTP to addresses only.

Listens on a free port of the box's own loopback, hands each connection on to the unix socket, and becomes the program,
with ANTHROPIC_BASE_URL set to that port. What it forwards ends with the program. Standard library only; it runs with
whatever Python 3 the box has.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1
CHUNK = 65536


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies one direction until its end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


async def forward(path: str, near: socket.socket) -> None:
    """One connection: when either side ends, both do."""
    writers = []
    try:
        near_reader, near_writer = await asyncio.open_connection(sock=near)
        writers.append(near_writer)
        far_reader, far_writer = await asyncio.open_unix_connection(path)
        writers.append(far_writer)
        both = [pump(near_reader, far_writer), pump(far_reader, near_writer)]
        tasks = [asyncio.ensure_future(one) for one in both]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    except OSError:
        pass
    finally:
        for writer in writers:
            writer.close()


async def serve(path: str, listener: socket.socket) -> None:
    """Forwards for ever."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)  # noqa: FBT003 - its only argument
    tasks = set()
    while True:
        near, _ = await loop.sock_accept(listener)
        task = loop.create_task(forward(path, near))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def main() -> None:
    """Splits in two: the child forwards, this process becomes the program."""
    path, *program = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", 0))
    parent = os.getpid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        null = os.open("/dev/null", os.O_RDWR)
        for stream in (0, 1, 2):  # the program's pipes are its own
            os.dup2(null, stream)
        if os.getppid() == parent:
            asyncio.run(serve(path, listener))
        os._exit(0)
    os.environ["ANTHROPIC_BASE_URL"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    os.execv(program[0], program)  # noqa: S606 - this is the point


if __name__ == "__main__":
    main()
