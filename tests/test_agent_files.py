"""Agents' files as the operator is shown them: nothing outside their directories, nothing but files, never too much.

The attacks are those of security.md, row S5; the requests are the ones that the operator's socket serves.
"""

import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest

from hyperhive.agent_files import AgentFiles
from hyperhive.broker import MIGRATIONS, Broker
from hyperhive.errors import BadConfig, BadRequest, NotFound
from hyperhive.handlers.files import READ_MAX_BYTES, shown, state_files
from hyperhive.lifecycle.mounts import ResolvedMount
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.replies import Err, Reply, StateFile
from hyperhive.protocol.types import REPLY_LINE_MAX_BYTES
from hyperhive.store import Store

CANARY = "canary of the operator"
BOB = AgentName("bob")


class Place:
    """A broker, bob's directories, a file outside of them, and the operator's requests."""

    def __init__(self, root: Path, store: Store) -> None:
        self.paths = Paths.of(root / "s")
        self.state = self.paths.agent_state(BOB)
        self.app = root / "app"
        self.secret = root / "secret.txt"
        self.files = AgentFiles(self.paths, isolated=True, mounts=lambda _: self.mounts)
        self.broker = Broker(store=store, files=self.files)
        self.dispatcher = Dispatcher(state_files(self.broker, self.files), None)  # type: ignore[arg-type]

    def mounts(self) -> list[ResolvedMount]:
        return [ResolvedMount(self.app, "/workspace/app", writable=True)]

    async def ask(self, request: r.Request) -> Reply:
        return (await self.dispatcher.dispatch(Actor.operator(), request)).reply

    async def read(self, path: str) -> StateFile | str:
        """The file, or the code of the refusal."""
        reply = await self.ask(r.StateFileRead(agent="bob", path=path))
        assert isinstance(reply, StateFile | Err)
        return reply if isinstance(reply, StateFile) else reply.code


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with Store.open(tmp_path / "hive.sqlite", migrations=[MIGRATIONS]) as store:
        place = Place(tmp_path, store)
        place.state.mkdir(parents=True)
        place.app.mkdir()
        place.secret.write_text(CANARY)
        (place.state / "plan.md").write_text("the plan\n")
        (place.app / "main.py").write_text("print()\n")
        await place.broker.start()
        yield place
        await place.broker.aclose()


async def test_the_operator_sees_what_a_message_tells_of(place: Place) -> None:
    receipt = await place.broker.send("bob", "operator", "see plan.md or ./plan.md or /workspace/app/main.py")
    check = await place.ask(r.StateFileCheck(message=receipt.id))
    assert isinstance(check, StateFile)
    assert (check.file.path, check.file.size, check.file.kind) == ("/state/plan.md", 9, "text")
    assert check.text is None
    first = await place.ask(r.StateFileRead(message=receipt.id))
    second = await place.ask(r.StateFileRead(message=receipt.id, n=2))
    assert isinstance(first, StateFile)
    assert isinstance(second, StateFile)
    assert (first.text, second.text, first.truncated) == ("the plan\n", "print()\n", False)
    for request in (r.StateFileRead(message=receipt.id, n=3), r.StateFileRead(message=99)):
        reply = await place.ask(request)
        assert isinstance(reply, Err)
        assert reply.code == NotFound.code


async def test_any_file_of_an_agent_is_named_as_the_agent_sees_it(place: Place) -> None:
    for path in ("/state/plan.md", "plan.md", "~/plan.md", "/state/./plan.md"):
        file = await place.read(path)
        assert isinstance(file, StateFile)
        assert (file.file.path, file.text) == ("/state/plan.md", "the plan\n")
    assert isinstance(await place.read("/workspace/app/main.py"), StateFile)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"message": 1, "agent": "bob"},
        {"message": 1, "agent": "bob", "path": "x"},
        {"agent": "bob"},
        {"path": "x"},
    ],
    ids=str,
)
async def test_a_file_is_named_in_one_way(place: Place, fields: dict[str, object]) -> None:
    reply = await place.ask(msgspec.convert({"cmd": "state_file_read", **fields}, r.StateFileRead))
    assert isinstance(reply, Err)
    assert reply.code == BadRequest.code


@pytest.mark.parametrize("who", ["agent", "manager", "harness"])
async def test_only_the_operator_may_look(place: Place, who: str) -> None:
    actor = Actor(name=BOB, role=who, channel="tools")  # type: ignore[arg-type]
    for request in (
        r.StateFileRead(agent="bob", path="plan.md"),
        r.StateFileCheck(agent="bob", path="plan.md"),
    ):
        reply = (await place.dispatcher.dispatch(actor, request)).reply
        assert isinstance(reply, Err)
        assert reply.code == "forbidden"


async def test_a_refusal_says_whether_it_is_the_agent_the_directory_or_the_way(place: Place) -> None:
    for agent, path, said in (
        ("nobody", "plan.md", "there is no agent named nobody"),
        ("bob", "/workspace/app", "names a directory"),
        ("bob", "/workspace/app/", "names a directory"),
        ("bob", "../../etc/passwd", "does not lead downwards from where it starts"),
        ("bob", "gone.md", "there is no file"),
    ):
        reply = await place.ask(r.StateFileRead(agent=agent, path=path))
        assert isinstance(reply, Err)
        assert said in reply.message


