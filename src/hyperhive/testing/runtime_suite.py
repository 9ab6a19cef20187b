"""What every runtime must do, as cases that take a runtime and real programs.

`RUNTIME_CASES` lists them; a test module runs each over each runtime (`async with RuntimeKit.open(...)`). The
programs are plain shell, so that any box with a /usr can run them. What only some runtimes promise (isolation) is
not in here.
"""

import os
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from hyperhive.config import MountSetting
from hyperhive.errors import MissingPart
from hyperhive.lifecycle.runtimes import ResourceLimits, pick_runtime
from hyperhive.names import parse_agent_name
from hyperhive.paths import Paths
from hyperhive.testing.runtime_kit import (
    ENV,
    SECONDS,
    DoomedHive,
    Ended,
    RuntimeKit,
    finish,
    new_nap,
    read_until,
    sleepers,
    until_gone,
    until_sleeping,
)

# --- cases ----------------------------------------------------------------------------------------------------------


async def exit_codes_come_through(kit: RuntimeKit) -> None:
    """A program's exit code is the child's, as often as one asks."""
    for code in (0, 1, 42):
        child = await kit.start("/bin/sh", "-c", f"exit {code}")
        assert await child.wait() == code
        assert await child.wait() == child.returncode == code
        await child.aclose()


async def the_pipes_are_three(kit: RuntimeKit) -> None:
    """Standard input, output and error are separate, binary, and end when the program closes them."""
    child = await kit.start("/bin/sh", "-c", "cat; echo oops >&2; exit 7")
    ended = await finish(child, stdin="first\nsecond \u00fc\n".encode() * 20_000)
    assert ended == Ended(7, "first\nsecond \u00fc\n" * 20_000, "oops\n")


async def the_environment_is_exactly_what_was_given(kit: RuntimeKit) -> None:
    """Nothing of the hive's environment reaches the program, and PWD, which names the cwd, is all that is added."""
    env = {"PATH": "/usr/bin:/bin", "EMPTY": "", "ODD": "a=b \u00fc\n'\"$"}
    child = await kit.start("/usr/bin/env", "-0", env=env)
    seen = dict(line.split("=", 1) for line in (await finish(child)).out.rstrip("\0").split("\0"))
    launcher = kit.runtime.launcher(kit.agent, mounts=(), limits=ResourceLimits(), network="none")
    assert seen.pop("PWD") == launcher.box.state
    assert seen == env


async def programs_start_in_the_state_directory(kit: RuntimeKit) -> None:
    """The cwd is the agent's state, or what was asked for; state and the CLI's directory are writable, and stay."""
    assert (await kit.shell("pwd -P; echo kept > note")).code == 0
    box = kit.runtime.launcher(kit.agent, mounts=(), limits=ResourceLimits(), network="none").box
    assert (await kit.shell("pwd; cat note; echo login > $C/file", env={**ENV, "C": box.claude})).out == (
        f"{box.state}\nkept\n"
    )
    assert (box.host_claude / "file").read_text() == "login\n"
    assert (await kit.shell("pwd", cwd="/usr")).out == "/usr\n"


_LIBCS_OWN = 1 << 31 | 1 << 32
"""Signals 32 and 33: the C library keeps them to itself, and `make` hands them on ignored."""


async def no_signal_is_ignored_or_blocked(kit: RuntimeKit) -> None:
    """A program starts with every signal as the kernel has it: a pipe that breaks ends it."""
    ended = await kit.shell("grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -s '\\t' ' '")
    masks = [int(line.split()[1], 16) & ~_LIBCS_OWN for line in ended.out.splitlines()]
    assert masks == [0, 0], ended.out


async def only_three_descriptors_are_open(kit: RuntimeKit) -> None:
    """No descriptor of the hive leaks into the program."""
    assert (await kit.shell("echo /proc/self/fd/*")).out.split() == [
        f"/proc/self/fd/{n}" for n in (0, 1, 2)
    ] or (await kit.shell("ls /proc/$$/fd")).out.split() == ["0", "1", "2"]


async def terminate_reaches_the_payload(kit: RuntimeKit) -> None:
    """SIGTERM goes to the program itself, which ends in its own good time."""
    child = await kit.start(
        "/bin/sh", "-c", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    )
    await read_until(child.stdout, b"ready\n")
    child.terminate()
    ended = await finish(child)
    assert (ended.code, ended.out) == (5, "bye\n")
    child.terminate()  # harmless when it has ended


