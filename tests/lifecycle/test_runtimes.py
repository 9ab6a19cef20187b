"""Every runtime does what the conformance suite says, on real programs and the real bubblewrap."""

import os
import resource
import signal
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteSendStream

from hyperhive.config import RuntimeName
from hyperhive.errors import MissingPart
from hyperhive.lifecycle.runtimes import pick_runtime, wrapper
from hyperhive.lifecycle.runtimes.base import Marks
from hyperhive.lifecycle.runtimes.seccomp import filter_program
from hyperhive.paths import Paths
from hyperhive.testing.runtime_kit import DoomedHive, RuntimeKit, new_nap, until_sleeping
from hyperhive.testing.runtime_suite import RUNTIME_CASES, no_signal_is_ignored_or_blocked
from parts import NSPAWN_BASE

pytestmark = pytest.mark.may_block(
    "the cases look at files between programs; the runtime itself is watched elsewhere"
)


@pytest.fixture(
    params=[
        "process",
        pytest.param("bwrap", marks=pytest.mark.needs("bwrap")),
        pytest.param("nspawn", marks=pytest.mark.needs("nspawn")),
    ]
)
async def kit(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RuntimeKit]:
    monkeypatch.setenv("HYPERHIVE_NSPAWN_BASE", str(NSPAWN_BASE))
    async with RuntimeKit.open(request.param, tmp_path) as kit:
        yield kit


@pytest.mark.parametrize("case", RUNTIME_CASES, ids=lambda case: case.__name__)
async def test_conforms(case: Callable[[RuntimeKit], Awaitable[None]], kit: RuntimeKit) -> None:
    await case(kit)


async def test_what_is_ignored_round_the_hive_is_not_ignored_in_an_agent(kit: RuntimeKit) -> None:
    """`nohup hyperhive up &` ignores SIGHUP, and in a script SIGINT: Ctrl-C of an agent's own children still works."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)}
    try:
        await no_signal_is_ignored_or_blocked(kit)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def test_a_hive_with_many_files_open_starts_programs_too(kit: RuntimeKit) -> None:
    """What it tells a program's supervisor by keeps its number there: with a thousand agents it has four digits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        assert (await kit.shell("echo calm")).out == "calm\n"
    finally:
        for one in many:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_only_the_sweep_finds_what_loses_hive_and_supervisor_at_once(tmp_path: Path) -> None:
    """Without a box a stray can lose both; the mark that it bears still tells whose it was."""
    nap = new_nap()
    async with RuntimeKit.open("process", tmp_path) as kit, await DoomedHive.start(kit, nap) as hive:
        await until_sleeping(nap, 3)
        hive.process.send_signal(signal.SIGSTOP)
        os.kill(hive.supervisor, signal.SIGKILL)
        await hive.kill()
        await until_sleeping(nap, 3)
        await kit.runtime.sweep()
        await until_sleeping(nap, 0)


async def test_without_a_box_the_pipes_are_the_programs_alone(tmp_path: Path) -> None:
    """When it closes one, the hive sees that at once: nothing else holds it open, though the program goes on."""
    async with RuntimeKit.open("process", tmp_path) as kit:
        nap = new_nap()
        child = await kit.start("/bin/sh", "-c", f"exec <&- >&- 2>&-; exec sleep {nap}")
        with anyio.fail_after(10):
            for stream in (child.stdout, child.stderr):
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            with pytest.raises(anyio.BrokenResourceError):
                await _send_for_ever(child.stdin)
        await until_sleeping(nap, 1)
        assert child.returncode is None
        await child.aclose()


async def test_a_program_whose_supervisor_is_killed_ends_with_it(kit: RuntimeKit) -> None:
    """By the kernel's hand: the hive does nothing, and need not even know."""
    nap = new_nap()
    child = await kit.start("/bin/sleep", nap)
    await until_sleeping(nap, 1)
    pid = child.pid
    while (parent := _parent(pid)) != os.getpid():
        pid = parent
    assert pid != child.pid
    os.kill(pid, signal.SIGKILL)
    await until_sleeping(nap, 0)
    await child.aclose()


async def test_a_program_that_signals_its_whole_group_hits_nothing_above_it(kit: RuntimeKit) -> None:
    """Neither its supervisor nor the outer half of its box: how it ended is told as it was."""
    told = {"process": -signal.SIGUSR1, "bwrap": 128 + signal.SIGUSR1, "nspawn": 255}[kit.runtime.name]
    assert (await kit.shell("kill -USR1 0; sleep 5")).code == told


