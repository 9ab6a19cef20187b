"""What one nspawn container is made of: the root that it starts from, and the command line. Runs nothing.

A container's root is a directory of empty places, made for exactly this set of them, over which everything is bound:
the base's /usr and /etc read-only, and the agent's own. So the base may be any tree, nobody ever writes to it, and two
containers of one agent share a root without a lock. Owners are mapped, not changed: what belongs to root on the disk is
the agent's root's in its container, and belongs to a user id of the agent's own range for the rest of the machine.
"""

import hashlib
import os
import resource
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hyperhive.config import Network
from hyperhive.lifecycle.mounts import ResolvedMount
from hyperhive.lifecycle.runtimes.bwrap_command import NSSWITCH, hosts_file
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.uid_ranges import RANGE
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import BOX_AGENTS, BOX_APPLIED, BOX_CLAUDE, BOX_RUN, BOX_STATE, BOX_WORKSPACE, Paths

PASSWD: Final = f"root:x:0:0:agent:{BOX_STATE}:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP: Final = "root:x:0:\nnogroup:x:65534:\n"
DEFAULT_CAPABILITIES: Final = (
    "AUDIT_CONTROL", "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_OWNER",
    "KILL", "LEASE", "LINUX_IMMUTABLE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE", "SYS_RESOURCE",
    "SYS_TTY_CONFIG",
)  # fmt: skip
"""What nspawn leaves to root in a container where nobody says anything."""
BOX_FILES: Final = "/run/hive-files"
"""Where files are shown that the base has no place for."""
STAGE: Final = "/run/systemd/nspawn/shown"
"""In memory of the container's maker (`nspawn_wrapper`): nobody else ever sees what is mounted there."""

