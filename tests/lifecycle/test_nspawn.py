"""What a program in an nspawn container is, sees and leaves, asked from inside and from outside; real ones, as root."""

import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from box_probe import POWERLESS, PROBE, lines
from hyperhive.config import MountSetting
from hyperhive.errors import MissingPart, WorldError
from hyperhive.lifecycle.runtimes import NspawnRuntime, ResourceLimits, pick_runtime
from hyperhive.lifecycle.runtimes.base import Marks
from hyperhive.lifecycle.runtimes.nspawn_base import make_base
from hyperhive.lifecycle.runtimes.nspawn_command import Bind, Contents
from hyperhive.lifecycle.runtimes.uid_ranges import FIRST, RANGE, UidRanges
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.testing.runtime_kit import ENV, RuntimeKit, finish, new_nap, read_until, until_gone
from parts import NSPAWN_BASE

pytestmark = [
    pytest.mark.needs("nspawn"),
    pytest.mark.may_block("the kit looks at files between programs; the runtime itself is watched elsewhere"),
]

BOB = AgentName("bob")


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERHIVE_NSPAWN_BASE", str(NSPAWN_BASE))


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[RuntimeKit]:
    async with RuntimeKit.open("nspawn", tmp_path) as kit:
        yield kit


GOLDEN = f"""\
{POWERLESS}\
uid 0 gid 0 groups 0 root alice umask 0022
sys /run/host:  /sys:
cgroup /
dev char fd full mqueue net null ptmx pts random shm stderr stdin stdout tty urandom zero
processes (sd-stubinit) sh
writable /run /state /claude /tmp /var/tmp /dev /dev/shm
mounts / /agents/alice/config /claude /etc /etc/group /etc/hosts /etc/nsswitch.conf /etc/passwd /etc/resolv.conf \
/opt /run /run/hive /state /tmp /usr /var /var/tmp
nodes
passwd root nobody
shadow /etc/shadow
"""


async def test_a_probe_finds_nothing_to_escape_by(kit: RuntimeKit) -> None:
    """No capability, no device, no control group, nothing of the machine under /sys, and no place to write but its own.

    The list is written down whole: whatever is new in a container has to be put here on purpose.
    """
    assert lines((await kit.shell(PROBE)).out) == GOLDEN.splitlines()


async def test_calls_for_namespaces_mounts_and_keys_are_refused(kit: RuntimeKit) -> None:
    """None of these is open to a program without capabilities, in users of its own and behind the call filter."""
    script = """
for cmd in 'unshare -U true' 'unshare -m true' 'mount -t tmpfs x /tmp' 'mount -o remount,rw /usr' 'umount /sys' \
  'mknod /tmp/sda b 8 0' 'chroot /state true' 'hostname other' 'setpriv --reuid 1 true'; do
  $cmd 2>/dev/null && echo "$cmd"; done; cat /proc/1/environ 2>/dev/null | wc -c"""
    assert (await kit.shell(script)).out.split() == ["0"]


async def test_each_agent_has_users_of_its_own_and_owns_its_files_as_root(kit: RuntimeKit) -> None:
    """Seen from the machine two agents are two users, in /proc and at a socket; on the disk all is root's."""
    nap = new_nap()
    seen: dict[str, int] = {}
    for name in (kit.agent, BOB):
        child = await kit.start(
            "/bin/sh", "-c", f"echo mine > file; echo ready; exec sleep {nap}", agent=name
        )
        await read_until(child.stdout, b"ready\n")
        seen[name] = (await anyio.Path(f"/proc/{child.pid}").stat()).st_uid
        await child.aclose()
        info = (kit.paths.agent_state(name) / "file").stat()
        assert (info.st_uid, info.st_gid) == (0, 0)
    assert len(set(seen.values())) == 2
    assert all(uid >= FIRST and uid % RANGE == 0 for uid in seen.values())
    assert seen == {name: UidRanges(kit.paths.nspawn).first(name) for name in (kit.agent, BOB)}