async def _send_for_ever(stream: ByteSendStream) -> None:
    while True:
        await stream.send(b"x" * 65536)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def test_a_hive_inside_an_agent_marks_its_own_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without privilege a mark can only be lowered: each level of hives has marks below those of the level above."""
    above = Marks(tmp_path).next("alice")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (above, above))
    below = Marks(tmp_path)
    assert 1 << 61 <= below.next("alice") < 1 << 62 <= above
    assert (
        below.next("alice") >> wrapper.ONE_HIVE == below.any >> wrapper.ONE_HIVE != above >> wrapper.ONE_HIVE
    )


def test_what_forks_and_ends_while_it_is_looked_for_is_found_all_the_same(tmp_path: Path) -> None:
    """A process that ends between two looks may have left others: 200 that do just that leave nobody."""
    marks = Marks(tmp_path)
    for _ in range(200):
        mark = marks.next("alice")
        read_end, write_end = os.pipe()
        os.close(read_end)
        with subprocess.Popen(
            ["/bin/sh", "-c", "sleep 600 & sleep 600 & echo ends by SIGPIPE"],
            preexec_fn=lambda mark=mark: resource.setrlimit(resource.RLIMIT_RTTIME, (mark, mark)),  # type: ignore[misc]  # noqa: PLW1509
            stdout=write_end,
            stderr=subprocess.DEVNULL,
        ):
            os.close(write_end)
            assert wrapper.kill_marked(mark) == []
        left = wrapper.marked(mark)
        wrapper.kill_pids(left)
        assert left == []


def test_marks_tell_launches_agents_and_hives_apart(tmp_path: Path) -> None:
    marks, other = Marks(tmp_path / "a"), Marks(tmp_path / "b")
    first, second, bob = marks.next("alice"), marks.next("alice"), marks.next("bob")
    assert len({first, second, bob}) == 3
    assert (
        first >> wrapper.ONE_AGENT
        == second >> wrapper.ONE_AGENT
        == (marks.of("alice") or 0) >> wrapper.ONE_AGENT
    )
    assert first >> wrapper.ONE_AGENT != bob >> wrapper.ONE_AGENT
    assert (
        first >> wrapper.ONE_HIVE == bob >> wrapper.ONE_HIVE == Marks(tmp_path / "a").any >> wrapper.ONE_HIVE
    )
    assert first >> wrapper.ONE_HIVE != other.any >> wrapper.ONE_HIVE
    assert marks.of("carol") is None
    assert max(first, second, bob) < 1 << 63


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_call_filter_refuses_the_listed_calls_and_other_architectures(machine: str) -> None:
    """Run here by hand, as the kernel would: load, compare, return."""
    program = filter_program(machine)
    assert program is not None
    lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    keyctl, read = {"x86_64": (250, 0), "aarch64": (219, 63)}[machine]
    assert run_filter(lines, arch, read) == 0x7FFF0000
    assert run_filter(lines, arch, keyctl) == run_filter(lines, 0x40000003, read) == 0x00050001
    assert machine != "x86_64" or run_filter(lines, arch, read | 0x40000000) == 0x00050001


def run_filter(lines: list[tuple[int, ...]], arch: int, number: int) -> int:
    at = value = 0
    while True:
        code, jump, other, operand = lines[at]
        at += 1
        if code == 0x20:
            value = arch if operand == 4 else number
        elif code == 0x15:
            at += jump if value == operand else other
        elif code == 0x35:
            at += jump if value >= operand else other
        else:
            return operand


def test_an_unknown_machine_has_no_filter() -> None:
    assert filter_program("s390x") is None


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize("name", ["auto", "bwrap"])
async def test_auto_is_bwrap(name: RuntimeName, tmp_path: Path) -> None:
    runtime = await pick_runtime(name, Paths.of(tmp_path), {"PATH": "/usr/bin:/bin"})
    assert (runtime.name, runtime.isolation) == ("bwrap", "bwrap")
    await runtime.aclose()


async def test_without_bubblewrap_auto_names_the_package_and_does_not_fall_back(tmp_path: Path) -> None:
    with pytest.raises(MissingPart) as caught:
        await pick_runtime("auto", Paths.of(tmp_path), {"PATH": str(tmp_path)})
    assert "package bubblewrap" in str(caught.value)


async def test_a_bubblewrap_that_cannot_make_boxes_is_refused_with_what_it_said(tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(MissingPart) as caught:
        await pick_runtime("bwrap", Paths.of(tmp_path), {"PATH": str(tmp_path)})
    assert "No permissions to create new namespace" in str(caught.value)


async def test_process_says_that_it_isolates_nothing(tmp_path: Path) -> None:
    runtime = await pick_runtime("process", Paths.of(tmp_path), {"PATH": "/usr/bin:/bin"})
    assert runtime.isolation == "none"
    assert "no box" in " ".join(runtime.cautions)
    assert "disk" in runtime.unenforced
    await runtime.aclose()
