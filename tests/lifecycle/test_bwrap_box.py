"""What a program in a bubblewrap box can see and do, asked from inside the box."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from hyperhive.config import AgentConfig, MountSetting
from hyperhive.errors import BadConfig, MissingPart, WorldError
from hyperhive.lifecycle import MIGRATIONS, Lifecycle
from hyperhive.lifecycle.runtimes import BwrapRuntime, ResourceLimits
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.store import Store
from hyperhive.testing.runtime_kit import ENV, RuntimeKit, finish

pytestmark = [
    pytest.mark.needs("bwrap"),
    pytest.mark.may_block("the kit looks at files between programs; the runtime itself is watched elsewhere"),
]

BOB = AgentName("bob")


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[RuntimeKit]:
    async with RuntimeKit.open("bwrap", tmp_path) as kit:
        yield kit


async def test_nothing_of_the_hive_or_of_other_agents_is_there(kit: RuntimeKit) -> None:
    """A search of the whole box finds the agent's own files and nobody else's."""
    paths = kit.paths
    paths.make_agent(BOB)
    paths.make_agent(kit.agent)
    paths.make_agent(MANAGER)
    foreign = [
        paths.database, paths.accounts / "default", paths.log / "core.log", paths.meta / "lock.json",
        paths.host_socket, paths.harness_socket(kit.agent), paths.tools_socket(BOB), paths.tools_socket(MANAGER),
        paths.agent_state(BOB) / "file", paths.agent_claude(BOB) / "file", paths.proposed_config(BOB) / "agent.toml",
        paths.agent_harness(kit.agent) / "file", paths.applied_repo(kit.agent) / "HEAD", kit.work / "unmounted",
    ]  # fmt: skip
    own = [paths.agent_state(kit.agent), paths.agent_claude(kit.agent), paths.proposed_config(kit.agent)]
    for place in foreign:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.with_name(f"canary-{place.name}").write_text("secret")
    for place in own:
        (place / "canary-own").write_text("mine")
    script = "find / -path /proc -prune -o -path /usr -prune -o -name 'canary-*' -print 2>/dev/null | sort"
    assert (await kit.shell(script)).out.split() == [
        "/agents/alice/config/canary-own",
        "/claude/canary-own",
        "/state/canary-own",
    ]
    assert (await kit.shell(f"ls {paths.state_dir} {paths.run_dir} {kit.work}")).out == ""


@pytest.mark.parametrize("whose", ["operator", "bob", "manager", "own harness"])
async def test_no_socket_but_its_own_can_be_reached(whose: str, kit: RuntimeKit) -> None:
    """Sockets that listen on the host, in directories of their own, are not there by any path of the host's."""
    paths = kit.paths
    place = {
        "operator": paths.host_socket,
        "bob": paths.tools_socket(BOB),
        "manager": paths.tools_socket(MANAGER),
        "own harness": paths.harness_socket(kit.agent),
    }[whose]
    for name in (BOB, MANAGER, kit.agent):
        paths.make_agent(name)
    script = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as own:
        server.bind(str(place))
        server.listen()
        own.bind(str(paths.tools_socket(kit.agent)))
        own.listen()
        for path, reached in (
            (str(place), False),
            (f"/run/hive/../{place.name}", False),
            ("/run/hive/mcp.sock", True),
        ):
            child = await kit.start("/usr/bin/python3", "-c", script, path)
            ended = await finish(child)
            assert (ended.code == 0) is reached, ended.err


