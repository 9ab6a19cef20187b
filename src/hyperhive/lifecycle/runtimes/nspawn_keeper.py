"""As `nspawn_wrapper`, for a container that holds an agent's harness, too; run as `python -ISB nspawn_keeper.py FD`.

Such a container outlives the hive that started it: once its program runs, this process has no parent and no line to
anybody. It is found by its mark, and what the container was started as stands in this process's environment. Beside the
wrapper's work it gives the harness's root its processes and devices, and keeps the way out.

Standard library only, and none of the slow modules, as its model.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hyperhive.lifecycle.runtimes import nspawn_wrapper, wrapper
else:
    sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - pathlib costs as much as the rest
    import nspawn_wrapper
    import wrapper

NETWORK_SECONDS = 20.0

_NS_GET_USERNS = 0xB701
_MS_BIND, _MS_REC = 0x1000, 0x4000


class Lodging(nspawn_wrapper.Round):
    """What an agent's own container needs beside the rest."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self._shown: list[tuple[str, str]] = spec["shown"]
        self._way_out: list[str] = spec["way_out"]

    def within(self, payload: int) -> None:
        """The harness's own root shows processes and devices as the container does; then there is a way out."""

        def show() -> None:
            libc = wrapper.c_library()
            nspawn_wrapper.check(
                libc.setns(os.open(f"/proc/{payload}/ns/mnt", os.O_RDONLY), nspawn_wrapper.CLONE_NEWNS)
            )
            for source, target in self._shown:
                nspawn_wrapper.check(
                    libc.mount(source.encode(), target.encode(), None, _MS_BIND | _MS_REC, None)
                )

        nspawn_wrapper.in_a_child(show)
        if self._way_out:
            _join(self._way_out, payload)

    def stay(self, container: int, hive: int) -> None:
        """Whatever becomes of the hive."""
        os.close(hive)
        wrapper.watch(container, container)


def _join(command: list[str], payload: int) -> None:
    """Starts what joins the container's network to the world; returns when that leads out."""
    import fcntl

    network = os.open(f"/proc/{payload}/ns/net", os.O_RDONLY)
    users = fcntl.ioctl(network, _NS_GET_USERNS)
    child = os.fork()
    if child == 0:
        try:
            libc = wrapper.c_library()
            libc.prctl(wrapper.PR_SET_PDEATHSIG, wrapper.SIGKILL, 0, 0, 0)
            for number in range(1, 65):  # it takes offence at what Python ignores
                libc.signal(number, None)
            os.dup2(users, 64)
            os.dup2(network, 65)
            os.dup2(64, 0)
            os.dup2(65, 1)
            os.closerange(3, 4096)
            os.execve(command[0], command, {})  # noqa: S606 - this is the point
        finally:
            os._exit(127)
    os.close(users)
    os.close(network)
    end = time.monotonic() + NETWORK_SECONDS
    while not _leads_out(payload):
        if os.waitpid(child, os.WNOHANG)[0] or time.monotonic() > end:
            raise OSError(101, "there is no way out")  # ENETUNREACH
        time.sleep(0.002)


def _leads_out(payload: int) -> bool:
    """Whether there is a default route over something else than the loopback. Nothing tells of a new one."""
    for name, device, target in (("route", 0, 1), ("ipv6_route", -1, 0)):
        try:
            with open(f"/proc/{payload}/net/{name}") as file:  # noqa: PTH123 - pathlib costs as much as the rest
                rows = [line.split() for line in file]
        except OSError:
            continue
        if any(len(row) > 5 and row[device] != "lo" and set(row[target]) == {"0"} for row in rows):
            return True
    return False


def supervise(spec: dict[str, Any], status: int) -> None:
    """On its own from here on."""
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    nspawn_wrapper.supervise(spec, status, Lodging(spec))


if __name__ == "__main__":
    wrapper.run(supervise)
