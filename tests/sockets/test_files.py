"""Claims about socket files: who can reach them, and what becomes of stale ones."""

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from hyperhive.errors import Conflict, PathTooLong, WorldError
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.requests import Subscribe
from hyperhive.sockets import SocketServer
from peer import peer
from small_hive import agent, operator, small_hive


async def test_sockets_are_0600_in_directories_of_their_own_that_are_0700(root: Path) -> None:
    (root / "run" / "agents" / "alice").mkdir(parents=True, mode=0o755)
    async with small_hive(root) as hive:
        for path in (hive.host, hive.tools_socket("alice"), hive.harness_socket("bob")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_socket_file_that_nobody_listens_on_is_replaced(root: Path) -> None:
    (root / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(root / "run" / "host.sock"))
    async with small_hive(root) as hive, peer(hive.host) as anyone:
        assert (await anyone.ask({"cmd": "list"}))["ok"]


async def test_a_socket_that_somebody_listens_on_is_left_alone(root: Path) -> None:
    async with small_hive(root) as hive, _server() as second:
        with pytest.raises(Conflict, match="another process listens"):
            await second.listen(hive.host, operator())
        async with peer(hive.host) as anyone:
            assert (await anyone.ask({"cmd": "list"}))["ok"]


async def test_what_is_no_socket_is_never_removed(root: Path) -> None:
    path = root / "run" / "host.sock"
    path.parent.mkdir()
    path.write_text("precious")
    async with _server() as server:
        with pytest.raises(Conflict, match="no socket"):
            await server.listen(path, operator())
    assert path.read_text() == "precious"


async def test_the_files_are_removed_at_the_end_but_not_one_that_another_put_there(root: Path) -> None:
    async with small_hive(root) as hive:
        alice, bob = hive.tools_socket("alice"), hive.tools_socket("bob")
        bob.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(bob))
    assert not alice.exists()
    assert bob.exists()


async def test_a_path_that_the_kernel_cannot_bind_is_refused_with_the_way_out(root: Path) -> None:
    async with _server() as server:
        with pytest.raises(PathTooLong, match="HYPERHIVE_RUN_DIR"):
            await server.listen(root / ("x" * 100) / "host.sock", operator())


async def test_a_directory_behind_a_symlink_is_refused(root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to(root / "real")
    async with _server() as server:
        with pytest.raises(WorldError, match="own"):
            await server.listen(root / "link" / "mcp.sock", agent("alice"))


async def test_a_socket_that_is_no_longer_served_is_gone_with_its_connections(root: Path) -> None:
    async with small_hive(root) as hive:
        async with peer(hive.tools_socket("alice")) as alice, peer(hive.tools_socket("bob")) as bob:
            await alice.ask({"cmd": "status"})
            await hive.sockets.unlisten(hive.tools_socket("alice"))
            assert await alice.ended()
            assert not hive.tools_socket("alice").exists()
            assert (await bob.ask({"cmd": "status"}))["kind"] == "status"
        await hive.sockets.listen(hive.tools_socket("alice"), agent("alice"))
        async with peer(hive.tools_socket("alice")) as alice:
            assert (await alice.ask({"cmd": "status"}))["kind"] == "status"


async def test_two_thousand_sockets_cost_little(root: Path) -> None:
    before = _memory()
    async with small_hive(root, agents=()) as hive:
        for number in range(1000):
            await hive.sockets.listen(hive.tools_socket(f"a{number}"), agent(f"a{number}"))
            await hive.sockets.listen(hive.harness_socket(f"a{number}"), agent(f"a{number}"))
        assert _memory() - before < 40 * 1024 * 1024
        async with peer(hive.tools_socket("a999")) as last:
            assert (await last.ask({"cmd": "status"}))["kind"] == "status"


def _memory() -> int:
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return resident * os.sysconf("SC_PAGE_SIZE")


class _server:  # noqa: N801 - reads as a function
    """A server that serves nothing yet."""

    async def __aenter__(self) -> SocketServer:
        self._server = SocketServer(Dispatcher({}, _no_streams))
        return self._server

    async def __aexit__(self, *_: object) -> None:
        await self._server.aclose()


def _no_streams(caller: Caller, request: Subscribe) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
    raise AssertionError(caller, request)
