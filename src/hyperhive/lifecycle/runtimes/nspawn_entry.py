"""The first program in an nspawn container, run there as `python3 -ISB -c TEXT`: becomes the agent's program.

It is root of the container's own users. It says that it is there, is handed what to run and its three pipes over
descriptor 3 (see `nspawn_wrapper`), and says why where that cannot be run. It knows nothing of the hive, and uses what
the smallest Python has.

With arguments, `VIEW [NAME=TARGET ...]`, the program gets another root, which nobody but root may enter: VIEW, with
these links in it. The root that the others see is its descriptor 3.
"""

import _socket
import os
import signal
import sys

_CLOSED_BEHIND_EXEC = 0x40000000  # MSG_CMSG_CLOEXEC
_PLACES = ("proc", "dev")


def make_view(view: str, links: list[str]) -> None:
    """What is not bound there."""
    for name in _PLACES:
        os.mkdir(f"{view}/{name}", 0o755)  # noqa: PTH102 - the smallest Python has no pathlib
    for name, target in (link.split("=", 1) for link in links):
        os.symlink(target, f"{view}/{name}")  # noqa: PTH211 - as above


def main() -> None:
    """Becomes the program."""
    line = _socket.socket(fileno=3)
    os.set_inheritable(3, False)  # noqa: FBT003 - it takes no name
    view = sys.argv[1] if len(sys.argv) > 1 else None
    if view is not None:
        make_view(view, sys.argv[2:])
    line.sendall(b"x")
    _, extra, _, _ = line.recvmsg(1, _socket.CMSG_SPACE(20), _CLOSED_BEHIND_EXEC)
    if not extra:
        os._exit(127)  # nobody is there any more
    handed = [int.from_bytes(extra[0][2][at : at + 4], sys.byteorder) for at in range(0, 20, 4)]
    with os.fdopen(handed[3], "rb") as file:
        words = file.read().split(b"\0")
    count = int(words[1])
    env = dict(word.split(b"=", 1) for word in words[2 + count :])
    try:
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python
            signal.signal(ignored, signal.SIG_DFL)
        if os.getsid(0) != os.getpid():
            os.setsid()
        if view is not None:
            os.dup2(os.open("/", os.O_PATH | os.O_DIRECTORY), 3)
            os.chroot(view)
        os.chdir(words[0])
        for number in range(3):
            os.dup2(handed[number], number)
        os.execvpe(words[2], words[2 : 2 + count], env)  # noqa: S606 - this is the point
    except OSError as error:
        os.write(handed[4], b"%d" % (error.errno or 1))
    os._exit(127)


if __name__ == "__main__":
    main()
