"""Attack C2: what could help to get out of a bubblewrap box, looked for from inside and held against a list."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from box_probe import POWERLESS, PROBE, lines
from hyperhive.testing.runtime_kit import RuntimeKit

pytestmark = [
    pytest.mark.needs("bwrap"),
    pytest.mark.may_block("the kit looks at files between programs; the runtime itself is watched elsewhere"),
]


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[RuntimeKit]:
    async with RuntimeKit.open("bwrap", tmp_path) as kit:
        yield kit


GOLDEN = f"""\
{POWERLESS}\
uid 1000 gid 1000 groups 1000 agent alice umask 0022
sys
cgroup /
dev core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero
processes bwrap sh
writable /state /claude /tmp /var/tmp /dev /dev/shm
nodes
passwd agent nobody
shadow
"""


async def test_a_probe_finds_nothing_to_escape_by(kit: RuntimeKit) -> None:
    """The list is written down whole: whatever is new in a box has to be put here on purpose.

    What of the machine is mounted there depends on the machine, and stands in `bwrap_command`.
    """
    assert lines((await kit.shell(PROBE)).out, without="mounts") == GOLDEN.splitlines()


async def test_calls_for_namespaces_mounts_and_devices_are_refused(kit: RuntimeKit) -> None:
    script = """
for cmd in 'unshare -U true' 'unshare -m true' 'unshare -n true' 'mount -t tmpfs x /tmp' 'mount -o remount,rw /usr' \
  'umount /usr' 'mknod /tmp/sda b 8 0' 'chroot /state true' 'hostname other' 'setpriv --reuid 0 true' \
  'dmesg' 'nsenter -t 1 -m true' 'kill -0 -1'; do
  $cmd >/dev/null 2>&1 && echo "$cmd"; done; cp /bin/sh /state/sh; chmod 6755 /state/sh; /state/sh -p -c 'id -u'"""
    assert (await kit.shell(script)).out.split() == ["1000"]
