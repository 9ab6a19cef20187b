"""What the programs in a box reach: nothing, the world outside through pasta, or all that the host does."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from hyperhive.config import AgentConfig, Limits, Network
from hyperhive.errors import MissingPart
from hyperhive.lifecycle.networks import network_in_force
from hyperhive.lifecycle.runtimes import ResourceLimits
from hyperhive.lifecycle.runtimes.pasta import hidden_resolver
from hyperhive.testing.runtime_kit import RuntimeKit, finish
from parts import NSPAWN_BASE

REACH = """
import socket, sys
for where in sys.argv[1:]:
    kind, _, at = where.partition("=")
    host, _, port = at.rpartition(":")
    family = {"tcp": socket.AF_INET, "abstract": socket.AF_UNIX}[kind]
    with socket.socket(family) as it:
        it.settimeout(3)
        try:
            it.connect((host, int(port)) if kind == "tcp" else chr(0) + at)
            print(where, it.recv(5).decode())
        except OSError as error:
            print(where, "-")
"""


@pytest.fixture
async def kit(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RuntimeKit]:
    monkeypatch.setenv("HYPERHIVE_NSPAWN_BASE", str(NSPAWN_BASE))
    async with RuntimeKit.open(getattr(request, "param", "bwrap"), tmp_path) as made:
        yield made


both = pytest.mark.parametrize(
    "kit", ["bwrap", pytest.param("nspawn", marks=pytest.mark.needs("nspawn"))], indirect=True
)


@contextlib.contextmanager
def listening(family: socket.AddressFamily, address: object) -> Iterator[socket.socket]:
    """A server that says `hello` to everybody."""
    with socket.socket(family) as server:
        server.bind(address)  # type: ignore[arg-type]
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as client:
                        client.sendall(b"hello")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


async def reached(kit: RuntimeKit, network: Network, *where: str) -> list[bool]:
    """Which of these a program in a box of this network reaches."""
    child = await kit.start("/usr/bin/python3", "-c", REACH, *where, network=network)
    ended = await finish(child)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert len(lines) == len(where)
    return [line.endswith(" hello") for line in lines]


@both
@pytest.mark.needs("bwrap")
async def test_a_box_without_a_network_reaches_nothing_of_the_host_nor_beyond(kit: RuntimeKit) -> None:
    name = f"hyperhive-{os.getpid()}"
    with (
        listening(socket.AF_INET, ("127.0.0.1", 0)) as near,
        listening(socket.AF_INET, (own_address(), 0)) as everywhere,
        listening(socket.AF_UNIX, f"\0{name}"),
    ):
        port, wide = near.getsockname()[1], everywhere.getsockname()[1]
        where = [f"tcp=127.0.0.1:{port}", f"tcp={own_address()}:{wide}", f"abstract={name}"]
        assert not any(await reached(kit, "none", *where, "tcp=1.1.1.1:53"))
        assert (await reached(kit, "host", where[0])) == [True], "what was looked for is there"


@both
@pytest.mark.needs("bwrap")
async def test_a_box_without_a_network_has_its_own_loopback_alone(kit: RuntimeKit) -> None:
    ended = await kit.shell("cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /proc/net/route | tail -n +2")
    assert ended.out.split() == ["lo"]
    child = await kit.start("/usr/bin/python3", "-c", LOOPBACK)
    assert (await finish(child)).out == "over its own loopback\n"


LOOPBACK = """
import socket
server = socket.create_server(("127.0.0.1", 0))
near = socket.create_connection(server.getsockname())
server.accept()[0].sendall(b"over its own loopback")
print(near.recv(100).decode())
"""


@both
@pytest.mark.needs("bwrap", "pasta", "root", "ip")
async def test_out_reaches_beyond_the_host_and_nothing_of_the_host_itself(
    kit: RuntimeKit, beyond: str
) -> None:
    name = f"hyperhive-out-{os.getpid()}"
    with (
        listening(socket.AF_INET, ("127.0.0.1", 0)) as near,
        listening(socket.AF_INET, (own_address(), 0)) as everywhere,
        listening(socket.AF_INET, (beyond, 0)) as far,
        listening(socket.AF_UNIX, f"\0{name}"),
    ):
        port, wide = near.getsockname()[1], everywhere.getsockname()[1]
        closed = [f"tcp=127.0.0.1:{port}", f"abstract={name}", f"tcp={gateway()}:{wide}"]
        closed += [f"tcp={own_address()}:{wide}"]
        found = await reached(kit, "out", *closed, f"tcp={beyond}:{far.getsockname()[1]}")
    assert found == [False] * len(closed) + [True]


@pytest.mark.needs("bwrap", "pasta")
async def test_out_opens_no_port_of_the_box_on_the_host(kit: RuntimeKit) -> None:
    child = await kit.start("/usr/bin/python3", "-c", SERVE, network="out")
    try:
        with anyio.fail_after(20):
            port = int((await child.stdout.receive()).split()[0])
        for at in ("127.0.0.1", own_address()):
            with socket.socket() as client:
                assert client.connect_ex((at, port)) != 0
    finally:
        await child.aclose()


SERVE = """
import socket, time
server = socket.create_server(("0.0.0.0", 0))
print(server.getsockname()[1], flush=True)
time.sleep(600)
"""


@pytest.mark.needs("bwrap", "pasta")
async def test_the_way_out_ends_with_its_box(kit: RuntimeKit) -> None:
    before = pastas()
    child = await kit.start("/bin/sleep", "600", network="out")
    assert len(pastas() - before) == 1
    await child.aclose()
    assert pastas() == before
    child = await kit.start("/bin/true", network="out")
    await finish(child)
    assert pastas() == before, "the wrapper ends when nothing of the box is left"


@pytest.mark.needs("bwrap")
async def test_without_pasta_a_box_that_needs_a_network_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("bwrap", "systemd-run"):
        if found := shutil.which(program):
            (tmp_path / "bin" / program).symlink_to(found)
    environ = {"PATH": str(tmp_path / "bin")}
    async with RuntimeKit.open("bwrap", tmp_path / "kit", environ) as kit:
        with pytest.raises(MissingPart) as refused:
            await kit.start("/bin/true", network="out")
        assert "passt" in str(refused.value.hint)
        assert any("pasta" in caution for caution in kit.runtime.cautions)
        (tmp_path / "bin" / "pasta").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin" / "pasta").chmod(0o755)
        with pytest.raises(MissingPart, match="cannot join"):  # it is found once it is there
            await kit.start("/bin/true", network="out")
        assert (await finish(await kit.start("/bin/true", network="none"))).code == 0


@pytest.mark.needs("bwrap")
async def test_a_pasta_that_does_not_work_refuses_the_box_with_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pasta").write_text("#!/bin/sh\necho no network today >&2\nexit 1\n")
    (tmp_path / "bin" / "pasta").chmod(0o755)
    environ = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    async with RuntimeKit.open("bwrap", tmp_path / "kit", environ) as kit:
        with pytest.raises(MissingPart, match="no network today"):
            await kit.start("/bin/true", network="out")


@pytest.mark.parametrize(
    ("asked", "allowed", "behind_gateway", "network"),
    [
        (None, ("none", "out", "host"), True, "none"),
        (None, ("none", "out", "host"), False, "out"),
        ("host", ("none", "out", "host"), True, "host"),
        ("host", ("none", "out"), True, "out"),
        ("host", ("none",), False, "none"),
        ("out", ("host",), False, "none"),
        ("none", ("host",), False, "none"),
        (None, ("none",), False, "none"),
    ],
)
def test_a_network_is_what_was_asked_for_and_no_wider_than_the_limits(
    asked: Network | None, allowed: tuple[Network, ...], behind_gateway: bool, network: Network
) -> None:
    config = AgentConfig(network=asked, limits=Limits(network=allowed))
    assert network_in_force(config, isolated=True, behind_gateway=behind_gateway) == network
    assert network_in_force(config, isolated=False, behind_gateway=behind_gateway) == "host"


def test_a_resolver_on_the_hosts_loopback_is_reached_by_another_address(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.53\nnameserver ::1\nsearch example.org\n")
    assert hidden_resolver(file) == b"nameserver 169.254.1.53\nsearch example.org\n"
    for text in (
        "nameserver 192.0.2.1\n",
        "nameserver 127.0.0.53\nnameserver 192.0.2.1\n",
        "",
        "nameserver\n",
    ):
        file.write_text(text)
        assert hidden_resolver(file) is None
    assert hidden_resolver(tmp_path / "none") is None


@pytest.mark.needs("bwrap")
async def test_a_changed_network_is_another_revision(kit: RuntimeKit) -> None:
    networks: tuple[Network, ...] = ("none", "out", "host")
    found = {
        kit.runtime.launcher(kit.agent, mounts=(), limits=ResourceLimits(), network=one).revision
        for one in networks
    }
    assert len(found) == 3


# --- this machine -----------------------------------------------------------------------------------------------------


@pytest.fixture
def beyond() -> Iterator[str]:
    """An address that boxes do not know to be the host's, and that leads nowhere but to this machine."""
    address = "198.51.100.77"
    subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    try:
        yield address
    finally:
        subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=True)


def own_address() -> str:
    """The host's own, not its loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        it.connect(("192.0.2.200", 9))  # sends nothing
        return str(it.getsockname()[0])


def gateway() -> str:
    rows = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    found = next(row[2] for row in rows if row[1] == "00000000")
    return socket.inet_ntoa(bytes.fromhex(found)[::-1])


def pastas() -> set[int]:
    """The pids of all pastas."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if b"--config-net" in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found
