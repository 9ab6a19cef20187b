"""As `wrapper`, for a payload in a systemd-nspawn container; run as `python -ISB nspawn_wrapper.py FD` by root.

Everything that nspawn would do badly for a program with three pipes is done round it. nspawn gets no pipe of the
payload's and writes its own words into memory; the program in the container (`nspawn_entry`) is handed pipes,
arguments and environment over one socket, so that none of them is ever on a command line; and what nspawn leaves open
is closed before anything of the agent's runs. Its traces under /run lie in a mount namespace of ours and go with it.

Standard library only, and none of the slow modules, as its model.
"""

from __future__ import annotations

import _socket
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from hyperhive.lifecycle.runtimes import mapped_mounts, wrapper
else:
    sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - pathlib costs as much as the rest
    import mapped_mounts
    import wrapper

NSPAWN_RUN = "/run/systemd/nspawn"
_USERS_LIMIT = "/proc/sys/user/max_user_namespaces"

CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REC, _MS_SLAVE = 0x4000, 0x80000
_OUT_OF_THE_WAY = 64
"""Descriptors are moved above this number before they are put where nspawn wants them."""


class Round:
    """What is done round one kind of container. This kind needs no more than is here, and ends with the hive."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._aside: list[tuple[str, str, str, str]] = spec["aside"]

    def before(self) -> None:
        """Each source is mounted aside, seen by the container's making alone, with its owners as the spec says.

        Aside, so that a path is looked up once, and by no link: whoever may write above a source cannot put another in
        its place.
        """
        pairs = {(uids, gids) for *_, uids, gids in self._aside if uids}
        maps = {pair: mapped_mounts.namespace(*pair) for pair in pairs}
        for source, place, uids, gids in self._aside:
            tree = mapped_mounts.clone(source, whole=True)
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120 - as above
            if os.path.isdir(f"/proc/self/fd/{tree}"):  # noqa: PTH112 - as above
                os.mkdir(place)  # noqa: PTH102 - as above
            else:
                os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            mapped_mounts.mount(tree, place, maps.get((uids, gids)), whole=True)
            os.close(tree)

    def within(self, payload: int) -> None:
        """The container is there, and nothing of the agent runs in it yet."""

    def stay(self, container: int, hive: int) -> None:
        """Returns when the container has ended, or shall."""
        wrapper.watch(container, hive)


def supervise(spec: dict[str, Any], status: int, extra: Round | None = None) -> None:
    """Starts the container, has its program started in it, and stays until it has ended or the hive is dead."""
    extra = extra or Round(spec)
    if wrapper.hung_up(status):
        os._exit(0)
    wrapper.step(status, "mounts", _own_mounts)
    wrapper.step(status, "binds", extra.before)
    line, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    line.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
    log = os.memfd_create("nspawn")
    _leave_a_watch(spec["mark"])
    container = os.fork()
    if container == 0:
        _become_nspawn(spec, theirs.fileno(), log)
    theirs.close()
    handle = os.pidfd_open(container)
    payload = _hello(line, handle, status)
    if payload is None:
        _give_up(spec, log)
    wrapper.step(status, "mounts", lambda: _close(payload))
    wrapper.step(status, "network", lambda: extra.within(payload))
    wrapper.forward_term(os.pidfd_open(payload))
    wrapper.say(status, b'{"child-pid":%d}\n' % payload)
    if _gate_opens(spec["gate"], handle, status):
        failed = _hand_over(line, spec)
        wrapper.say(status, b'{"step":"exec","errno":%d}\n' % failed if failed else b'{"started":true}\n')
        extra.stay(handle, status)
    wrapper.kill_marked(spec["mark"])
    wrapper.end_like(container)


def _own_mounts() -> None:
    """From here on nothing that is mounted is seen outside; what nspawn leaves under /run goes with us."""
    libc = wrapper.c_library()
    os.makedirs(NSPAWN_RUN, mode=0o755, exist_ok=True)  # noqa: PTH103 - as above
    check(libc.unshare(CLONE_NEWNS))
    check(libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None))
    check(libc.mount(b"tmpfs", NSPAWN_RUN.encode(), b"tmpfs", 0, b"mode=755"))


def _close(payload: int) -> None:
    """Closes what nspawn leaves open.

    It shows control groups and devices of the machine under /sys, a socket and a directory of its own under /run/host,
    and lets anybody in the container make users, and so capabilities, of his own.
    """
    libc = wrapper.c_library()

    def cover() -> None:
        check(libc.setns(os.open(f"/proc/{payload}/ns/mnt", os.O_RDONLY), CLONE_NEWNS))
        flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        for place in (b"/sys", b"/run/host"):
            check(libc.mount(b"tmpfs", place, b"tmpfs", flags, b"mode=555"))

    def no_more_users() -> None:  # the file is another one for each user namespace that looks at it
        users = os.open(f"/proc/{payload}/ns/user", os.O_RDONLY)
        if not os.access(
            _USERS_LIMIT, os.W_OK
        ):  # the hive lives in a container itself, which shows it read-only
            check(libc.unshare(CLONE_NEWNS))
            check(libc.mount(b"proc", b"/proc", b"proc", 0, None))
        check(libc.setns(users, _CLONE_NEWUSER))
        os.write(os.open(_USERS_LIMIT, os.O_WRONLY), b"0")

    for work in (cover, no_more_users):
        in_a_child(work)


def in_a_child(work: Callable[[], None]) -> None:
    """For what changes namespaces. Raises: OSError: as `work` did."""
    child = os.fork()
    if child == 0:
        failed = 1
        try:
            work()
            failed = 0
        except OSError as error:
            failed = error.errno or 1
        finally:
            os._exit(failed)
    failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if failed:
        raise OSError(failed, "in the container")


def _leave_a_watch(mark: int) -> None:
    """Another process, which kills what is left when this one is killed.

    The kernel would not: nspawn dies with its parent, but the first process of its container does not die with nspawn
    where that container has users of its own.
    """
    own = os.getpid()
    if os.fork() != 0:
        return
    watched = os.pidfd_open(own)
    os.dup2(watched, _OUT_OF_THE_WAY)
    os.closerange(0, _OUT_OF_THE_WAY)
    os.closerange(_OUT_OF_THE_WAY + 1, 4096)
    if os.getppid() == own:
        poll = select.poll()
        poll.register(_OUT_OF_THE_WAY, select.POLLIN)
        poll.poll()
    wrapper.kill_marked(mark)
    os._exit(0)


def check(done: int) -> None:
    """Raises: OSError: a call of the C library was refused."""
    if done != 0:
        import ctypes

        raise OSError(ctypes.get_errno(), "refused")


def _become_nspawn(spec: dict[str, Any], line: int, log: int) -> NoReturn:
    """In the child. Only the line goes into the container: by socket activation, the one way that nspawn leaves."""
    try:
        libc = wrapper.c_library()
        libc.prctl(wrapper.PR_SET_PDEATHSIG, wrapper.SIGKILL, 0, 0, 0)
        if spec["close_abstract"]:
            wrapper.close_abstract_sockets()
        for number in range(1, 65):
            libc.signal(number, None)
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for number, fd in enumerate((null, log, log, line)):
            os.dup2(fd, _OUT_OF_THE_WAY + number)
        for number in range(4):
            os.dup2(_OUT_OF_THE_WAY + number, number)
        os.closerange(4, 4096)
        env = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        os.execve(spec["container"][0], spec["container"], env)  # noqa: S606 - this is the point
    finally:
        os._exit(127)


def _hello(line: _socket.socket, container: int, hive: int) -> int | None:
    """The pid of the program in the container, which the kernel vouches for; None where it does not come so far."""
    if not _readable(line.fileno(), container, hive):
        return None
    told, extra, _, _ = line.recvmsg(1, _socket.CMSG_SPACE(12))
    for _, kind, data in extra:
        if told and kind == _socket.SCM_CREDENTIALS:
            return int.from_bytes(data[:4], sys.byteorder)
    return None


def _readable(fd: int, container: int, hive: int) -> bool:
    """Waits until there is something to read; False where the container or the hive ended first."""
    poll = select.poll()
    for each in (fd, container, hive):
        poll.register(each, select.POLLIN)
    return fd in dict(poll.poll())


def _gate_opens(gate: int | None, container: int, hive: int) -> bool:
    return gate is None or _readable(gate, container, hive)


def _hand_over(line: _socket.socket, spec: dict[str, Any]) -> int:
    """What to run and its three pipes, which are then its own alone. 0 once it runs, else why it does not."""
    words = [spec["cwd"], str(len(spec["argv"])), *spec["argv"]]
    words += [f"{name}={value}" for name, value in spec["env"].items()]
    what = os.memfd_create("program")
    with os.fdopen(what, "wb", closefd=False) as file:
        file.write(b"\0".join(os.fsencode(word) for word in words))
    os.lseek(what, 0, os.SEEK_SET)
    answer, answering = os.pipe()
    fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2, what, answering))
    try:  # noqa: SIM105 - as above
        line.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
    except OSError:  # it has ended: what follows finds that out
        pass
    os.close(what)
    os.close(answering)
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    return int(os.read(answer, 16) or b"0")  # closed by what it becomes


def _give_up(spec: dict[str, Any], log: int) -> NoReturn:
    """Says what nspawn said, where the hive looks for it."""
    wrapper.kill_marked(spec["mark"])
    os.lseek(log, 0, os.SEEK_SET)
    os.write(2, os.read(log, 65536)[-4096:])
    os._exit(1)


if __name__ == "__main__":
    wrapper.run(supervise)