async def kill_ends_all_descendants(kit: RuntimeKit) -> None:
    """No descendant outlives `kill`: not in a session of its own, not orphaned, not with an empty environment."""
    nap = new_nap()
    script = f"""
        setsid sleep {nap} &
        (setsid sh -c 'env -i /bin/sleep {nap} & exit' &)
        (trap '' TERM HUP; sleep {nap}) &
        echo ready; wait"""
    child = await kit.start("/bin/sh", "-c", script)
    await read_until(child.stdout, b"ready\n")
    await until_sleeping(nap, 3)
    await child.kill()
    assert sleepers(nap) == []
    assert child.returncode not in {None, 0}
    await child.aclose()


async def leaving_a_child_kills_it(kit: RuntimeKit) -> None:
    """`aclose` leaves nothing running."""
    nap = new_nap()
    child = await kit.start("/bin/sh", "-c", f"echo ready; sleep {nap}")
    await read_until(child.stdout, b"ready\n")
    await child.aclose()
    assert sleepers(nap) == []


async def what_a_payload_leaves_behind_ends_with_it(kit: RuntimeKit) -> None:
    """When the program ends by itself, so does what it started in the background."""
    nap = new_nap()
    assert (await kit.shell(f"setsid sleep {nap} >/dev/null 2>&1 </dev/null & exit 9")).code == 9
    await until_gone(nap)


async def a_cancelled_start_leaves_nothing(kit: RuntimeKit) -> None:
    """A launch that is cancelled at any moment leaves no process."""
    for milliseconds in (0, 2, 5, 10, 15, 20, 30):
        nap = new_nap()
        with anyio.move_on_after(milliseconds / 1000):
            child = await kit.start("/bin/sh", "-c", f"sleep {nap}")
            await child.aclose()
        await until_gone(nap)


async def nothing_outlives_the_hive(kit: RuntimeKit) -> None:
    """When the hive's process is killed, its programs and their descendants end by themselves."""
    nap = new_nap()
    async with await DoomedHive.start(kit, nap) as hive:
        await until_sleeping(nap, 3)
        await hive.kill()
        await until_gone(nap)


async def nothing_outlives_a_hive_killed_while_it_starts_programs(kit: RuntimeKit) -> None:
    """At whatever moment of a launch the hive is killed, what it launched ends by itself."""
    for _ in range(5):
        nap = new_nap()
        async with await DoomedHive.start(kit, nap, busy=True) as hive:
            await hive.kill_at_some_moment()
            await until_gone(nap)


async def a_sweep_ends_what_was_orphaned(kit: RuntimeKit) -> None:
    """When hive and supervisor are both killed, the next start's sweep ends what is left."""
    nap = new_nap()
    async with await DoomedHive.start(kit, nap) as hive:
        hive.process.send_signal(signal.SIGSTOP)  # so that it cannot do anything about the death of the other
        os.kill(hive.supervisor, signal.SIGKILL)
        await hive.kill()
        await kit.runtime.sweep()
        assert sleepers(nap) == []


async def a_sweep_spares_other_hives(kit: RuntimeKit) -> None:
    """A sweep ends nothing of another hive on this machine, nor any process of nobody's."""
    nap = new_nap()
    other = Paths.of(kit.work / "other")
    await anyio.to_thread.run_sync(other.make_hive)
    await anyio.to_thread.run_sync(other.make_agent, kit.agent)
    theirs = await pick_runtime(kit.runtime.name, other, os.environ)
    launcher = theirs.launcher(kit.agent, mounts=(), limits=ResourceLimits(), network="none")
    child = await launcher.launch(["/bin/sh", "-c", f"echo ready; sleep {nap}; exit"], ENV)
    bystander = await anyio.open_process(["/bin/sh", "-c", f"echo ready; exec sleep {nap}"])
    try:
        for stream in (child.stdout, bystander.stdout):
            assert stream is not None
            await read_until(stream, b"ready\n")
        await kit.runtime.sweep()
        assert child.returncode is None
        assert bystander.returncode is None
    finally:
        bystander.kill()
        await bystander.aclose()
        await child.aclose()
        await theirs.aclose()