async def test_nothing_outside_is_shown_by_whatever_way(place: Place) -> None:
    state = place.state
    (state / "link.txt").symlink_to(place.secret)
    (state / "dirlink").symlink_to(place.secret.parent)
    (state / "fd.txt").symlink_to(f"/proc/{os.getpid()}/root{place.secret}")
    (state / "cwd").symlink_to("/proc/self/cwd")
    depth = "../" * 20
    for path in (
        "/state/link.txt", "/state/dirlink/secret.txt", "/state/fd.txt", "/state/cwd/secret.txt",
        f"/state/{depth}{str(place.secret)[1:]}", f"{depth}{str(place.secret)[1:]}", str(place.secret), "/etc/passwd",
        f"/proc/self/root{place.secret}", "/workspace/app/../../secret.txt", "/workspace/other/x.txt", "/state", "/",
        "/state/plan.md/", "/state/plan.md/x", "plan.md\0", "\ud800.md", "x\n.md", "", "/claude/x.json",
        "/state/" + "a/" * 2000,
    ):  # fmt: skip
        with pytest.raises((BadRequest, NotFound)):
            await place.files.read(BOB, path, 100)


async def test_what_is_no_regular_file_is_refused_and_nobody_waits_for_it(place: Place) -> None:
    os.mkfifo(place.state / "fifo.txt")
    (place.state / "dir.d").mkdir()
    (place.state / "null.txt").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        inner = os.open(place.state, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{inner}/sock.txt")
        os.close(inner)
        with anyio.fail_after(20):
            for name in ("fifo.txt", "dir.d", "null.txt", "sock.txt"):
                assert await place.read(f"/state/{name}") == "bad_request"
                receipt = await place.broker.send("bob", "operator", f"see /state/{name}")
                assert (await place.broker.files_of(receipt.id)).refs == ()


async def test_a_mount_that_must_not_be_shown_is_not(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[ResolvedMount]:
        raise BadConfig(["mount /srv/app: it was exchanged"])

    monkeypatch.setattr(place, "mounts", refuse)
    assert await place.read("/workspace/app/main.py") == "bad_config"
    receipt = await place.broker.send(
        "bob", "operator", "see /workspace/app/main.py and plan.md /state/plan.md"
    )
    assert [ref.path for ref in (await place.broker.files_of(receipt.id)).refs] == ["/state/plan.md"]


async def test_what_was_a_file_when_it_was_told_of_is_looked_at_again(place: Place) -> None:
    receipt = await place.broker.send("bob", "operator", "see /state/plan.md")
    (place.state / "plan.md").unlink()
    (place.state / "plan.md").symlink_to(place.secret)
    reply = await place.ask(r.StateFileRead(message=receipt.id))
    assert isinstance(reply, Err)
    assert reply.code == BadRequest.code


async def test_swapping_a_directory_and_a_link_never_shows_what_is_outside(place: Place) -> None:
    """1,000 rounds of send, check and read, while a thread swaps the directory for a link as fast as it can."""
    outside = place.secret.parent / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text(CANARY)
    inside = place.state / "d"
    inside.mkdir()
    (inside / "a.txt").write_text("inside")
    (place.state / "l").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        state = place.state
        while not stop.is_set():
            for old, new in (("d", "t"), ("l", "d"), ("d", "l"), ("t", "d")):
                (state / old).rename(state / new)

    thread = threading.Thread(target=swap)
    thread.start()
    seen: set[str] = set()
    try:
        for _ in range(1000):
            with anyio.fail_after(20):
                file = await place.read("/state/d/a.txt")
                seen.add(file.text or "" if isinstance(file, StateFile) else file)
        for _ in range(50):
            receipt = await place.broker.send("bob", "operator", "see /state/d/a.txt")
            sizes = {ref.size for ref in (await place.broker.files_of(receipt.id)).refs}
            assert sizes <= {len("inside")}
    finally:
        stop.set()
        thread.join()
    assert CANARY not in seen
    assert "inside" in seen
    assert seen <= {"inside", "bad_request", "not_found"}


@pytest.mark.parametrize("piece", [b"a", b"\x01", b"\0", "ä€".encode(), b"\xff", b'"'])
async def test_a_large_file_is_cut_to_what_a_reply_takes(place: Place, piece: bytes) -> None:
    size = 3 * READ_MAX_BYTES
    (place.state / "big.txt").write_bytes((piece * (size // len(piece) + 1))[:size])
    file = await place.read("/state/big.txt")
    assert isinstance(file, StateFile)
    assert file.truncated
    assert file.file.size == size
    assert len(msgspec.json.encode(file)) < REPLY_LINE_MAX_BYTES
    assert (file.text is None) == (piece in {b"\0", b"\xff"})
    assert len(file.text or file.base64 or "") > 100_000


async def test_a_file_that_grows_or_shrinks_meanwhile_is_shown_as_it_was_read(place: Place) -> None:
    content = await place.files.read(BOB, "/state/plan.md", 3)
    assert content.data == b"the"
    assert shown(content).truncated