async def test_the_peer_of_a_socket_is_the_agents_user(kit: RuntimeKit) -> None:
    script = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/hive/mcp.sock'); s.recv(1)"
    kit.paths.make_agent(kit.agent)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(kit.paths.tools_socket(kit.agent)))
        server.listen()
        server.settimeout(20)
        child = await kit.start("/usr/bin/python3", "-c", script)
        connection, _ = await anyio.to_thread.run_sync(server.accept)
        with connection:
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, gid = struct.unpack("3i", peer)
        assert (pid, uid, gid) == (child.pid, *[UidRanges(kit.paths.nspawn).first(kit.agent)] * 2)
        assert (await finish(child)).code == 0


async def test_nothing_of_the_hive_or_of_other_agents_is_there(kit: RuntimeKit) -> None:
    """A search of the whole container finds the agent's own files and nobody else's, nor any socket of theirs."""
    paths = kit.paths
    for name in (BOB, kit.agent, MANAGER):
        paths.make_agent(name)
    foreign = [
        paths.database, paths.accounts / "default", paths.log / "core.log", paths.host_socket,
        paths.harness_socket(kit.agent), paths.tools_socket(BOB), paths.tools_socket(MANAGER),
        paths.agent_state(BOB) / "file", paths.agent_claude(BOB) / "file", paths.proposed_config(BOB) / "agent.toml",
        paths.agent_harness(kit.agent) / "file", paths.applied_repo(kit.agent) / "HEAD", kit.work / "unmounted",
    ]  # fmt: skip
    for place in foreign:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.with_name(f"canary-{place.name}").write_text("secret")
    (paths.agent_state(kit.agent) / "canary-own").write_text("mine")
    script = "find / -path /proc -prune -o -path /usr -prune -o -name 'canary-*' -print 2>/dev/null"
    assert (await kit.shell(script)).out.split() == ["/state/canary-own"]
    ended = await kit.shell(f"ls {paths.state_dir} {paths.run_dir} {kit.work} /proc/*/root{paths.state_dir}")
    assert ended.out == ""


def command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found