async def test_the_box_is_made_of_nothing_else(kit: RuntimeKit) -> None:
    """Every mount, every directory at the root and every file in /etc is one that was meant to be there."""
    ended = await kit.shell("cut -d' ' -f5 /proc/self/mountinfo; echo --; ls -A /; echo --; ls -A /etc")
    mounts, root, etc = (part.split() for part in ended.out.split("--"))
    assert {m for m in mounts if not m.startswith(("/proc", "/dev", "/etc", "/usr", "/lib", "/bin", "/sbin"))} <= {
        "/", "/tmp", "/state", "/claude", "/run/hive", "/agents/alice/config", "/nix/store", "/run/current-system",
    }  # fmt: skip
    assert set(root) <= {
        "agents", "bin", "claude", "dev", "etc", "lib", "lib32", "lib64", "libx32", "nix", "proc", "run", "sbin",
        "state", "tmp", "usr", "var", "workspace",
    }  # fmt: skip
    assert {"passwd", "group", "hosts", "nsswitch.conf"} <= set(etc) <= {
        "alternatives", "ca-certificates", "crypto-policies", "group", "hosts", "ld.so.cache", "localtime",
        "nsswitch.conf", "passwd", "pki", "protocols", "resolv.conf", "services", "ssl", "static",
    }  # fmt: skip
    assert (await kit.shell("ls /etc/ssl/private")).code != 0