async def release_ends_one_agents_programs_and_no_others(kit: RuntimeKit) -> None:
    """After an agent's stop nothing of it runs, whatever held on to it; another agent's programs go on."""
    nap, other = new_nap(), new_nap()
    bob = parse_agent_name("bob")
    mine = await kit.start("/bin/sh", "-c", f"setsid sleep {nap} & sleep {nap}; exit")
    theirs = await kit.start("/bin/sh", "-c", f"sleep {other}; exit", agent=bob)
    await until_sleeping(nap, 2)
    await until_sleeping(other, 1)
    await kit.runtime.release(kit.agent)
    assert sleepers(nap) == []
    assert len(sleepers(other)) == 1
    for child in (mine, theirs):
        await child.aclose()


async def mounts_are_as_the_operator_said(kit: RuntimeKit) -> None:
    """A mounted directory is there; one that is not writable is not written (where there is isolation at all)."""
    mounts = []
    for mode in ("ro", "rw"):
        place = kit.work / mode
        place.mkdir()
        (place / "file").write_text(mode)
        mounts.append(MountSetting(source=str(place), target=f"/workspace/{mode}", mode=mode))
    read_only, writable = (kit.seen(mount) for mount in mounts)
    ended = await kit.shell(f"cat {read_only}/file {writable}/file; echo new > {writable}/new", mounts=mounts)
    assert (ended.code, ended.out) == (0, "rorw")
    assert (kit.work / "rw/new").read_text() == "new\n"
    if kit.runtime.isolated:
        ended = await kit.shell(f"echo new > {read_only}/new", mounts=mounts)
        assert ended.code != 0
        assert "Read-only file system" in ended.err


async def the_socket_directory_survives_a_restart_of_the_core(kit: RuntimeKit) -> None:
    """A running program reaches the core's socket again after the core made it anew."""
    script = """
import socket, sys
for line in sys.stdin:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sys.argv[1]); print(s.recv(99).decode(), flush=True)
"""
    box = kit.runtime.launcher(kit.agent, mounts=(), limits=ResourceLimits(), network="none").box
    if not await anyio.Path("/usr/bin/python3").exists():
        raise MissingPart("this case needs /usr/bin/python3", hint="install the package python3")
    child = await kit.start("/usr/bin/python3", "-c", script, f"{box.run}/mcp.sock")
    for life in ("first", "second"):
        with socket.socket(socket.AF_UNIX) as server:
            path = kit.paths.tools_socket(kit.agent)
            path.unlink(missing_ok=True)
            server.bind(str(path))
            server.listen()
            server.settimeout(SECONDS)
            await child.stdin.send(b"go\n")
            connection, _ = await anyio.to_thread.run_sync(server.accept)
            connection.sendall(life.encode())
            connection.close()
        await read_until(child.stdout, life.encode() + b"\n")
    await child.aclose()


async def the_program_must_be_there(kit: RuntimeKit) -> None:
    """A program that does not exist is a clear error, not a child that dies."""
    refused = None
    try:
        await kit.start("/usr/bin/no-such-program")
    except MissingPart as error:
        refused = error.message
    assert refused is not None, "it was started"
    assert "/usr/bin/no-such-program" in refused


async def memory_is_limited(kit: RuntimeKit) -> None:
    """An agent that takes more memory than it may is stopped, where the runtime says that this is enforced."""
    if "memory" not in kit.runtime.unenforced:
        small = ResourceLimits(memory=64 << 20)
        assert (
            await kit.shell("dd if=/dev/zero of=/dev/null bs=16M count=1 status=none", limits=small)
        ).code == 0
        assert (
            await kit.shell("dd if=/dev/zero of=/dev/null bs=200M count=1 status=none", limits=small)
        ).code != 0


async def tasks_are_limited(kit: RuntimeKit) -> None:
    """An agent cannot have more tasks than it may, where the runtime says that this is enforced."""
    if "pids" not in kit.runtime.unenforced:
        script = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all"
        ended = await kit.shell(script, limits=ResourceLimits(pids=20))
        assert "all" not in ended.out
        assert "fork" in ended.err


BUSY = """
ticks() { read -r _ _ _ _ _ _ _ _ _ _ _ _ _ u s _ < /proc/self/stat; used=$((u + s)); }
now() { read -r up _ < /proc/uptime; at=${up%.*}${up#*.}; }
now; end=$((at + 150)); ticks; before=$used; while [ $at -lt $end ]; do now; done; ticks; echo $((used - before))
"""
"""Burns what processor it gets for a second and a half, and says how many hundredths of a second it got."""


