"""Files that bodies name: found, looked up, stored with the message, and shown with it."""

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from hyperhive.agent_files import AgentFiles
from hyperhive.broker import MIGRATIONS, Broker
from hyperhive.broker.file_refs import MENTIONS_MAX, REFS_MAX, mentions
from hyperhive.bus import Missed
from hyperhive.errors import NotFound
from hyperhive.lifecycle.mounts import ResolvedMount
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.protocol.events import Delivered, MessageState, Sent
from hyperhive.protocol.types import FileRef
from hyperhive.store import Store


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ("see /state/notes.md.", ["/state/notes.md"]),
        ("see `/state/a.py:12`, 'src/b.py' (./c.txt)", ["/state/a.py", "src/b.py", "./c.txt"]),
        ("keep ~/d.toml!", ["~/d.toml"]),
        ("twice: /state/a.md /state/a.md", ["/state/a.md"]),
        ("at /workspace/app/x.tar.gz:3:14: error", ["/workspace/app/x.tar.gz"]),
        ("e.g. example.com, notes.md and 1/2", []),
        ("https://example.com/a.html http://x/y.z", []),
        ("/state/dir/ /state/Makefile /state/.env /", []),
        ("путь /state/отчёт.md", ["/state/отчёт.md"]),
        ("/state/" + "x" * 2000 + ".md", []),
    ],
)  # fmt: skip
def test_paths_are_found_in_a_text(body: str, paths: list[str]) -> None:
    assert mentions(body) == paths