async def test_no_environment_and_no_argument_is_ever_on_a_command_line(
    kit: RuntimeKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for others on the machine while it runs, and nothing of the hive's own inside."""
    monkeypatch.setenv("HIVE_SECRET", "sk-hives")
    script = (
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; echo ready; read end"
    )
    child = await kit.start("/bin/sh", "-c", script, env={**ENV, "KEY": "sk-canary"})
    inside = await read_until(child.stdout, b"ready\n")
    assert b"sk-hives" not in inside
    lines = command_lines()
    assert any(b"systemd-nspawn" in line for line in lines)
    assert not [line for line in lines if b"sk-canary" in line]
    await child.aclose()


async def test_the_manager_sees_proposals_to_write_and_applied_to_read(kit: RuntimeKit) -> None:
    """It cannot put anything in place of a repo, and the agent reads what it wrote."""
    kit.paths.make_agent(kit.agent)
    kit.paths.applied_repo(kit.agent).mkdir(parents=True)
    (kit.paths.applied_repo(kit.agent) / "HEAD").write_text("ref: refs/heads/main\n")
    ended = await kit.shell(
        "echo new > /agents/alice/config/agent.toml && cat /applied/alice/HEAD; touch /applied/alice/x;"
        " mv /agents/alice/config /agents/alice/x; mkdir /agents/eve; ls -A /agents /agents/alice",
        agent=MANAGER,
    )
    assert ended.out.splitlines()[0] == "ref: refs/heads/main"
    assert ended.out.split()[2:] == ["/agents:", "alice", "manager", "/agents/alice:", "config"]
    assert (
        await kit.shell("cat /agents/alice/config/agent.toml; echo x >> /agents/alice/config/agent.toml")
    ).out == "new\n"
    assert (kit.paths.proposed_config(kit.agent) / "agent.toml").read_text() == "new\n"


async def test_a_link_that_stands_in_for_an_agents_directory_is_never_shown(kit: RuntimeKit) -> None:
    kit.paths.make_agent(kit.agent)
    launcher = kit.runtime.launcher(kit.agent, mounts=(), limits=ResourceLimits(), network="none")
    for place in (kit.paths.proposed_config(kit.agent), kit.paths.agent_state(kit.agent)):
        aside = place.with_name("aside")
        place.rename(aside)
        place.symlink_to(kit.paths.accounts)
        with pytest.raises(WorldError):
            await launcher.launch(["/bin/true"], ENV)
        place.unlink()
        aside.rename(place)


@pytest.mark.parametrize("where", ["alice/config", "alice"])
async def test_nor_one_that_is_put_there_after_the_look(kit: RuntimeKit, where: str) -> None:
    """A manager in a container of its own can write where the repos lie: the box finds them by no link."""
    assert isinstance(kit.runtime, NspawnRuntime)
    repo = kit.paths.proposed_config(kit.agent)
    repo.mkdir(parents=True)
    secret = kit.work / "machines" / "config"
    secret.mkdir(parents=True)
    place = kit.paths.proposed / where
    place.rename(kit.work / "aside")
    place.symlink_to(secret if where == "alice/config" else secret.parent)
    contents = Contents(
        owner="git.reader", hostname="reader", binds=[Bind(source=repo, target="/repo")], cwd="/",
        limits=ResourceLimits(), network="none", names={},
    )  # fmt: skip
    with pytest.raises(WorldError, match="cannot be made: Too many levels of symbolic links"):
        await kit.runtime.run(contents, ["/bin/true"], {})


async def test_files_and_mounts_are_shown_wherever_they_lie(kit: RuntimeKit) -> None:
    """At their own paths, whatever signs are in them; a file where the base has its own tree is run all the same."""
    odd = kit.work / "a b:c\\d"
    odd.mkdir()
    program = odd / "hello"
    program.write_text('#!/bin/sh\necho "$ASKED"; head -n 1 "$ASKED"; ls -A "${0%/*}"\n')
    program.chmod(0o755)
    mount = MountSetting(source=str(odd), target="/workspace/odd", mode="rw")
    child = await kit.start(str(program), readable=[program], env={**ENV, "ASKED": str(program)})
    assert (await finish(child)).out.splitlines() == [str(program), "#!/bin/sh", "hello"]
    assert (await kit.shell("cat /workspace/odd/hello > /workspace/odd/new", mounts=[mount])).code == 0
    assert (odd / "new").read_bytes() == program.read_bytes()
    covered = [covered_by_the_base(), NSPAWN_BASE / "etc/os-release"]
    child = await kit.start("/usr/bin/wc", "-c", *map(str, covered), readable=covered)
    assert (await finish(child)).code == 0


def covered_by_the_base() -> Path:
    """A file of the machine's /usr that the base's has not."""
    return next(
        path
        for path in sorted(Path("/usr/sbin").iterdir())
        if path.is_file() and not (NSPAWN_BASE / path.relative_to("/")).exists()
    )


async def test_nothing_is_left_on_the_machine(tmp_path: Path) -> None:
    """No mount, no directory of nspawn's or of ours, no control group, and the base is as it was."""

    hive = Marks(Paths.of(tmp_path / "hive").state_dir).hive
    machine = (Path("/run/systemd/nspawn"), NSPAWN_BASE, NSPAWN_BASE / "etc", NSPAWN_BASE / "usr/bin")

    def traces() -> list[str]:
        found = [str(path) for place in machine if place.exists() for path in [place, *place.iterdir()]]
        groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/*{hive}*")]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return [*sorted(found), *groups, *(line for line in mounts if str(tmp_path) in line)]

    before = traces()
    async with RuntimeKit.open("nspawn", tmp_path) as kit:
        nap = new_nap()
        child = await kit.start("/bin/sh", "-c", f"echo ready; sleep {nap}; exit")
        await read_until(child.stdout, b"ready\n")
        await kit.runtime.release(kit.agent)
        await until_gone(nap)
        await child.aclose()
        paths = kit.paths
    assert traces() == before
    assert list((paths.run_dir / "nspawn").iterdir()) == []


async def test_without_root_nspawn_or_a_base_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths.of(tmp_path)
    for environ, word, hint in (
        ({"PATH": str(tmp_path)}, "systemd-nspawn is not installed", "package systemd-container"),
        ({"PATH": os.environ["PATH"]}, "no base", "doctor --make-base"),
    ):
        with pytest.raises(MissingPart) as caught:
            await pick_runtime("nspawn", paths, environ)
        assert word in caught.value.message
        assert hint in (caught.value.hint or "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingPart, match="needs root"):
        await pick_runtime("nspawn", paths, os.environ)


async def test_auto_is_nspawn_for_a_daemon_that_was_given_a_base_and_for_nobody_else(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path)
    without = {name: value for name, value in os.environ.items() if name != "HYPERHIVE_NSPAWN_BASE"}
    for environ, serving, name in (
        (os.environ, True, "nspawn"),
        (os.environ, False, "bwrap"),
        (without, True, "bwrap"),
    ):
        runtime = await pick_runtime("auto", paths, environ, serving=serving)
        assert runtime.name == name
        await runtime.aclose()


async def test_a_base_that_cannot_run_anything_is_refused_with_what_was_said(tmp_path: Path) -> None:
    base = tmp_path / "base"
    for name in ("usr/bin", "etc", "var/tmp"):
        (base / name).mkdir(parents=True)
    (base / "usr/bin/python3").write_text("no program")
    with pytest.raises(MissingPart) as caught:
        await NspawnRuntime(Paths.of(tmp_path / "hive"), {"PATH": os.environ["PATH"]}, base=str(base)).check()
    assert "cannot make a container here" in caught.value.message


def test_ranges_are_kept_for_ever_and_never_shared(tmp_path: Path) -> None:
    """Of two processes that ask at once each gets what the file says in the end."""
    ranges = UidRanges(tmp_path)
    first = {name: ranges.first(name) for name in ("alice", "bob", "carol")}
    assert len(set(first.values())) == 3
    assert {name: UidRanges(tmp_path).first(name) for name in reversed(first)} == first
    assert all(FIRST <= uid < 0x7000_0000 and uid % RANGE == 0 for uid in first.values())
    (tmp_path / "ranges.json").write_text("{")
    with pytest.raises(WorldError, match=r"ranges\.json"):
        ranges.first("alice")


async def test_two_that_allot_at_once_agree(tmp_path: Path) -> None:
    ranges = UidRanges(tmp_path)
    seen: list[tuple[str, int]] = []

    async def one(name: str) -> None:
        seen.append((name, await anyio.to_thread.run_sync(ranges.first, name)))

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(one, f"agent-{number % 20}")
    assert len(set(seen)) == len({uid for _, uid in seen}) == 20


async def test_a_base_that_could_not_be_made_is_not_there(tmp_path: Path) -> None:
    """What was half made has no place of its own, and the reason is the tool's."""
    fake = tmp_path / "mmdebstrap"
    fake.write_text(
        '#!/bin/sh\nfor it; do case $it in */base.new) mkdir -p "$it/usr/bin";; esac; done\necho "E: no" >&2\nexit 1\n'
    )
    fake.chmod(0o755)
    base = tmp_path / "state" / "base"
    with pytest.raises(MissingPart, match="E: no"):
        await make_base(base, {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert not base.exists()


async def test_what_is_mounted_in_a_half_made_base_is_never_deleted(tmp_path: Path) -> None:
    """Something that was cut short may have left the machine's /dev mounted there."""
    shown = tmp_path / "shown"
    inside = tmp_path / "base.new" / "dev"
    for place in (shown, inside):
        place.mkdir(parents=True)
    (shown / "kept").touch()
    fake = tmp_path / "mmdebstrap"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    await anyio.run_process(["mount", "--bind", str(shown), str(inside)])
    try:
        with pytest.raises(WorldError, match="is mounted"):
            await make_base(tmp_path / "base", {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert (shown / "kept").exists()
    finally:
        await anyio.run_process(["umount", str(inside)])


@pytest.mark.campaign
@pytest.mark.needs("mmdebstrap")
async def test_a_base_is_made_of_packages_and_agents_live_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    await make_base(base, os.environ)
    await make_base(base, {})  # it stays as it is
    monkeypatch.setenv("HYPERHIVE_NSPAWN_BASE", str(base))
    async with RuntimeKit.open("nspawn", tmp_path) as kit:
        assert (await kit.shell("git --version && python3 --version")).code == 0
