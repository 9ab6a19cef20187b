"""A hive's state as one tar file, and back: what goes in, how it is read safely, how it is put back.

The hive's own databases are copied by SQLite's online backup, so that a running hive can be backed up; any other file
is bytes, whatever its name. Directories that agents write are walked by directory descriptors without following a link,
and put back into a fresh directory with all links last: no name in an archive and no link in a state directory leads
anywhere else. Who may do this, and when, is decided elsewhere.
"""

import io
import os
import shutil
import sqlite3
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

import msgspec

from hyperhive.errors import BadRequest, Conflict, StoreFailed

MANIFEST: Final = "hyperhive-backup.json"
FORMAT: Final = 1
LEFT_OUT: Final = frozenset({"log", "cli", "run", "staging", "search"})
"""Logs, the index of texts, the agent CLIs (installed again by `doctor --install-cli`), sockets, repos half made."""

_DATABASE_SUFFIX: Final = ".sqlite"
_BESIDE_DATABASES: Final = ("-wal", "-shm", "-journal", ".lock")
_OLD_COPY: Final = ".sqlite.before-migration-"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The first member of an archive: what it is."""

    format: int
    version: str
    made_at: int
    state_dir: str
    with_files: bool
    files: int = 0
    databases: int = 0
    skipped: int = 0


@dataclass
class _Counts:
    files: int = 0
    databases: int = 0
    skipped: int = 0


def write_archive(state_dir: Path, target: Path, *, version: str, with_files: bool = True) -> Manifest:
    """Writes everything under `state_dir` that is worth keeping to `target`, which must not exist.

    Args:
        state_dir: of a hive that may be running.
        target: a new file (0600); compressed where its name ends in `gz`.
        version: of HyperHive, for the record.
        with_files: also the agents' own files and sessions; without them only what the hive itself keeps.

    Raises:
        Conflict: `target` is there already.
        StoreFailed: something could not be read or written; nothing is left at `target`.
    """
    counts = _Counts()
    try:
        with (
            _new_file(target) as file,
            tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as room,
        ):
            mode = "w:gz" if target.name.endswith("gz") else "w"
            with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT, dereference=False) as tar:  # type: ignore[call-overload]
                manifest = Manifest(
                    format=FORMAT, version=version, made_at=int(time.time()), state_dir=str(state_dir),
                    with_files=with_files,
                )  # fmt: skip
                _add_bytes(tar, MANIFEST, msgspec.json.encode(manifest))
                _Writer(tar, state_dir, Path(room), counts).add_all(with_files=with_files)
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise StoreFailed(f"the backup could not be written: {error}") from error
    return msgspec.structs.replace(
        manifest, files=counts.files, databases=counts.databases, skipped=counts.skipped
    )


def read_archive(source: Path, state_dir: Path) -> Manifest:
    """Puts an archive back as `state_dir`, which must not exist. All of it, or nothing.

    Raises:
        BadRequest: `source` is no backup, or damaged.
        StoreFailed: it could not be read or written.
    """
    state_dir.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=state_dir.parent, prefix=f".{state_dir.name}-restoring-"))
    try:
        with source.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as tar:
            manifest = _read_manifest(tar)
            counts = _unpack(tar, staging)
        _check_databases(staging)
        staging.rename(state_dir)
    except (tarfile.TarError, EOFError) as error:
        raise BadRequest(f"{source} is no backup of a hive, or damaged: {error}") from error
    except (OSError, sqlite3.Error) as error:
        raise StoreFailed(f"{source} could not be put back: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return msgspec.structs.replace(manifest, files=counts.files, databases=counts.databases)


# --- writing --------------------------------------------------------------------------------------------------------


@contextmanager
def _new_file(target: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name when it is whole, and never replaces another."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, target)
        except FileExistsError:
            raise Conflict(f"{target} is there already", hint="choose another name") from None
    finally:
        partial.unlink(missing_ok=True)


class _Writer:
    """Adds one state directory to one archive."""

    def __init__(self, tar: tarfile.TarFile, state_dir: Path, room: Path, counts: _Counts) -> None:
        self._tar = tar
        self._state_dir = state_dir
        self._room = room
        self._counts = counts

    def add_all(self, *, with_files: bool) -> None:
        """Everything that is worth keeping, in a fixed order."""
        for top, directories, names, descriptor in os.fwalk(self._state_dir, follow_symlinks=False):
            place = PurePosixPath(Path(top).relative_to(self._state_dir))
            directories[:] = sorted(
                name for name in directories if _is_kept(place / name, with_files=with_files)
            )
            for name in [*directories, *sorted(names)]:
                self._add(place / name, descriptor)

    def _add(self, place: PurePosixPath, descriptor: int) -> None:
        if _beside_a_database(place):
            return
        try:
            info = os.stat(place.name, dir_fd=descriptor, follow_symlinks=False)
            if _is_database(place) and stat.S_ISREG(info.st_mode):
                self._add_database(place)
                return
            link = os.readlink(place.name, dir_fd=descriptor) if stat.S_ISLNK(info.st_mode) else None
        except FileNotFoundError:
            return  # a running agent removed it meanwhile
        member = _member(place, info)
        if link is not None:
            member.type, member.linkname = tarfile.SYMTYPE, link
            self._tar.addfile(member)
        elif stat.S_ISDIR(info.st_mode):
            member.type = tarfile.DIRTYPE
            self._tar.addfile(member)
            return
        elif not self._add_file(place, descriptor):
            self._counts.skipped += 1
            return
        self._counts.files += 1

    def _add_file(self, place: PurePosixPath, descriptor: int) -> bool:
        try:
            # O_NONBLOCK: a fifo without a writer must not hold up the backup. O_NOFOLLOW: it may be a link by now.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            opened = os.open(place.name, flags, dir_fd=descriptor)
        except OSError:
            return False  # a socket, gone, or a file that the agent took the right to read from us
        with os.fdopen(opened, "rb") as file:
            info = os.fstat(opened)
            if not stat.S_ISREG(info.st_mode):
                return False
            member = _member(place, info)
            member.size = info.st_size
            self._tar.addfile(member, _Exactly(file, info.st_size))
        return True

    def _add_database(self, place: PurePosixPath) -> None:
        copy = self._room / "copy.sqlite"
        copy.unlink(missing_ok=True)
        live_uri = f"{(self._state_dir / place).as_uri()}?mode=ro"
        with closing(sqlite3.connect(live_uri, uri=True)) as live, closing(sqlite3.connect(copy)) as to:
            live.backup(to)
        with copy.open("rb") as file:
            member = _member(place, os.fstat(file.fileno()))
            member.mode = 0o600
            member.size = copy.stat().st_size
            self._tar.addfile(member, file)
        self._counts.databases += 1


def _is_kept(place: PurePosixPath, *, with_files: bool) -> bool:
    if len(place.parts) == 1 and place.name in LEFT_OUT:
        return False
    agents_own = len(place.parts) == 3 and place.parts[0] == "agents" and place.name in {"state", "claude"}
    return with_files or not agents_own


def _holds_databases(directory: PurePosixPath) -> bool:
    """Whether the hive keeps databases there: its own, and each harness's. No box can write to these."""
    parts = directory.parts
    return not parts or (len(parts) == 3 and (parts[0], parts[2]) == ("agents", "harness"))


