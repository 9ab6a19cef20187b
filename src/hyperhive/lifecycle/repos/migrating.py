"""From the older layout of config repos to this one: `agents/NAME/config` → `proposed/NAME/config`, applied made bare.

Each step may be cut short and done again; a marker file says that all is done. What cannot be moved stays where it is
and is named. No repo's content is lost: the old applied repo goes only when the new one is in place.
"""

import os
from pathlib import Path
from typing import Final

import anyio.to_thread

from hyperhive.errors import InvalidName, WorldError
from hyperhive.lifecycle.removal import remove_tree
from hyperhive.lifecycle.repos.git import Git, GitFailed
from hyperhive.lifecycle.repos.making import BRANCH, INIT, clear, finish_applied
from hyperhive.names import AgentName, parse_resident
from hyperhive.paths import Paths

LAYOUT: Final = "2\n"
MARKER: Final = ".layout"
_ASIDE: Final = ".original"


async def migrate(git: Git, paths: Paths) -> list[str]:
    """Brings a state directory to this layout; one sentence for each thing that was done or could not be. Idempotent.

    To be called when no agent runs.
    """
    if await anyio.to_thread.run_sync(is_migrated, paths):
        return []
    said = await anyio.to_thread.run_sync(_move_proposed, paths)
    for name in await anyio.to_thread.run_sync(_not_bare, paths):
        try:
            await _make_bare(git, paths, name)
        except GitFailed as failed:  # its agent begins anew; what was there is kept
            said.append(f"{_aside(paths, name)} could not be read and stays there: {failed.message}")
        else:
            said.append(f"{paths.applied_repo(name)} is bare now")
    await anyio.to_thread.run_sync(_mark, paths.state_dir / MARKER)
    return said


def is_migrated(paths: Paths) -> bool:
    """The state directory has this layout. Blocks."""
    marker = paths.state_dir / MARKER
    return marker.is_file() and marker.read_text() == LAYOUT


def _mark(marker: Path) -> None:
    new = marker.with_name(".layout.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(LAYOUT)
        file.flush()
        os.fsync(file.fileno())
    new.replace(marker)


def _names(place: Path) -> list[AgentName]:
    """The agents that have something here; what no agent can be called is left alone."""
    found = []
    for entry in sorted(place.iterdir()) if place.is_dir() else ():
        try:
            found.append(parse_resident(entry.name))
        except InvalidName:
            continue
    return found


def _move_proposed(paths: Paths) -> list[str]:
    said = []
    for name in _names(paths.state_dir / "agents"):
        old, new = paths.agent_dir(name) / "config", paths.proposed_config(name)
        if old.is_symlink() or not old.is_dir():
            continue
        new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            old.rename(new)  # onto nothing, or onto a directory that is empty
        except OSError as error:
            said.append(f"{old} stays where it is: {error.strerror}")
        else:
            said.append(f"{old} is {new} now")
    return said


def _not_bare(paths: Paths) -> list[AgentName]:
    """Whose applied repo has a working tree, or was put aside by a migration that a crash cut short."""
    aside = {entry.name[1 : -len(_ASIDE)] for entry in paths.applied.glob(f".*{_ASIDE}")}
    with_tree = {name for name in _names(paths.applied) if (paths.applied_repo(name) / ".git").is_dir()}
    return sorted({*with_tree, *(parse_resident(name) for name in aside)})


async def _make_bare(git: Git, paths: Paths, name: AgentName) -> None:
    """The old repo was the older core's own, as the new one is this one's: it is read by the ordinary way."""
    aside, target, room = _aside(paths, name), paths.applied_repo(name), paths.staging / f"{name}.applied"
    await anyio.to_thread.run_sync(_put_aside, target, aside)
    if not await anyio.to_thread.run_sync((target / "HEAD").is_file):
        await anyio.to_thread.run_sync(clear, room)
        await git.run(None, *INIT, "--bare", "--", str(room))
        await git.run(
            room, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            "--no-auto-maintenance", "--update-head-ok", "--end-of-options", str(aside / ".git"),
            f"HEAD:{BRANCH}", "refs/tags/*:refs/tags/*", protocol="file",
        )  # fmt: skip
        await anyio.to_thread.run_sync(finish_applied, room, target)
    failures: list[str] = []
    await anyio.to_thread.run_sync(remove_tree, aside, failures)
    if failures:
        raise WorldError(f"{aside} cannot be removed: {failures[0]}")


def _aside(paths: Paths, name: str) -> Path:
    return paths.applied / f".{name}{_ASIDE}"


def _put_aside(target: Path, aside: Path) -> None:
    if not aside.exists():
        target.rename(aside)