async def test_no_host_path_environment_or_process_shows(
    kit: RuntimeKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hive's environment, its command lines, and the box's own making are not readable from inside."""
    monkeypatch.setenv("HIVE_SECRET", "sk-canary")
    ended = await kit.shell(
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'; ls -d /proc/[0-9]*"
    )
    assert "sk-canary" not in ended.out
    assert str(kit.paths.state_dir) not in ended.out
    assert "/usr/bin/env" not in ended.out
    numbers = [
        int(line[6:]) for line in ended.out.splitlines() if line.startswith("/proc/") and line[6:].isdecimal()
    ]
    assert numbers
    assert max(numbers) < 10  # the box's own few, in its own numbers


async def test_it_is_an_ordinary_user_without_capabilities(kit: RuntimeKit) -> None:
    ended = await kit.shell(
        "id -u; id -un; hostname; grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status"
    )
    assert ended.out.split() == [
        "1000", "agent", "alice",
        "CapPrm:", "0" * 16, "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "place", ["/", "/usr", "/etc", "/run/hive", "/agents/alice/config", "/workspace", "/dev"]
)
async def test_only_its_own_places_can_be_written(place: str, kit: RuntimeKit) -> None:
    ended = await kit.shell(f"touch {place}/new")
    if place == "/dev":
        assert not await anyio.Path("/dev/new").exists()
        return
    assert "Read-only file system" in ended.err
    assert (await kit.shell("touch /state/new /claude/new /tmp/new /dev/shm/new")).code == 0


async def test_tmp_is_empty_private_and_bounded(kit: RuntimeKit) -> None:
    assert (await kit.shell("ls -A /tmp; echo x > /tmp/left")).out == ""
    assert (await kit.shell("ls -A /tmp")).out == ""
    assert not await anyio.Path("/tmp/left").exists()


async def test_the_manager_sees_proposals_to_write_and_applied_to_read(kit: RuntimeKit) -> None:
    kit.paths.make_agent(kit.agent)
    (kit.paths.applied_repo(kit.agent)).mkdir(parents=True)
    (kit.paths.applied_repo(kit.agent) / "HEAD").write_text("ref: refs/heads/main\n")
    ended = await kit.shell(
        "echo new > /agents/alice/config/agent.toml && cat /applied/alice/HEAD; touch /applied/alice/x",
        agent=MANAGER,
    )
    assert ended.out == "ref: refs/heads/main\n"
    assert "Read-only file system" in ended.err
    assert (kit.paths.proposed_config(kit.agent) / "agent.toml").read_text() == "new\n"


async def test_the_manager_cannot_put_a_link_in_place_of_a_repo(kit: RuntimeKit) -> None:
    """What an agent's next box shows is never chosen by the manager: only inside of each repo can be written."""
    kit.paths.make_agent(kit.agent)
    attack = (
        f"rmdir /agents/alice/config && ln -s {kit.paths.state_dir} /agents/alice/config;"
        " mv /agents/alice/config /agents/alice/x; mv /agents/alice /agents/x; rm -rf /agents/alice;"
        f" ln -s {kit.paths.state_dir} /agents/bob; ln -s {kit.paths.state_dir} /agents/alice/other;"
        " mkdir -p /agents/eve; ls -A /agents /agents/alice"
    )
    ended = await kit.shell(attack, agent=MANAGER)
    assert ended.out.split() == ["/agents:", "alice", "manager", "/agents/alice:", "config"]
    kit.paths.database.write_text("secret")
    assert (await kit.shell("cat /agents/alice/config/hive.sqlite")).out == ""
    assert sorted(p.name for p in kit.paths.proposed.iterdir()) == ["alice", "manager"]
    assert not kit.paths.proposed_config(kit.agent).is_symlink()


@pytest.mark.parametrize("agent", ["alice", "manager"])
async def test_a_link_that_stands_in_for_an_agents_directory_is_never_shown(
    agent: str, kit: RuntimeKit
) -> None:
    """However it came there: a box is refused rather than made over what a link points to."""
    name = AgentName(agent)
    kit.paths.make_agent(name)
    launcher = kit.runtime.launcher(name, mounts=(), limits=ResourceLimits(), network="none")
    for place in (
        kit.paths.proposed_config(name), kit.paths.proposed / name, kit.paths.agent_state(name),
        kit.paths.agent_claude(name), kit.paths.tools_dir(name),
    ):  # fmt: skip
        aside = place.with_name("aside")
        place.rename(aside)
        place.symlink_to(kit.paths.accounts)
        with pytest.raises(WorldError) as refused:
            await launcher.launch(["/bin/true"], ENV)
        assert place.name in str(refused.value)
        place.unlink()
        aside.rename(place)
    child = await launcher.launch(["/bin/true"], ENV)
    assert (await finish(child)).code == 0


async def test_the_manager_sees_no_repo_through_a_link_and_a_new_one_from_its_next_process(
    kit: RuntimeKit,
) -> None:
    kit.paths.make_agent(MANAGER)
    launcher = kit.runtime.launcher(MANAGER, mounts=(), limits=ResourceLimits(), network="none")

    async def shown() -> list[str]:
        child = await launcher.launch(["/bin/ls", "/agents"], ENV)
        return (await finish(child)).out.split()

    assert await shown() == ["manager"]
    kit.paths.make_agent(kit.agent)
    (kit.paths.proposed / "bob").symlink_to(kit.paths.proposed / "alice")
    (kit.paths.proposed / "eve").mkdir()
    (kit.paths.proposed / "eve" / "config").symlink_to(kit.paths.accounts)
    (kit.paths.proposed / "file").write_text("x")
    assert await shown() == ["alice", "manager"]


async def test_kernel_keyrings_and_namespaces_are_refused(kit: RuntimeKit) -> None:
    """The keyring of the hive's user is no namespace's: the filter keeps it shut."""
    keyctl, unshare, mount = (250, 272, 165) if os.uname().machine == "x86_64" else (219, 97, 40)
    script = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for call in ([{keyctl}, 0, -3, 0], [{unshare}, 0x10000000], [{mount}, b"x", b"/tmp", b"tmpfs", 0, 0], [39]):
    print(libc.syscall(*call) < 0 and ctypes.get_errno())
"""
    child = await kit.start("/usr/bin/python3", "-c", script)
    assert (await finish(child)).out.split() == ["1", "1", "1", "False"]


async def test_abstract_sockets_of_the_host_are_closed_where_the_kernel_can(kit: RuntimeKit) -> None:
    assert isinstance(kit.runtime, BwrapRuntime)
    name = f"hyperhive-test-{os.getpid()}"
    script = "import socket,sys; socket.socket(socket.AF_UNIX).connect('\\0' + sys.argv[1]); print('in')"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        child = await kit.start("/usr/bin/python3", "-c", script, name, network="host")
        ended = await finish(child)
    closed = kit.runtime.found.close_abstract
    assert ("PermissionError" in ended.err) is closed
    assert (ended.out == "in\n") is not closed


async def test_a_readable_file_is_there_alone(kit: RuntimeKit) -> None:
    """The agent CLI's file is shown at its own path, read-only, and nothing beside it."""
    place = kit.work / "cli" / "1.2.3"
    place.mkdir(parents=True)
    shutil.copy("/bin/echo", place / "claude")
    (place / "secret").write_text("x")
    (kit.work / "claude").symlink_to(place / "claude")
    for path in (place / "claude", kit.work / "claude"):
        child = await kit.start(str(path), "hello", readable=[path])
        assert (await finish(child)).out == "hello\n"
        ended = await kit.shell(f"ls -A {path.parent}; echo x >> {path}", readable=[path])
        assert ended.out == "claude\n"
        assert ended.code != 0
    with pytest.raises(MissingPart):
        await kit.start(str(place / "none"), readable=[place / "none"])


async def test_a_mount_that_was_exchanged_for_something_else_is_refused_at_the_next_launch(
    kit: RuntimeKit,
) -> None:
    place = kit.work / "code"
    place.mkdir()
    mount = MountSetting(source=str(place), target="/workspace/code", mode="rw")
    assert (await kit.shell("ls /workspace", mounts=[mount])).out == "code\n"
    place.rmdir()
    place.symlink_to(kit.paths.state_dir)
    with pytest.raises(BadConfig):
        await kit.start("/bin/true", mounts=[mount])


async def test_a_mount_that_the_operator_took_back_is_gone_from_the_next_box(kit: RuntimeKit) -> None:
    """Also for a launcher that was made before."""
    (kit.work / "code").mkdir()
    mount = MountSetting(source=str(kit.work / "code"), target="/workspace/code", mode="rw")
    now = {"config": AgentConfig(mounts=(mount,), network="none")}
    async with Store.open(kit.paths.database, migrations=[MIGRATIONS]) as store:
        hive = Lifecycle(store=store, paths=kit.paths, runtime=kit.runtime, config_of=lambda _: now["config"])
        await hive.start_up()
        await hive.spawn("alice")
        launcher = hive.launcher("alice")
        write = ["/bin/sh", "-c", "echo x >> /workspace/code/file"]
        assert (await finish(await launcher.launch(write, ENV))).code == 0
        now["config"] = AgentConfig(network="none")
        assert (await finish(await launcher.launch(write, ENV))).code != 0
        await hive.aclose()
    assert (kit.work / "code/file").read_text() == "x\n"


async def test_what_another_agent_could_exchange_is_refused_at_launch(kit: RuntimeKit) -> None:
    (kit.work / "code/sub").mkdir(parents=True)
    inside = MountSetting(source=str(kit.work / "code/sub"), target="/workspace/sub")
    launcher = kit.runtime.launcher(
        kit.agent, mounts=[inside], limits=ResourceLimits(), network="none", shared=[kit.work / "code"]
    )
    kit.paths.make_agent(kit.agent)
    with pytest.raises(BadConfig, match="can write"):
        await launcher.launch(["/bin/true"], ENV)


@pytest.mark.parametrize(
    "place", ["/usr/lib/hive", "/nix/store/hive", "/lib64/hive", "/etc/ssl/certs", "/usr"]
)
@pytest.mark.parametrize("which", ["state", "run"])
async def test_a_hive_inside_what_every_box_shows_is_refused(place: str, which: str, tmp_path: Path) -> None:
    """/usr is in every box: a state directory there would be readable by every agent."""
    where = {"state": tmp_path / "s", "run": tmp_path / "r"} | {which: Path(place)}
    runtime = BwrapRuntime(Paths.of(where["state"], where["run"]), os.environ)
    with pytest.raises(BadConfig) as refused:
        await runtime.check()
    assert str(await anyio.Path(place).resolve()) in str(refused.value)


@pytest.mark.needs("git")
@pytest.mark.parametrize("mode", ["ro", "rw"])
async def test_a_mounted_git_repository_can_be_worked_in(mode: str, kit: RuntimeKit) -> None:
    """An agent edits and commits in a repository of the operator's; with a read-only mount it can read it."""
    repo = kit.work / "app"
    await git("init", "-q", "-b", "main", str(repo))
    (repo / "README").write_text("one\n")
    await git("-C", str(repo), "add", "README")
    await git("-C", str(repo), "commit", "-q", "-m", "first")
    mount = MountSetting(source=str(repo), target="/workspace/app", mode=mode)  # type: ignore[arg-type]
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in
           (("NAME", "alice"), ("EMAIL", "alice@hive"))}  # fmt: skip
    script = "cd /workspace/app && git log --format=%s && echo two >> README && git commit -qam second && git status -s"
    ended = await kit.shell(script, env={**ENV, "HOME": "/state", **who}, mounts=[mount])
    log = await git("-C", str(repo), "log", "--format=%an %s")
    if mode == "rw":
        assert (ended.code, ended.out, ended.err) == (0, "first\n", "")
        assert log == "alice second\nop first\n"
        assert (repo / "README").read_text() == "one\ntwo\n"
        assert (repo / "README").stat().st_uid == os.geteuid()
    else:
        assert (ended.out, log) == ("first\n", "op first\n")
        assert "Read-only file system" in ended.err


