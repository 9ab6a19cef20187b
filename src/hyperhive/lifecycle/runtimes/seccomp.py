"""The system calls that no program in a box needs, as a seccomp filter that bubblewrap installs.

Namespaces are the wall; this takes away what reaches through them: kernel keyrings (they are the user's, not the
box's), and the entry points that kernel exploits like best. A refused call fails with EPERM, so that programs that
only try one go on.
"""

import platform
import struct
from typing import Final

_ALLOW: Final = 0x7FFF0000
_EPERM: Final = 0x00050001
_LD_ARCH: Final = (0x20, 0, 0, 4)  # A = seccomp_data.arch
_LD_NUMBER: Final = (0x20, 0, 0, 0)  # A = seccomp_data.nr
_X32: Final = 0x40000000

_DENIED: Final[dict[str, tuple[int, int]]] = {
    # name: (x86_64, aarch64); -1 where the machine has none
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, -1),
    "iopl": (172, -1),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def filter_program(machine: str | None = None) -> bytes | None:
    """The filter for this machine (or the one named) as classic BPF; None where its call numbers are not known."""
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    column, arch = known
    numbers = sorted(pair[column] for pair in _DENIED.values() if pair[column] >= 0)
    program = [
        _LD_ARCH,
        (0x15, 1, 0, arch),  # another architecture's calls have other numbers: refuse them all
        (0x06, 0, 0, _EPERM),
        _LD_NUMBER,
    ]
    if column == 0:
        program += [(0x35, 0, 1, _X32), (0x06, 0, 0, _EPERM)]
    for number in numbers:
        program += [(0x15, 0, 1, number), (0x06, 0, 0, _EPERM)]
    program.append((0x06, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in program)


def denied_calls() -> list[str]:
    """Names of the calls that are refused."""
    return sorted(_DENIED)
