"""The command line of one bubblewrap box, as a pure function: what is in the box, and nothing else.

The arguments go to bubblewrap by a descriptor (`--args`), because its own command line is readable from inside the box
(it is process 1 there) and by every `ps` outside. Nothing here runs or opens anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperhive.lifecycle.mounts import ResolvedMount
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import BOX_AGENTS, BOX_APPLIED, BOX_CLAUDE, BOX_RUN, BOX_STATE, BOX_WORKSPACE, Paths

BOX_UID: Final = 1000
BOX_REPO: Final = "/repo"
"""Where the box that reads a repo shows it."""

PASSWD: Final = (
    f"agent:x:{BOX_UID}:{BOX_UID}:agent:{BOX_STATE}:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n"
)
GROUP: Final = f"agent:x:{BOX_UID}:\nnogroup:x:65534:\n"
NSSWITCH: Final = "passwd: files\ngroup: files\nhosts: files dns\n"

_SYSTEM: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
MACHINE_FILES: Final = (
    "/etc/alternatives", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/ld.so.cache", "/etc/localtime",
    "/etc/pki/ca-trust", "/etc/pki/tls/cert.pem", "/etc/pki/tls/certs", "/etc/protocols", "/etc/services",
    "/etc/ssl/cert.pem", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/static/ssl", "/nix/store",
)  # fmt: skip
"""What programs need of the machine beside /usr, where it is there. Never all of /etc: /etc/ssl holds private keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxPlan:
    """One box: whose it is, and what of the host it shows.

    `proposed` names the agents whose proposed repos the manager's box shows. Each repo is a mount of its own, and what
    lies above them is the box's own and read-only: bubblewrap follows links in what it binds, so whoever could put a
    link in place of a repo would choose what the next box of that agent shows.
    """

    agent: AgentName
    paths: Paths
    mounts: Sequence[ResolvedMount]
    readable: Sequence[Path]
    cwd: str
    tmp_bytes: int
    disable_userns: bool
    own_network: bool = True
    """A network namespace of its own: with nothing but its loopback, until somebody joins it to more."""
    proposed: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFds:
    """Descriptors of the generated files, and of the filter where there is one."""

    passwd: int
    group: int
    hosts: int
    nsswitch: int
    seccomp: int | None
    gate: int | None = None
    """The box's program is not started before there is something to read here."""
    resolver: int | None = None
    """Its /etc/resolv.conf, where that is not the machine's."""


def hosts_file(agent: str) -> str:
    """The box's /etc/hosts."""
    return f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {agent}\n"


def shown_to_all() -> list[Path]:
    """Directories of the machine that every box shows, where they really are."""
    names = ("/usr", *(f"/{name}" for name in _SYSTEM), *MACHINE_FILES, "/run/current-system")
    return sorted({Path(name).resolve() for name in names})


def box_arguments(plan: BoxPlan, fds: BoxFds, root: Path = Path("/")) -> list[str]:
    """Everything between `bwrap` and `--`. `root`: the host's root directory."""
    return [
        *_namespaces(plan),
        *_machine(root),
        *_etc(fds, root),
        *_own(plan),
        *_shown(plan),
        "--remount-ro", "/",
        "--chdir", plan.cwd,
        *(() if fds.seccomp is None else ("--seccomp", str(fds.seccomp))),
        *(() if fds.gate is None else ("--block-fd", str(fds.gate))),
    ]  # fmt: skip


def reading_box_arguments(
    repo: Path | int, *, disable_userns: bool, seccomp: int | None, root: Path = Path("/")
) -> list[str]:
    """The same for a box that holds one repo and the machine, all of it read-only, and has no network.

    For a program that reads what an agent wrote on the core's behalf: nothing of any agent's is in it, no /proc, and no
    place to write to. `repo`: its directory, best as a descriptor: a path may lead elsewhere by the time it is bound.
    """
    return [
        "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--unshare-net",
        "--uid", str(BOX_UID), "--gid", str(BOX_UID), "--hostname", "reader",
        "--cap-drop", "ALL", "--die-with-parent", "--new-session",
        *(("--disable-userns",) if disable_userns else ()),
        "--dev", "/dev",
        *_machine(root),
        "--ro-bind-fd" if isinstance(repo, int) else "--ro-bind", str(repo), BOX_REPO,
        "--remount-ro", "/dev",
        "--remount-ro", "/",
        "--chdir", "/",
        *(() if seccomp is None else ("--seccomp", str(seccomp))),
    ]  # fmt: skip