async def git(*words: str) -> str:
    """The operator's own git, on the host."""
    who = ("-c", "user.name=op", "-c", "user.email=op@localhost")
    return (await anyio.run_process(["git", *who, *words])).stdout.decode()


# --- as another user ---


@pytest.fixture
def library_for_all() -> Iterator[tuple[str, Path]]:
    """A Python that any user can run, and a directory with the library that any user can read."""
    with tempfile.TemporaryDirectory(prefix="hyperhive-uid-") as name:
        place = Path(name)
        place.chmod(0o755)
        packages = Path(anyio.__file__).parent.parent
        for package in ("anyio", "msgspec", "idna", "sniffio", "typing_extensions.py"):
            source = packages / package
            if source.is_dir():
                shutil.copytree(source, place / "lib" / package)
            elif source.exists():
                shutil.copy(source, place / "lib" / package)
        import hyperhive

        shutil.copytree(Path(hyperhive.__file__).parent, place / "lib/hyperhive")
        work = place / "work"
        work.mkdir()
        os.chown(work, 65534, 65534)
        yield _python_for(65534), place


def _python_for(uid: int) -> str:
    """A Python of this version that the user can run: this one, or the system's."""
    wanted = "import sys; sys.exit(sys.version_info[:2] != " + repr(tuple(sys.version_info[:2])) + ")"
    for python in (sys.executable, "/usr/bin/python3"):  # by env: setpriv itself still has root's rights
        command = [
            "setpriv",
            f"--reuid={uid}",
            f"--regid={uid}",
            "--clear-groups",
            "env",
            python,
            "-ISc",
            wanted,
        ]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip(
        f"no Python {sys.version_info[0]}.{sys.version_info[1]} that uid {uid} may run: install one under /usr"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="the whole suite runs as an ordinary user already")
@pytest.mark.parametrize("name", ["process", "bwrap"])
def test_everything_holds_for_an_ordinary_user_too(name: str, library_for_all: tuple[str, Path]) -> None:
    """The conformance suite once more, as a user who may do nothing special."""
    python, place = library_for_all
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
         python, "-m", "hyperhive.testing.runtime_suite", name, str(place / "work")],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(place / "lib"), "HOME": "/nonexistent",
             "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/", capture_output=True, text=True, check=False, timeout=55,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert stat.S_ISDIR((place / "work").stat().st_mode)
