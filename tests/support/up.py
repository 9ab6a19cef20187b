"""`hyperhive up` (or `serve`) as a process, on the scripted CLI under the runtime `process`."""

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from console import PROGRAM, Console
from hyperhive.testing.turns import install_scripted_cli

PATIENCE_SECONDS = 40.0


def scripted(console: Console, place: Path) -> Console:
    """The console with a hive of its own to start: state, sockets, scripted agent CLI."""
    place.mkdir(mode=0o700, exist_ok=True)
    console.env |= {
        "HYPERHIVE_STATE_DIR": str(place / "state"),
        "HYPERHIVE_RUN_DIR": str(place / "run"),
        "HYPERHIVE_RUNTIME": "process",
        "HIVE_DASHBOARD_PORT": "0",  # hives of several tests run at the same time
        "HYPERHIVE_CLAUDE": str(install_scripted_cli(place / "claude")),
    }
    return console


class Running:
    """One life of a hive. A context manager; leaving it ends the process, by force if need be."""

    def __init__(self, console: Console, *words: str) -> None:
        self.console = console
        self.words = words or ("up", "--json")
        self.out = ""
        self.err = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [str(PROGRAM), *self.words], env=self.console.environ(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.console.home,
        )  # fmt: skip
        self._selector = selectors.DefaultSelector()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(10)
                except subprocess.TimeoutExpired:
                    continue
        self._selector.close()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def ready(self) -> dict[str, Any]:
        """What it says when it is up."""
        self.until(lambda: '"kind":"ready"' in self.out)
        facts: dict[str, Any] = json.loads(self.out.splitlines()[0])
        return facts

    def until(self, true: Callable[[], object]) -> None:
        """Reads what it says until this holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain; it said:\n{self.out[-3000:]}\n{self.err[-3000:]}"
            if not self._read(min(left, 1.0)) and self.process.poll() is not None:
                assert true(), (
                    f"it ended with {self.process.returncode}:\n{self.out[-2000:]}\n{self.err[-3000:]}"
                )

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Its exit code, once it has ended by itself."""
        self.until(lambda: self.process.poll() is not None)
        while self._read(0.2):
            pass
        return int(self.process.returncode)

    def frames(self, kind: str) -> list[dict[str, Any]]:
        """The frames of one kind that it has printed."""
        return [f for line in self.out.splitlines()[1:] if (f := json.loads(line))["kind"] == kind]

    def state_of(self, message: object) -> str | None:
        """What was last said of a message."""
        states = [frame["state"] for frame in self.frames("message_state") if frame["id"] == message]
        return states[-1] if states else None

    def _read(self, seconds: float) -> bool:
        got = False
        for key, _ in self._selector.select(min(seconds, 1.0)):
            chunk = os.read(key.fd, 65536).decode(errors="replace")
            if not chunk:
                self._selector.unregister(key.fileobj)
                continue
            got = True
            if key.fileobj is self.process.stdout:
                self.out += chunk
            else:
                self.err += chunk
        return got