def _namespaces(plan: BoxPlan) -> Iterator[str]:
    yield from ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
    yield from ("--uid", str(BOX_UID), "--gid", str(BOX_UID), "--hostname", plan.agent)
    # a session of its own, though the wrapper has made one: a group is no namespace's, and what signals its whole group
    # in the box would hit bubblewrap's outer half
    yield from ("--cap-drop", "ALL", "--die-with-parent", "--new-session")
    if plan.disable_userns:
        yield "--disable-userns"
    if plan.own_network:
        yield "--unshare-net"
    yield from ("--proc", "/proc", "--dev", "/dev")
    yield from ("--symlink", "../tmp", "/var/tmp")  # noqa: S108 - the box's own
    yield from ("--perms", "1777", "--size", str(plan.tmp_bytes), "--tmpfs", "/tmp")  # noqa: S108 - the box's own


def _machine(root: Path) -> Iterator[str]:
    """/usr read-only, and what used to lie beside it: as the links that they are, or as directories."""
    yield from ("--ro-bind", str(root / "usr"), "/usr")
    for name in _SYSTEM:
        place = root / name
        if place.is_symlink():
            yield from ("--symlink", str(place.readlink()), f"/{name}")
        elif place.is_dir():
            yield from ("--ro-bind", str(place), f"/{name}")
    for name in MACHINE_FILES:
        if (root / name[1:]).exists():
            yield from ("--ro-bind", str(root / name[1:]), name)
    if (root / "run/current-system").exists():  # NixOS
        yield from ("--ro-bind", str(root / "run/current-system"), "/run/current-system")


def _etc(fds: BoxFds, root: Path) -> Iterator[str]:
    files = {"passwd": fds.passwd, "group": fds.group, "hosts": fds.hosts, "nsswitch.conf": fds.nsswitch}
    for name, fd in files.items():
        yield from ("--perms", "0444", "--ro-bind-data", str(fd), f"/etc/{name}")
    resolver = root / "etc/resolv.conf"
    if fds.resolver is not None:
        yield from ("--perms", "0444", "--ro-bind-data", str(fds.resolver), "/etc/resolv.conf")
    elif resolver.exists():  # often a link into /run, which the box has not
        yield from ("--ro-bind", str(resolver.resolve()), "/etc/resolv.conf")


def _own(plan: BoxPlan) -> Iterator[str]:
    paths, agent = plan.paths, plan.agent
    yield from ("--bind", str(paths.agent_state(agent)), BOX_STATE)
    yield from ("--bind", str(paths.agent_claude(agent)), BOX_CLAUDE)
    yield from ("--ro-bind", str(paths.tools_dir(agent)), BOX_RUN)
    if agent == MANAGER:
        yield from ("--dir", BOX_AGENTS)
        for name in plan.proposed:  # one that was deleted since is left out
            repo = paths.proposed_config(AgentName(name))
            yield from ("--bind-try", str(repo), f"{BOX_AGENTS}/{name}/config")
        yield from ("--ro-bind", str(paths.applied), BOX_APPLIED)
    else:
        yield from ("--ro-bind", str(paths.proposed_config(agent)), f"{BOX_AGENTS}/{agent}/config")


def _shown(plan: BoxPlan) -> Iterator[str]:
    yield from ("--dir", BOX_WORKSPACE)
    for mount in plan.mounts:
        yield from ("--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target)
    for path in plan.readable:
        if not path.is_relative_to("/usr"):
            yield from ("--ro-bind", str(path.resolve()), str(path))
