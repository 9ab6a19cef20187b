"""Attack S8 on a whole hive at work: a key in every slot that takes a secret, and where each is found in the end.

The real agent CLI in boxes, one agent behind the gateway and one with a token of its own; a notice to a phone, a copy
on a forge, a server of tools, a backup. What runs is looked through while it runs, what was written when it has ended.
"""

import secrets
import tarfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest

import forge_server
from console import Console
from hive_process import HivePlace, HiveProcess, connected
from hyperhive.protocol import requests as r
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from receiver import receiver
from story import Json, bash

NewPlace = Callable[..., HivePlace]

pytestmark = [
    pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.needs("git"), pytest.mark.timeout(180),
]  # fmt: skip

SERVER = '''#!/usr/bin/python3
"""A stdio MCP server with one tool, which says how long its key is."""
import json, os, sys


def result(method, params):
    if method == "initialize":
        info = {"name": "tracker", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [{"name": "list_things", "inputSchema": {"type": "object"}}]}
    if method == "tools/call":
        told = "asked with a key of %d bytes" % len(os.environ["TRACKER_KEY"])
        return {"content": [{"type": "text", "text": told}]}
    return {}


for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": result(asked["method"], asked.get("params"))}
        sys.stdout.write(json.dumps(answer) + "\\n")
        sys.stdout.flush()
'''

TOML = """
[notify.channels.phone]
kind = "ntfy"
url = "{phone}/hive"
after_seconds = 0
token_file = "{root}/ntfy-token"

[forge]
url = "{forge}"
user = "hive"
token_file = "{root}/forge-token"

[agents.alice]
mounts = [{{source = "{root}/tools", target = "/workspace/tools"}}]

[agents.alice.mcp.tracker]
command = "/usr/bin/python3"
args = ["/workspace/tools/tracker.py"]
env = {{TRACKER_KEY = "{mcp}"}}
allowedTools = ["list_things"]

[agents.bob]
account = "work"
network = "host"
"""

GIVEN = {"ntfy-token": {"ntfy"}, "forge-token": {"forge"}, "hive.toml": {"mcp"}}
"""The operator's own files."""

KEPT = {
    "s/accounts/default": {"key"},
    "s/accounts/work": {"token"},
    "s/agents/alice/harness/mcp.json": {"mcp"},
}
"""The hive's, 0600."""

IN_PROCESSES = {
    ("git", "environ"): {"forge"},
    ("git-remote-http", "environ"): {"forge"},
    ("bwrap", "environ"): {"token"},
    ("claude", "environ"): {"token"},
    ("bash", "environ"): {"token"},
    ("python3 /workspace/tools/tracker.py", "environ"): {"mcp"},
}
"""What is documented: the one push has the forge's token, an agent the token that it runs under, and a server its own
key. The key of the account that the gateway serves is in no process but the core's memory."""


def basic(key: str) -> str:
    """As HTTP carries a password."""
    return b64encode(f"hive:{key}".encode()).decode()


