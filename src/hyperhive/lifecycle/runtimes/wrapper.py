"""The program between the hive and a payload, run as `python -IS wrapper.py FD`; the hive imports only its scanner.

It puts itself under the agent's limits and mark BEFORE anything of the payload exists, starts the payload (or the box
round it), and stays as its supervisor: it forwards TERM, and when the payload ends, or the hive dies, it kills whatever
still bears the mark. Bubblewrap's own `--die-with-parent` is no substitute: a box whose parent dies while it is being
made lives on.

The mark: a value of RLIMIT_RTTIME (microseconds of realtime CPU; this one is 146,000 years). Every descendant inherits
it, whatever session, process group or parent it moves to and whatever it does to its environment, and only privilege
could raise it again. So no window is left in which a process exists that nobody recorded.

Standard library only, and none of the slow modules: this start-up is part of an agent's first turn.
"""

from __future__ import annotations

import marshal
import os
import resource
import select
import sys
import time

TYPE_CHECKING = (
    False  # `typing` costs 10 ms, `signal` 5: what every start pays is imported here, the rest where used
)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MARK_BIT = 1 << 62
LAUNCH_BITS = 20
AGENT_BITS = 16
"""A mark is, from the top: the one bit that no sane limit has, the hive, the agent, the launch."""

ONE_LAUNCH, ONE_AGENT, ONE_HIVE = 0, LAUNCH_BITS, LAUNCH_BITS + AGENT_BITS
"""How many of the lowest bits to look past: whose processes are meant."""

_QUIET_LOOKS = 3

SIGKILL, SIGTERM = 9, 15
PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_SCOPE_ABSTRACT_UNIX = 1


def marked(mark: int, scope: int = ONE_LAUNCH) -> list[int]:
    """Living processes (no zombies, not this one) that bear `mark`, or one of the same agent or hive."""
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs as much as the rest of this program
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        if mark_of(int(entry)) >> scope == mark >> scope and not _is_zombie(int(entry)):
            found.append(int(entry))
    return found


def kill_marked(mark: int, scope: int = ONE_LAUNCH, *, seconds: float = 10.0) -> list[int]:
    """Kills every process that `marked` finds until there is none. Blocks; returns those that would not die.

    One look that finds nothing proves nothing: a process may fork and end between the listing and its own turn to be
    looked at. Whatever it left is in the next listing.
    """
    end = time.monotonic() + seconds
    quiet = 0
    while quiet < _QUIET_LOOKS:
        pids = marked(mark, scope)
        if pids and time.monotonic() > end:
            return pids
        quiet = 0 if pids else quiet + 1
        kill_pids(pids, still=lambda pid: mark_of(pid) >> scope == mark >> scope)
    return []


def kill_pids(pids: list[int], *, still: Callable[[int], bool] = lambda _: True) -> None:
    """Kills these and waits a moment for their ends.

    A pid is signalled through a descriptor that was taken before `still` looked at it again, so that one which was
    reused in between is never hit.
    """
    ends = select.poll()
    handles = []
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except OSError:  # it has ended by itself
            continue
        handles.append(handle)
        if still(pid):
            ends.register(handle, select.POLLIN)
            send_signal(handle, SIGKILL)
    if handles:
        ends.poll(50)
    for handle in handles:
        os.close(handle)


def mark_of(pid: int) -> int:
    """What mark a process bears; 0: none, or it has ended."""
    try:
        return resource.prlimit(pid, resource.RLIMIT_RTTIME)[1]
    except PermissionError:
        # Not ours to look at and so not ours to kill, but for a root that lacks a capability.
        return _mark_in_text(pid) if os.geteuid() == 0 else 0
    except (OSError, ValueError):  # gone
        return 0