def _is_database(place: PurePosixPath) -> bool:
    return _holds_databases(place.parent) and place.name.endswith(_DATABASE_SUFFIX)


def _beside_a_database(place: PurePosixPath) -> bool:
    """What SQLite and the hive leave beside a database, and the copy does not need."""
    odd = place.name.endswith(_BESIDE_DATABASES) or _OLD_COPY in place.name
    return odd and _holds_databases(place.parent)


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o600
    member.mtime = int(time.time())
    tar.addfile(member, io.BytesIO(data))


def _member(place: PurePosixPath, info: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(str(place))
    member.mode = stat.S_IMODE(info.st_mode) & 0o777  # no set-uid bit survives a backup
    member.mtime = int(info.st_mtime)
    return member


class _Exactly(io.RawIOBase):
    """A file that gives as many bytes as its member says, whatever a running agent does to it meanwhile."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__()
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        data += b"\0" * (wanted - len(data))
        self._left -= wanted
        return data


# --- reading --------------------------------------------------------------------------------------------------------


def _read_manifest(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    file = tar.extractfile(first) if first is not None and first.name == MANIFEST and first.isreg() else None
    if file is None:
        raise tarfile.TarError(f"its first member is not {MANIFEST}")
    try:
        manifest = msgspec.json.decode(file.read(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise tarfile.TarError(f"{MANIFEST}: {error}") from error
    if manifest.format > FORMAT:
        raise BadRequest(f"this backup has format {manifest.format}; this version reads up to {FORMAT}",
                         hint=f"restore it with HyperHive {manifest.version} or newer")  # fmt: skip
    return manifest


def _unpack(tar: tarfile.TarFile, staging: Path) -> _Counts:
    counts = _Counts()
    links: list[tuple[Path, str]] = []
    modes: list[tuple[Path, int]] = []
    for member in tar:
        if member.name == MANIFEST:
            continue
        path = _inside(staging, member.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if member.isdir():
            path.mkdir(mode=0o700, exist_ok=True)
            modes.append((path, member.mode & 0o777))
        elif member.issym():
            links.append((path, member.linkname))
        elif member.isreg():
            _unpack_file(tar, member, path)
            counts.databases += _is_database(PurePosixPath(member.name))
            counts.files += 1
        else:
            raise tarfile.TarError(f"{member.name}: neither a file, a directory nor a link")
    for path, target in links:
        path.symlink_to(target)
        counts.files += 1
    for path, mode in reversed(modes):
        path.chmod(mode)
    return counts


def _inside(staging: Path, name: str) -> Path:
    place = PurePosixPath(name)
    if place.is_absolute() or not place.parts or ".." in place.parts:
        raise tarfile.TarError(f"the name {name!r} leads out of the backup")
    return staging / place


def _unpack_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise tarfile.TarError(f"{member.name} has no content")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file)
        os.fchmod(file.fileno(), member.mode & 0o777)
    os.utime(path, (member.mtime, member.mtime))


def _check_databases(staging: Path) -> None:
    for path in [*staging.glob("*.sqlite"), *staging.glob("agents/*/harness/*.sqlite")]:
        if path.is_symlink():
            continue
        with closing(sqlite3.connect(path)) as database:
            [found] = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise BadRequest(f"the database {path.name} in this backup is damaged: {found}")
