"""Which 65536 user ids of the machine are an agent's, in a file of the hive's: `STATE/nspawn/ranges.json`.

An agent keeps its range for ever, also through destroy and purge: no two names of a hive ever share one. Two hives of
one machine begin at different places, which is likely and not promised: nothing but the ids themselves would be shared.
"""

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.errors import WorldError
from hyperhive.paths import make_private

RANGE: Final = 1 << 16
FIRST: Final = 0x1000_0000
RANGES: Final = (0x7000_0000 - FIRST) // RANGE
"""Within what systemd sets apart for containers, above what /etc/subuid begins with."""


@dataclass(frozen=True, slots=True)
class UidRanges:
    """The ranges of one hive's agents, in this directory."""

    directory: Path

    def first(self, agent: str) -> int:
        """The first id of the agent's range; a new agent gets one that is free. Blocks. Durable when it returns.

        Raises:
            WorldError: the file cannot be read or written, or every range is taken.
        """
        try:
            make_private(self.directory)
            lock = os.open(self.directory / "ranges.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return FIRST + RANGE * self._slot(agent)
            finally:
                os.close(lock)
        except OSError as error:
            raise WorldError(f"user ids cannot be allotted in {self.directory}: {error}") from error

    def _slot(self, agent: str) -> int:
        file = self.directory / "ranges.json"
        try:
            slots = msgspec.json.decode(file.read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            slots = {}
        except msgspec.DecodeError as error:
            raise WorldError(f"{file} cannot be read: {error}", hint="put back a copy of it") from error
        if agent in slots:
            return slots[agent]
        taken = set(slots.values())
        digest = hashlib.blake2b(os.fsencode(self.directory), digest_size=8).digest()
        start = int.from_bytes(digest)
        free = ((start + number) % RANGES for number in range(RANGES))
        slot = next((each for each in free if each not in taken), None)
        if slot is None:
            raise WorldError(f"all {RANGES} ranges of user ids are taken")
        _replace(file, msgspec.json.encode({**slots, agent: slot}))
        return slot


def _replace(file: Path, content: bytes) -> None:
    """All of it or nothing, also through a power cut."""
    new = file.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    new.rename(file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