_EMPTY: Final = (
    "proc", "sys", "dev", "run", "tmp", "root", "home", "mnt", "media", "srv", "boot", "lost+found",
)  # fmt: skip
_OWN_FILES_IN_MEMORY: Final = ("/run", "/tmp", "/dev")  # noqa: S108 - the container's own
_RLIMIT_NAMES: Final = {
    resource.RLIMIT_CORE: "CORE",
    resource.RLIMIT_FSIZE: "FSIZE",
    resource.RLIMIT_DATA: "DATA",
    resource.RLIMIT_CPU: "CPU",
    resource.RLIMIT_AS: "AS",
    resource.RLIMIT_NOFILE: "NOFILE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A directory or file of the machine, and where the container shows it."""

    source: Path
    target: str
    writable: bool = False
    mapped: bool = True
    """Whether owners are mapped. Where not, all of it belongs to nobody, and is read as others may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What one container shows, and for whom. `names`: files that are not where their names say, and where they are."""

    owner: str
    hostname: str
    binds: Sequence[Bind]
    cwd: str
    limits: ResourceLimits
    network: Network
    names: Mapping[str, str]
    rlimits: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """One container."""

    machine: str
    hostname: str
    root: Path
    binds: Sequence[Bind]
    first_uid: int
    mark: int
    rlimits: Sequence[tuple[int, int]]
    tmp_bytes: int
    own_network: bool
    capabilities: Sequence[str] = ()
    """What is left of those to root in the container, who then is somebody else than the agent."""
    memory_dirs: Mapping[str, str] = field(default_factory=dict)
    """Further directories in memory, which are root's, and their modes."""


def agent_binds(paths: Paths, agent: AgentName, proposed: Sequence[str]) -> Iterator[Bind]:
    """An agent's own directories. `proposed`: whose repos the manager sees; each a mount of its own, see `BoxPlan`."""
    yield Bind(source=paths.agent_state(agent), target=BOX_STATE, writable=True)
    yield Bind(source=paths.agent_claude(agent), target=BOX_CLAUDE, writable=True)
    yield Bind(source=paths.tools_dir(agent), target=BOX_RUN)
    if agent != MANAGER:
        yield Bind(source=paths.proposed_config(agent), target=f"{BOX_AGENTS}/{agent}/config")
        return
    for name in proposed:
        repo = paths.proposed_config(AgentName(name))
        yield Bind(source=repo, target=f"{BOX_AGENTS}/{name}/config", writable=True)
    yield Bind(source=paths.applied, target=BOX_APPLIED)


def mount_binds(mounts: Sequence[ResolvedMount]) -> Iterator[Bind]:
    """What the operator shows."""
    for mount in mounts:
        yield Bind(source=mount.source, target=mount.target, writable=mount.writable)


def file_binds(files: Sequence[Path], base: Path) -> Iterator[tuple[str, Bind]]:
    """Files of the machine, each with the name that is asked for.

    They are shown at that path, or under `BOX_FILES` where the base has no place for them there.
    """
    for number, path in enumerate(files):
        covered = (base / path.parts[1]).exists() and path.parts[1] not in _EMPTY
        there = not covered or (base / path.relative_to("/")).is_file()
        yield (
            str(path),
            Bind(source=path.resolve(), target=str(path) if there else f"{BOX_FILES}/{number}/{path.name}"),
        )


def etc_files(agent: str, resolver: bytes | None, *, uid: int = 0) -> dict[str, bytes]:
    """Files of /etc that are not the base's.

    Args:
        agent: the machine's name.
        resolver: what /etc/resolv.conf says, where anything.
        uid: whom the agent's programs run as.
    """
    user = f"agent:x:{uid}:{uid}:agent:{BOX_STATE}:/bin/bash\n" if uid else ""
    group = f"agent:x:{uid}:\n" if uid else ""
    files = {
        "passwd": f"{PASSWD}{user}".encode(),
        "group": f"{GROUP}{group}".encode(),
        "hosts": hosts_file(agent).encode(),
        "nsswitch.conf": NSSWITCH.encode(),
    }
    return files if resolver is None else {**files, "resolv.conf": resolver}


def make_root(
    place: Path, base: Path, binds: Sequence[Bind], etc: Mapping[str, bytes]
) -> tuple[Path, list[Bind]]:
    """A root for these binds, and those of the machine's own that belong under them. Blocks.

    Made once for one set of them: it is named by what is in it, and never changed.
    """
    machine = list(_base_binds(base))
    binds = list(binds)
    said = repr((base, [b.target for b in binds], [b.source.is_dir() for b in binds], sorted(etc.items())))
    root = place / hashlib.blake2b(said.encode(), digest_size=10).hexdigest()
    if not root.is_dir():
        aside = place / f".{root.name}.{os.getpid()}.{os.urandom(4).hex()}"
        _fill(aside, base, [*machine, *binds], etc)
        try:
            aside.rename(root)
        except OSError:  # somebody else was as quick
            shutil.rmtree(aside, ignore_errors=True)
    files = [
        Bind(source=root / "etc" / name, target=f"/etc/{name}", mapped=False)
        for name in etc
        if (base / "etc" / name).is_file()
    ]
    return root / "root", [*machine, *files]


def _base_binds(base: Path) -> Iterator[Bind]:
    for entry in sorted(base.iterdir()):
        if entry.name not in _EMPTY and entry.is_dir() and not entry.is_symlink():
            yield Bind(source=entry, target=f"/{entry.name}", mapped=False)


def _fill(place: Path, base: Path, binds: Sequence[Bind], etc: Mapping[str, bytes]) -> None:
    root = place / "root"
    root.mkdir(parents=True)
    for name in ("proc", "sys", "dev", "run", "tmp", "root", BOX_WORKSPACE[1:], BOX_AGENTS[1:]):
        (root / name).mkdir()
    for entry in base.iterdir():
        if entry.is_symlink():
            (root / entry.name).symlink_to(entry.readlink())
    covered = tuple(f"/{b.target.split('/')[1]}" for b in binds if b.source.parent == base)
    for bind in binds:
        target = root / bind.target[1:]
        if bind.source.parent != base and bind.target.startswith(
            tuple(f"{top}/" for top in (*covered, *_OWN_FILES_IN_MEMORY))
        ):
            continue  # is there already, or nspawn makes it in a file system in memory
        target.parent.mkdir(parents=True, exist_ok=True)
        if bind.source.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch()
    (place / "etc").mkdir()
    for name, content in etc.items():
        (place / "etc" / name).write_bytes(content)
    for made in place.rglob("*"):
        if not made.is_symlink():
            made.chmod(0o755 if made.is_dir() else 0o644)


def staged(binds: Sequence[Bind]) -> tuple[list[tuple[str, str, str, str]], list[Bind]]:
    """Which source is mounted where aside, and the binds of it from there."""
    places = [f"{STAGE}/{number}" for number in range(len(binds))]
    aside = [(str(bind.source), place, "", "") for bind, place in zip(binds, places, strict=True)]
    return aside, [replace(bind, source=Path(place)) for bind, place in zip(binds, places, strict=True)]


def container_arguments(plan: ContainerPlan) -> list[str]:
    """Everything behind `systemd-nspawn` and before the program."""
    return [
        "--quiet", "--register=no", "--keep-unit", "--settings=no", "--link-journal=no",
        "--resolv-conf=off", "--timezone=off", "--console=pipe", "--as-pid2", "--read-only",
        f"--machine={plan.machine}", f"--hostname={plan.hostname}", f"--directory={plan.root}",
        f"--private-users={plan.first_uid}:{RANGE}", "--private-users-ownership=off",
        "--no-new-privileges=yes", f"--drop-capability={_dropped(plan.capabilities)}",
        *(("--private-network",) if plan.own_network else ()),
        *(f"--rlimit={_RLIMIT_NAMES[number]}={value}" for number, value in plan.rlimits),
        f"--rlimit=RTTIME={plan.mark}us",
        *(
            f"--tmpfs={place}:mode={mode},nosuid,nodev,size={plan.tmp_bytes}"
            for place, mode in {"/tmp": "1777", "/var/tmp": "1777", **plan.memory_dirs}.items()  # noqa: S108 - as above
        ),
        *(_bind(bind) for bind in plan.binds),
    ]  # fmt: skip


def _dropped(kept: Sequence[str]) -> str:
    if not kept:
        return "all"
    return ",".join(f"CAP_{name}" for name in DEFAULT_CAPABILITIES if name not in kept)


def _bind(bind: Bind) -> str:
    flag = "--bind" if bind.writable else "--bind-ro"
    options = ":idmap" if bind.mapped else ""
    return f"{flag}={_escaped(str(bind.source))}:{_escaped(bind.target)}{options}"


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")