@dataclass
class Canaries:
    """One key a slot, by the slot's name."""

    keys: dict[str, str] = field(
        default_factory=lambda: {
            name: f"sk-ant-{name}-{secrets.token_hex(12)}"
            for name in ("key", "token", "ntfy", "forge", "mcp")
        }
    )

    def marks(self) -> Iterator[tuple[str, bytes]]:
        """What to look for."""
        for name, key in self.keys.items():
            yield name, key.encode()
            yield name, basic(key).encode()

    def in_bytes(self, content: bytes) -> set[str]:
        """The slots whose keys stand in there."""
        return {name for name, mark in self.marks() if mark in content}

    def in_files(self, root: Path) -> dict[str, set[str]]:
        """Which files below a directory hold which keys."""
        found = {
            str(path.relative_to(root)): self.in_bytes(path.read_bytes())
            for path in root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        return {path: names for path, names in found.items() if names}

    def in_archive(self, path: Path) -> dict[str, set[str]]:
        """The same of what is in a backup."""
        found = {}
        with tarfile.open(path) as tar:
            for one in tar:
                if (content := tar.extractfile(one)) is not None and (names := self.in_bytes(content.read())):
                    found[one.name] = names
        return found


@dataclass
class Looker:
    """Looks through all processes that can be seen, again and again; what it saw stays."""

    canaries: Canaries
    seen: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """By what a process is and where in it (`cmdline`, `environ`), the slots whose keys were there."""
    looks: int = 0

    def look(self) -> None:
        self.looks += 1
        for process in Path("/proc").glob("[0-9]*"):
            try:
                for where in ("cmdline", "environ"):
                    found = self.canaries.in_bytes((process / where).read_bytes())
                    if found and (kind := self._kind(process)):
                        self.seen.setdefault((kind, where), set()).update(found)
            except OSError:
                continue  # it has ended, or is not ours to look at

    @staticmethod
    def _kind(process: Path) -> str:
        """What it is; nothing of one that is just becoming something else, or ending: it has no command line then."""
        program, *rest = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        return " ".join([program.rsplit("/", 1)[-1], *(word for word in rest if word.endswith(".py"))])

    def unexpected(self) -> dict[tuple[str, str], set[str]]:
        """What is in processes beyond what is documented."""
        found = {place: names - IN_PROCESSES.get(place, set()) for place, names in self.seen.items()}
        return {place: names for place, names in found.items() if names}


async def test_a_key_is_where_it_was_put_and_where_it_is_used_and_nowhere_else(
    places: NewPlace, api: FakeAnthropic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pain 25: keys in an environment, on a command line, in a log."""
    canaries = Canaries()
    looker = Looker(canaries)
    api.scenario = {"rules": RULES}
    monkeypatch.setattr(forge_server, "TOKEN", canaries.keys["forge"])
    monkeypatch.setattr(forge_server, "BASIC", f"Basic {basic(canaries.keys['forge'])}")
    with receiver() as phone, forge_server.forge_server(tmp_path) as forge:
        place = places()
        prepare(place, canaries, phone.url, forge.url)
        async with HiveProcess(place) as hive, connected(place) as client:
            await client.request(r.Account(name="default", key=canaries.keys["key"]))
            await client.request(r.Account(name="work", token=canaries.keys["token"]))
            for name in ("alice", "bob"):
                await client.lifecycle.spawn(name)
            await client.broker.send("operator", "alice", "work")
            await client.broker.send("operator", "bob", "think")

            def done() -> bool:
                looker.look()
                copies = [tmp_path / "agent-configs" / f"{name}.git" for name in ("alice", "bob")]
                return (
                    all(one.acked for one in place.mail()) and all(map(exists, copies)) and bool(phone.posts)
                )

            await hive.until(done, seconds=90)
            backup = tmp_path / "all.tar.gz"
            console = Console(place.root, {"HYPERHIVE_STATE_DIR": str(place.state)})
            saved = await anyio.to_thread.run_sync(partial(console.run, "backup", str(backup)))
            assert saved.code == 0, saved.err
            pages = [await client.request(r.Events(name=name)) for name in ("alice", "bob")]
            said = msgspec.json.encode([hive.frames, pages])
    text = str([one["body"]["messages"] for one in api.requests])
    assert "asked with a key of" in text
    assert "PWD=" in text, "each was used"
    assert phone.posts[0][1]["authorization"] == f"Bearer {canaries.keys['ntfy']}"
    assert looker.looks > 10
    assert looker.unexpected() == {}, "no argv shows a key, nor does any environment but these"
    assert canaries.in_bytes(said) == set(), "no frame and no event"
    assert canaries.in_bytes(text.encode()) == set(), "nothing that a model was shown"
    assert canaries.in_files(place.root) == {**GIVEN, **KEPT}, (
        "no log, database, session or file of an agent's"
    )
    assert canaries.in_archive(backup) == {path.removeprefix("s/"): names for path, names in KEPT.items()}
    assert [path for path in KEPT if (place.root / path).stat().st_mode & 0o077] == []


RULES: list[Json] = [
    tool_turn(
        r"\nwork\n",
        ("mcp__tracker__list_things", {}),
        bash("env; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        ("mcp__hyperhive__ask", {"question": "which colour?"}),
    ),
    tool_turn(r"\nthink\n", bash("pwd")),
]


def exists(path: Path) -> bool:
    return path.exists()


def prepare(place: HivePlace, canaries: Canaries, phone: str, forge: str) -> None:
    """The settings, with a key in every slot of theirs, and the program that one agent asks."""
    for name in ("ntfy", "forge"):
        (place.root / f"{name}-token").write_text(canaries.keys[name] + "\n")
    (place.root / "tools").mkdir()
    (place.root / "tools" / "tracker.py").write_text(SERVER)
    settings = TOML.format(phone=phone, forge=forge, root=place.root, mcp=canaries.keys["mcp"])
    config = Path(place.environ["HYPERHIVE_CONFIG"])
    config.write_text(config.read_text() + settings)
    config.chmod(0o600)
