"""What SQLite does to its files, seen and disturbed from inside: a record of every write and flush, and faults.

The default VFS of the very library that Python's sqlite3 uses is patched through ctypes, so the code under test runs
unchanged. Reads, locks and shared memory pass untouched. One recorder at a time.
"""

import ctypes
import os
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

SQLITE_OK = 0
SQLITE_FULL = 13
SQLITE_IOERR_WRITE = 10 | (3 << 8)
SQLITE_IOERR_FSYNC = 10 | (4 << 8)
SQLITE_IOERR_TRUNCATE = 10 | (6 << 8)

_POINTER = ctypes.c_void_p
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, _POINTER, _POINTER, _POINTER, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_char_p, ctypes.c_int)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_int)


class _Vfs(ctypes.Structure):
    """The head of `struct sqlite3_vfs` (sqlite.org/c3ref/vfs.html)."""

    _fields_: ClassVar[Any] = (
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("max_path", ctypes.c_int),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("data", _POINTER),
        ("open", _POINTER),
        ("delete", _POINTER),
    )


class _Methods(ctypes.Structure):
    """`struct sqlite3_io_methods`, version 3 (sqlite.org/c3ref/io_methods.html)."""

    _fields_: ClassVar[Any] = (
        ("version", ctypes.c_int),
        ("close", _POINTER),
        ("read", _POINTER),
        ("write", _POINTER),
        ("truncate", _POINTER),
        ("sync", _POINTER),
        ("others", _POINTER * 13),
    )


@dataclass
class Step:
    """One thing that happened: `write`, `truncate`, `sync`, `delete` of a file, `sync directory`, or a `note`."""

    what: str
    name: str = ""
    offset: int = 0
    data: bytes = b""
    note: Callable[[Any], object] | None = None


Fault = Callable[[str, str], int]
"""Asked before each write, truncate and sync (what, file name): SQLITE_OK, or the error to give in its place."""


@dataclass
class Recorder:
    """The record of one directory's files."""

    directory: Path
    fault: Fault | None = None
    steps: list[Step] = field(default_factory=list)

    def note(self, note: Callable[[Any], object]) -> None:
        """The test's own mark between the steps: something to tell whoever replays them."""
        self.steps.append(Step("note", note=note))

    def flushes(self) -> int:
        """How many flushes were completed."""
        return sum(step.what == "sync" for step in self.steps)


def library() -> ctypes.CDLL | None:
    """The SQLite library that Python's sqlite3 uses; None where it is built into the interpreter."""
    sqlite3.connect(":memory:").close()
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    found = re.search(r"(/\S*libsqlite3\S*)", maps)
    if found is None:
        return None
    lib = ctypes.CDLL(found.group(1))
    lib.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    return lib


@contextmanager
def recording(directory: Path, fault: Fault | None = None) -> Iterator[Recorder]:
    """Records what SQLite writes to files below this directory while the context lasts, by connections opened in it."""
    lib = library()
    assert lib is not None
    vfs = lib.sqlite3_vfs_find(None).contents
    recorder = Recorder(directory, fault)
    shim = _Shim(recorder, vfs)
    fsync = os.fsync

    def watched_fsync(fd: int) -> None:
        fsync(fd)
        if Path(f"/proc/self/fd/{fd}").readlink() == directory:
            recorder.steps.append(Step("sync directory"))

    os.fsync = watched_fsync  # type: ignore[assignment]
    try:
        yield recorder
    finally:
        os.fsync = fsync
        shim.restore()


_KEPT: list[object] = []
"""Method tables must outlive every connection that was opened with them."""


