"""`MetaLock`: which commit each agent is at, as a file beside the hive's flake: `meta/lock.json`.

A bump is two-phase: it is prepared aside, and then takes the file's place, or is dropped. Every write is atomic and on
disk before it counts. The rows know better: what a crash left here is put right from them.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from hyperhive.errors import WorldError
from hyperhive.names import AgentName

T = TypeVar("T")


class MetaLock:
    """One hive's lock file. Methods may run side by side for several agents.

    Args:
        directory: where it is.
        changed: called on the loop's thread when an agent is at another commit than before, or gone.
    """

    def __init__(self, directory: Path, changed: Callable[[], object] = lambda: None) -> None:
        self.path = directory / "lock.json"
        self._changed = changed
        self._turn = anyio.Lock()

    def aside(self, agent: AgentName) -> Path:
        """Where a bump of this agent is prepared."""
        return self.path.with_name(f"lock.{agent}.json")

    async def read(self) -> dict[str, str]:
        """Each agent's commit."""
        return await anyio.to_thread.run_sync(self._read)

    async def prepare(self, agent: AgentName, sha: str) -> None:
        """Writes the bumped file aside. Raises: WorldError: it cannot be written."""
        await self._change(lambda: _write(self.aside(agent), {**self._read(), agent: sha}))

    async def finalize(self, agent: AgentName, sha: str) -> None:
        """The agent is at this commit. Idempotent. Raises: WorldError: it cannot be written."""

        def change() -> bool:
            now = self._read()
            if other := now.get(agent) != sha:
                _write(self.path, {**now, agent: sha})
            self.aside(agent).unlink(missing_ok=True)
            return other

        if await self._change(change):
            self._changed()

    async def abort(self, agent: AgentName) -> None:
        """What was prepared is dropped. Idempotent."""
        await self._change(lambda: self.aside(agent).unlink(missing_ok=True))

    async def remove(self, agent: AgentName) -> None:
        """The agent is gone for good. Idempotent."""

        def change() -> bool:
            now = self._read()
            if known := now.pop(agent, None) is not None:
                _write(self.path, now)
            self.aside(agent).unlink(missing_ok=True)
            return known

        if await self._change(change):
            self._changed()

    async def _change(self, work: Callable[[], T]) -> T:
        async with self._turn:
            try:
                return await anyio.to_thread.run_sync(work)
            except OSError as error:
                raise WorldError(f"{self.path} cannot be written: {error.strerror}") from error

    def _read(self) -> dict[str, str]:
        try:
            held = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):  # one that is damaged is written anew from the rows
            return {}
        return {str(key): str(value) for key, value in held.items()} if isinstance(held, dict) else {}


def _write(path: Path, content: dict[str, str]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(json.dumps(content, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