def test_no_text_takes_for_ever_and_no_list_of_paths_is_looked_up_whole() -> None:
    """The longest bodies of what a search could stumble over: each is gone through once."""
    for piece in ("/", "a/", "/.a", "a.b:1", ":1", "/a.b ", "/a.b:1:"):
        mentions(piece * (256 * 1024 // len(piece)))
    assert len(mentions(" ".join(f"/a/{n}.x" for n in range(1000)))) == MENTIONS_MAX


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths.of(tmp_path / "s")
    for name in ("bob", "alice"):
        state = paths.agent_state(AgentName(name))
        (state / "notes").mkdir(parents=True)
        (state / "notes/plan.md").write_text(f"the plan of {name}")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/main.py").write_text("print()")
    (tmp_path / "secret.txt").write_text("outside")
    return paths


def files_of(paths: Paths) -> AgentFiles:
    mount = ResolvedMount(paths.state_dir.parent / "app", "/workspace/app", writable=False)
    return AgentFiles(paths, isolated=True, mounts=lambda name: lambda: [mount] if name == "alice" else [])


@asynccontextmanager
async def opened(paths: Paths, files: AgentFiles | None = None) -> AsyncIterator[Broker]:
    async with Store.open(paths.database, migrations=[MIGRATIONS]) as store:
        broker = Broker(store=store, files=files or files_of(paths))
        await broker.start()
        yield broker
        await broker.aclose()


PLAN = FileRef(path="/state/notes/plan.md", size=15, kind="text")


async def test_a_file_of_the_senders_goes_with_the_message_wherever_it_is_shown(paths: Paths) -> None:
    async with opened(paths) as broker, broker.bus.subscribe() as events:
        await broker.send("alice", "bob", "read notes/plan.md and /state/notes/plan.md")
        [mail] = await broker.recv("bob")
        assert mail.file_refs == (FileRef(path="/state/notes/plan.md", size=17, kind="text"),)
        frames = aiter(events)
        said = [
            frame.event
            for frame in [await anext(frames) for _ in range(3)]
            if not isinstance(frame, Missed) and not isinstance(frame.event, MessageState)
        ]
        sent, delivered = said
        assert isinstance(sent, Sent)
        assert isinstance(delivered, Delivered)
        assert sent.file_refs == delivered.file_refs == mail.file_refs
        found = await broker.files_of(mail.id)
        assert (found.sender, found.recipient, found.refs) == ("alice", "bob", mail.file_refs)
        await broker.send("bob", "operator", "done: /state/notes/plan.md")
        [row] = await broker.inbox()
        assert row.file_refs == (PLAN,)
        with pytest.raises(NotFound):
            await broker.files_of(99)


async def test_they_outlive_a_restart_and_a_repeated_turn(paths: Paths) -> None:
    async with opened(paths) as broker:
        await broker.send("operator", "alice", "do it")
        await broker.recv("alice")
        first = await broker.send("alice", "bob", "see notes/plan.md")
        await broker.requeue_inflight("alice")
        await broker.recv("alice")
        assert await broker.send("alice", "bob", "see notes/plan.md") == type(first)(
            id=first.id, duplicate=True
        )
    async with opened(paths) as broker:
        [mail] = await broker.recv("bob")
        assert [ref.path for ref in mail.file_refs] == ["/state/notes/plan.md"]


async def test_mounts_count_for_whom_they_are_shown(paths: Paths) -> None:
    async with opened(paths) as broker:
        for sender, count in (("alice", 1), ("bob", 0)):
            await broker.send(sender, "carol", "see /workspace/app/main.py")
            [mail] = await broker.recv("carol")
            assert len(mail.file_refs) == count


async def test_the_operators_paths_are_the_recipients(paths: Paths) -> None:
    async with opened(paths) as broker:
        await broker.send("operator", "alice", "look at /workspace/app/main.py and notes/plan.md")
        [mail] = await broker.recv("alice")
        assert [ref.path for ref in mail.file_refs] == ["/workspace/app/main.py", "/state/notes/plan.md"]


async def test_what_is_no_file_of_the_senders_is_no_reference(paths: Paths) -> None:
    state = paths.agent_state(AgentName("bob"))
    (state / "link.md").symlink_to(paths.state_dir.parent / "secret.txt")
    (state / "dir.d").mkdir()
    named = ["/state/link.md", "/state/dir.d", "/state/../../bob/claude/x.md", "/etc/os-release.d", "/proc/self/x.y",
             str(paths.state_dir.parent / "secret.txt"), "/state/missing.md", "//state/notes/plan.md"]  # fmt: skip
    async with opened(paths) as broker:
        await broker.send("bob", "alice", " ".join(named))
        [mail] = await broker.recv("alice")
        assert mail.file_refs == ()


async def test_a_message_refers_to_so_many_at_most(paths: Paths) -> None:
    state = paths.agent_state(AgentName("bob"))
    for number in range(REFS_MAX + 10):
        (state / f"{number}.md").write_text("x")
    body = " ".join(f"/state/{number}.md" for number in range(REFS_MAX + 10))
    async with opened(paths) as broker:
        await broker.send("bob", "alice", body)
        [mail] = await broker.recv("alice")
        assert len(mail.file_refs) == REFS_MAX


async def test_a_kind_says_what_it_is(paths: Paths) -> None:
    state = paths.agent_state(AgentName("bob"))
    (state / "a.bin").write_bytes(b"\0\1")
    (state / "b.PNG").write_bytes(b"\x89PNG")
    (state / "c.txt").write_text("ä" * 4096)
    (state / "d.txt").write_bytes(b"\xff" * 5000)
    (state / "e.txt").write_bytes(b"")
    async with opened(paths) as broker:
        await broker.send("bob", "alice", "/state/a.bin /state/b.PNG /state/c.txt /state/d.txt /state/e.txt")
        [mail] = await broker.recv("alice")
        assert [ref.kind for ref in mail.file_refs] == ["binary", "image", "text", "binary", "text"]


async def test_a_body_without_a_path_asks_nobody(paths: Paths) -> None:
    class Counting(AgentFiles):
        asked = 0

        async def find(self, sender: str, recipient: str, paths: Sequence[str], most: int) -> list[FileRef]:
            Counting.asked += 1
            return await super().find(sender, recipient, paths, most)

    async with opened(paths, Counting(paths, isolated=True)) as broker:
        for body in ("hi", "a/b", "https://example.com/x.html", "notes.md", "1/2 of it. Done"):
            await broker.send("bob", "alice", body)
        assert Counting.asked == 0
        await broker.send("bob", "alice", "notes/plan.md")
        assert Counting.asked == 1


async def test_a_disk_that_hangs_costs_a_message_its_references_and_nothing_else(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperhive.agent_files.FIND_SECONDS", 0.05)
    release = threading.Event()

    def hangs() -> list[ResolvedMount]:
        release.wait(20)
        return []

    files = AgentFiles(paths, isolated=True, mounts=lambda name: hangs)  # noqa: ARG005
    async with opened(paths, files) as broker:
        try:
            with anyio.fail_after(10):
                await broker.send("alice", "bob", "see /workspace/app/main.py")
                [mail] = await broker.recv("bob")
            assert mail.file_refs == ()
        finally:
            release.set()