class _Shim:
    def __init__(self, recorder: Recorder, vfs: Any) -> None:
        self.recorder = recorder
        self.vfs = vfs
        self.names: dict[int, str] = {}
        self.tables: dict[int, _Methods] = {}
        self.originals = (vfs.open, vfs.delete)
        self.open = _OPEN(vfs.open)
        self.delete = _DELETE(vfs.delete)
        callbacks = (_OPEN(self._open), _DELETE(self._delete))
        vfs.open, vfs.delete = (ctypes.cast(one, _POINTER).value for one in callbacks)
        _KEPT.append((self, callbacks))

    def restore(self) -> None:
        self.vfs.open, self.vfs.delete = self.originals

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        # The name goes on as the pointer it is: SQLite keeps it for as long as the file is open.
        code = self.open(vfs, name, file, flags, out)
        path = Path(ctypes.string_at(name).decode()) if name else None
        if code == SQLITE_OK and path is not None and self.recorder.directory in path.parents:
            self.names[file] = path.name
            slot = ctypes.cast(file, ctypes.POINTER(_POINTER))
            slot[0] = ctypes.addressof(self._table(slot[0]))
        return int(code)

    def _delete(self, vfs: int, name: bytes, sync_directory: int) -> int:
        path = Path(name.decode())
        code = self.delete(vfs, name, sync_directory)
        if code == SQLITE_OK and self.recorder.directory in path.parents:
            self.recorder.steps.append(Step("delete", path.name))
        return int(code)

    def _table(self, original: int) -> _Methods:
        """A copy of this method table in which writing calls go through us."""
        if original in self.tables:
            return self.tables[original]
        methods = _Methods.from_address(original)
        ours = _Methods.from_buffer_copy(methods)
        write, truncate, sync = _WRITE(methods.write), _TRUNCATE(methods.truncate), _SYNC(methods.sync)

        def on_write(file: int, data: int, size: int, offset: int) -> int:
            code = self._fault("write", file)
            if code == SQLITE_OK:
                raw = ctypes.string_at(data, size)
                code = write(file, data, size, offset)
                if code == SQLITE_OK:
                    self.recorder.steps.append(Step("write", self.names[file], offset, raw))
            return int(code)

        def on_truncate(file: int, size: int) -> int:
            code = self._fault("truncate", file) or truncate(file, size)
            if code == SQLITE_OK:
                self.recorder.steps.append(Step("truncate", self.names[file], size))
            return int(code)

        def on_sync(file: int, flags: int) -> int:
            code = self._fault("sync", file) or sync(file, flags)
            if code == SQLITE_OK:
                self.recorder.steps.append(Step("sync", self.names[file]))
            return int(code)

        callbacks = (_WRITE(on_write), _TRUNCATE(on_truncate), _SYNC(on_sync))
        ours.write, ours.truncate, ours.sync = (ctypes.cast(one, _POINTER).value for one in callbacks)
        _KEPT.append((ours, callbacks, write, truncate, sync))
        self.tables[original] = ours
        return ours

    def _fault(self, what: str, file: int) -> int:
        if self.recorder.fault is None or self.names[file].endswith("-shm"):
            return SQLITE_OK
        return self.recorder.fault(what, self.names[file])


# --- after a power cut ----------------------------------------------------------------------------------------------

SECTOR = 512


class Disk:
    """What may be on the disk when the power goes after some steps.

    Of a file, everything up to its last completed flush is there. What was written later may each be there, not be
    there, or be there in part (torn at a sector), in any combination: the kernel writes in an order of its own. That a
    file was removed is certain only after its directory was flushed.
    """

    def __init__(self) -> None:
        self._safe: dict[str, bytearray] = {}
        self._loose: dict[str, list[Step]] = {}

    def apply(self, step: Step) -> None:
        """The next step of the record."""
        if step.what == "sync":
            for loose in self._loose.pop(step.name, []):
                _change(self._safe, loose, loose.data)
            self._safe.setdefault(step.name, bytearray())
        elif step.what == "sync directory":
            for name, steps in list(self._loose.items()):
                if steps[-1].what == "delete":
                    del self._loose[name]
                    self._safe.pop(name, None)
        elif step.what != "note":
            self._loose.setdefault(step.name, []).append(step)

    def cut(self, directory: Path, chance: random.Random) -> None:
        """Writes one possible state of the disk into an empty directory."""
        files = {name: bytearray(data) for name, data in self._safe.items()}
        for name, loose in self._loose.items():
            if name.endswith("-shm"):
                continue
            for step in loose:
                fate = chance.choice(("kept", "dropped", "torn"))
                if fate == "kept":
                    _change(files, step, step.data)
                elif fate == "torn" and step.what == "write":
                    _change(files, step, step.data[: chance.randrange(len(step.data) // SECTOR + 1) * SECTOR])
        for name, data in files.items():
            (directory / name).write_bytes(data)


def _change(files: dict[str, bytearray], step: Step, data: bytes) -> None:
    if step.what == "delete":
        files.pop(step.name, None)
        return
    content = files.setdefault(step.name, bytearray())
    if step.what == "truncate":
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    if len(content) < step.offset:
        content.extend(bytes(step.offset - len(content)))
    content[step.offset : step.offset + len(data)] = data