async def cpu_is_limited(kit: RuntimeKit) -> None:
    """An agent that wants all of a processor gets its share, where the runtime says that this is enforced."""
    if "cpu" not in kit.runtime.unenforced:
        assert int((await kit.shell(BUSY, limits=ResourceLimits(cpu=0.3))).out) <= 65


async def a_bomb_hurts_nobody_else(kit: RuntimeKit) -> None:
    """While one agent forks and takes memory without end, another's programs run; its release leaves nothing of it."""
    if {"pids", "memory"} & set(kit.runtime.unenforced):
        return
    nap = new_nap()
    # The shell that stays starts nothing once the bomb burns: dash ends when it cannot fork, and the bomb with it.
    greedy = "while :; do dd if=/dev/zero of=/dev/null bs=1G count=1; done"
    bomb = f"b() {{ sleep {nap} & b & b & }}; {{ {greedy}; }} & b & echo lit; while :; do :; done"
    small = ResourceLimits(memory=64 << 20, pids=60, cpu=0.5)
    child = await kit.start("/bin/sh", "-c", f"trap : TERM; exec 2>/dev/null; {bomb}", limits=small)
    await read_until(child.stdout, b"lit")
    for _ in range(3):
        assert (await kit.shell("echo calm", agent=parse_agent_name("bob"))).out == "calm\n"
    await kit.runtime.release(kit.agent)
    await until_gone(nap)
    await child.aclose()


async def a_file_is_limited(kit: RuntimeKit) -> None:
    """No single file grows past the disk limit."""
    ended = await kit.shell(
        "dd if=/dev/zero of=big bs=64k count=64 status=none; stat -c %s big",
        limits=ResourceLimits(disk=1 << 20),
    )
    assert ended.out == f"{1 << 20}\n"


async def twenty_start_at_once(kit: RuntimeKit) -> None:
    """Twenty agents start at the same time, each in its own directory."""
    seen: dict[str, str] = {}

    async def one(number: int) -> None:
        agent = parse_agent_name(f"agent-{number}")
        ended = await kit.shell(f"echo {number} > mine; cat mine", agent=agent)
        seen[agent] = ended.out

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(one, number)
    assert seen == {f"agent-{n}": f"{n}\n" for n in range(20)}


RUNTIME_CASES: Final[tuple[Callable[[RuntimeKit], Awaitable[None]], ...]] = (
    exit_codes_come_through,
    the_pipes_are_three,
    the_environment_is_exactly_what_was_given,
    programs_start_in_the_state_directory,
    no_signal_is_ignored_or_blocked,
    only_three_descriptors_are_open,
    terminate_reaches_the_payload,
    kill_ends_all_descendants,
    leaving_a_child_kills_it,
    what_a_payload_leaves_behind_ends_with_it,
    a_cancelled_start_leaves_nothing,
    nothing_outlives_the_hive,
    nothing_outlives_a_hive_killed_while_it_starts_programs,
    a_sweep_ends_what_was_orphaned,
    a_sweep_spares_other_hives,
    release_ends_one_agents_programs_and_no_others,
    mounts_are_as_the_operator_said,
    the_socket_directory_survives_a_restart_of_the_core,
    the_program_must_be_there,
    memory_is_limited,
    tasks_are_limited,
    cpu_is_limited,
    a_bomb_hurts_nobody_else,
    a_file_is_limited,
    twenty_start_at_once,
)


# --- as a program ---------------------------------------------------------------------------------------------------


def main() -> None:
    """`python -m hyperhive.testing.runtime_suite RUNTIME DIRECTORY`: runs every case, and names what failed.

    For a user other than the test suite's own: it needs nothing but the library.
    """
    name, directory = sys.argv[1:]
    failed = [
        case.__name__
        for number, case in enumerate(RUNTIME_CASES)  # a number: socket paths must be short
        if not _passes(case, name, Path(directory) / str(number))
    ]
    print(f"{len(RUNTIME_CASES) - len(failed)} of {len(RUNTIME_CASES)} passed; failed: {failed}")  # noqa: T201
    sys.exit(1 if failed else 0)


def _passes(case: Callable[[RuntimeKit], Awaitable[None]], name: str, directory: Path) -> bool:
    async def run() -> None:
        async with RuntimeKit.open(name, directory) as kit:  # type: ignore[arg-type]
            await case(kit)

    directory.mkdir()
    try:
        anyio.run(run)
    except Exception:  # noqa: BLE001 - supervisor: the other cases run all the same
        print(case.__name__, file=sys.stderr)  # noqa: T201
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    main()