def _mark_in_text(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:  # noqa: PTH123 - as above
            hard = file.read().partition(b"Max realtime timeout")[2].split()[1]
        return int(hard) if hard.isdigit() else 0
    except (OSError, IndexError):
        return 0


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
            return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except OSError:
        return True


def send_signal(handle: int, number: int) -> None:
    """Signals a process by its descriptor; nothing happens where it has ended."""
    import signal

    try:  # noqa: SIM105 - contextlib costs 3 ms
        signal.pidfd_send_signal(handle, number)
    except OSError:  # it has ended by itself
        pass


# --- the program ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Does what the spec in the descriptor `sys.argv[1]` says."""
    run(_supervise)


def run(supervise: Callable[[dict[str, Any], int], None]) -> None:
    """Reads the spec, takes on limits and mark, and goes on with `supervise(spec, status)`."""
    fd = int(sys.argv[1])
    os.lseek(fd, 0, os.SEEK_SET)
    spec: dict[str, Any] = marshal.loads(b"".join(iter(lambda: os.read(fd, 1 << 20), b"")))  # noqa: S302 - our own
    os.close(fd)
    status: int = spec["status_fd"]
    try:
        step(status, "limits", lambda: enter(spec))
        supervise(spec, status)
    except OSError:  # reported by the step
        os._exit(127)


def step(status: int, name: str, run: Callable[[], None]) -> None:
    """One step of a start; the hive is told which one failed, and why."""
    try:
        run()
    except OSError as error:
        say(status, b'{"step":"%s","errno":%d}\n' % (name.encode(), error.errno or 0))
        raise


def say(status: int, line: bytes) -> None:
    """Tells the hive."""
    try:  # noqa: SIM105 - contextlib costs 3 ms
        os.write(status, line)
    except OSError:  # the hive is dead: what is due then is done by whoever watches the line
        pass


def enter(spec: dict[str, Any]) -> None:
    """Takes on the agent's cgroups, resource limits and mark."""
    for path in spec["cgroups"]:
        file = os.open(path, os.O_WRONLY)
        os.write(file, b"0")  # "0" is the writer itself
        os.close(file)
    for number, wanted in spec["rlimits"]:
        hard = resource.getrlimit(number)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(number, (value, value))
    try:
        resource.setrlimit(resource.RLIMIT_RTTIME, (spec["mark"], spec["mark"]))
    except ValueError as error:  # a lower hard limit is in force
        raise PermissionError(1, "RLIMIT_RTTIME") from error


def c_library() -> Any:  # noqa: ANN401 - that is what ctypes gives
    """The C library, for what `os` does not have."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def close_abstract_sockets() -> None:
    """Where Landlock can (Linux 6.12): no abstract unix socket that was made outside this domain can be reached."""
    import ctypes

    libc = c_library()
    attributes = (ctypes.c_uint64 * 3)(0, 0, _LANDLOCK_SCOPE_ABSTRACT_UNIX)
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(24), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) != 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(ruleset)


def _exec(spec: dict[str, Any]) -> None:
    libc = c_library()
    for number in range(
        1, 65
    ):  # what Python, or `nohup` round the hive, ignores would be ignored behind exec too
        libc.signal(number, None)
    for number, fd in enumerate(spec["stdio"]):
        os.dup2(fd, number)
    if spec["become"] is not None:
        _become(libc, *spec["become"])
    os.chdir(spec["cwd"])
    os.execve(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 - this is the point


def _become(libc: Any, uid: int, root: int) -> None:  # noqa: ANN401 - that is what ctypes gives
    """In a container: another user without privilege or a way to any, in the root that the descriptor stands for."""
    import ctypes

    parent = os.getppid()
    if root >= 0:
        os.fchdir(root)
        os.chroot(".")
        os.close(root)
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # the kernel knows no more
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0 or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "privileges cannot be given up")
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)  # another user starts without it
    if os.getppid() != parent:
        os._exit(127)


def hung_up(status: int) -> bool:
    """Whether the hive is dead already: its line says nothing else. Not `select`, which knows no number over 1023."""
    line = select.poll()
    line.register(status, select.POLLIN)
    return bool(line.poll(0))


def _supervise(spec: dict[str, Any], status: int) -> None:
    if hung_up(status):
        os._exit(0)
    started, started_w = os.pipe()
    payload = os.fork()
    if payload == 0:
        try:
            c_library().prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
            if spec["close_abstract"]:
                close_abstract_sockets()
            os.set_inheritable(status, spec["box_tells"])
            os.setsid()
            _exec(spec)
        except OSError as error:
            os.write(started_w, b"%d" % (error.errno or 0))
        os._exit(127)
    os.close(started_w)
    handle = os.pidfd_open(payload)
    forward_term(handle)
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):  # the pipes are the payload's alone: their ends must be seen when it closes them
        os.dup2(null, stream)
    if failed := os.read(started, 16):
        say(status, b'{"step":"exec","errno":%d}\n' % int(failed))
        os._exit(127)
    if not spec["box_tells"]:
        say(status, b'{"child-pid":%d}\n' % payload)
    watch(handle, status)
    kill_marked(spec["mark"])
    end_like(payload)


def forward_term(handle: int) -> None:
    """From here on SIGTERM goes to this process."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: send_signal(handle, SIGTERM))


def watch(payload: int, hive: int) -> None:
    """Returns when the payload has ended or the hive has closed its end of the line, be it by dying."""
    poll = select.poll()
    poll.register(payload, select.POLLIN)
    poll.register(hive, select.POLLIN)
    poll.poll()


def end_like(payload: int) -> None:
    """Ends as the payload did, by the same signal where it was one."""
    import signal

    _, ended = os.waitpid(payload, 0)
    if os.WIFSIGNALED(ended):
        if (number := os.WTERMSIG(ended)) != SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(ended))


if __name__ == "__main__":
    main()
