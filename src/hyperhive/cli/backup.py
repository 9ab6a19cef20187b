"""The commands `backup` and `restore-backup`: everything that a hive keeps, in one file, and back.

A running hive can be backed up. Restoring needs it stopped, and never deletes: a state directory that is in the way is
moved aside, and only where that was asked for.
"""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hyperhive import __version__
from hyperhive.cli.archive import read_archive, write_archive
from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.link import Link, run_dirs
from hyperhive.cli.render import plural
from hyperhive.errors import BadRequest, Conflict, HiveUnreachable, NotFound
from hyperhive.terminal import visible


def backup(
    file: Path | None = None,
    /,
    *,
    files: Annotated[bool, Parameter(negative="--no-files")] = True,
    common: Common = DEFAULTS,
) -> int:
    """Write everything that the hive keeps into one file, also while it runs. The file holds secrets: it is 0600.

    Args:
        file: a new file, compressed where its name ends in gz (default: hyperhive-TIME.tar.gz here).
        files: with the agents' own files and sessions; --no-files leaves them out.
        common: flags of every command.
    """
    session = Session(common)
    state_dir = session.state_dir()
    if not (state_dir / "hive.sqlite").is_file():
        raise NotFound(f"there is no hive in {state_dir}", hint="name its state directory with --state-dir")
    target = (file or Path(time.strftime("hyperhive-%Y%m%d-%H%M%S.tar.gz"))).absolute()
    if target.is_relative_to(state_dir):
        raise BadRequest(f"{target} lies in what is backed up", hint="write the backup somewhere else")
    if target.exists():
        raise Conflict(f"{target} is there already", hint="choose another name")
    made = write_archive(state_dir, target, version=__version__, with_files=files)
    size = target.stat().st_size
    facts = {"file": str(target), "bytes": size, "files": made.files, "databases": made.databases}
    text = f"{target}: {made.databases} databases, {plural(made.files, 'file')}, {size / 2**20:.1f} MiB"
    if made.skipped:
        session.screen.note(f"{made.skipped} sockets, devices or unreadable files were left out")
    return session.say({**facts, "skipped": made.skipped}, visible(text))


def restore_backup(
    file: Path,
    /,
    *,
    replace: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULTS,
) -> int:
    """Put a backup back as the hive's state. The hive must be stopped; nothing is overwritten.

    Args:
        file: what `backup` wrote.
        replace: move a state directory that is there aside, next to the new one.
        common: flags of every command.
    """
    session = Session(common)
    state_dir = session.state_dir()
    if not file.is_file():
        raise NotFound(f"there is no file {file}")
    _check_stopped(session, state_dir)
    aside = _make_room(state_dir, replace=replace)
    try:
        made = read_archive(file, state_dir)
    except BaseException:
        if aside is not None:
            aside.rename(state_dir)
        raise
    facts = {
        "state_dir": str(state_dir),
        "files": made.files,
        "databases": made.databases,
        "made_at": made.made_at,
    }
    if aside is not None:
        if (aside / "cli").is_dir():
            (aside / "cli").rename(state_dir / "cli")  # the agent CLI is no part of a backup
        session.screen.note(f"what was there is in {aside}; remove it when all is well")
    return session.say(
        facts, visible(f"{plural(made.files, 'file')} put back into {state_dir}; next: hyperhive up")
    )


def _check_stopped(session: Session, state_dir: Path) -> None:
    from hyperhive.store.lock import OwnerLock

    try:
        Link(run_dirs(session.common.run_dir, session.environ, state_dir), timeout=5.0).close()
    except HiveUnreachable:
        pass
    else:
        raise Conflict(
            "a hive is running", hint="stop it first: Ctrl-C where it runs, or systemctl stop hyperhive"
        )
    if (state_dir / "hive.sqlite").exists():
        OwnerLock(state_dir / "hive.sqlite").release()


def _make_room(state_dir: Path, *, replace: bool) -> Path | None:
    """Moves what is in the way aside; where it went."""
    if not state_dir.exists():
        return None
    if not any(state_dir.iterdir()):
        state_dir.rmdir()
        return None
    if not replace:
        raise Conflict(f"{state_dir} is not empty", hint="--replace moves it aside; nothing is deleted")
    aside = state_dir.with_name(f"{state_dir.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
    if aside.exists():
        raise Conflict(f"{aside} is in the way", hint="try again in a second")
    return state_dir.rename(aside)
