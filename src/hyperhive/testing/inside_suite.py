"""The runtime suite inside of a container: `python -m hyperhive.testing.inside_suite [SCRIPT]`, as root in there.

What a container's harness starts must behave as what the core starts in a box. Left out are the cases in which a second
hive takes part (a container has one harness), those about limits (which are the container's) and mounts (as well).
With a shell script it runs that as one of the agent's programs would be, and prints what the script does.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from hyperhive.lifecycle.runtimes import pick_runtime
from hyperhive.lifecycle.runtimes.inside import AGENT_UID, HARNESS_STATE, InsidePaths
from hyperhive.testing import runtime_suite as suite
from hyperhive.testing.runtime_kit import RuntimeKit, finish


async def programs_run_as_the_other_user(kit: RuntimeKit) -> None:
    """Who owns what the host shows, has no privilege, and gets none."""
    script = "id -u; id -g; touch /state/x; stat -c %u /state /state/x /claude"
    ended = await kit.shell(f"{script}; grep -E 'Cap(Eff|Bnd)|NoNew' /proc/self/status")
    lines = ended.out.split()
    assert lines[:5] == [f"{AGENT_UID}"] * 5, ended
    assert lines[5:] == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"], ended


async def the_harness_is_out_of_their_reach(kit: RuntimeKit) -> None:
    """Its directories and its process: neither to be read nor ended."""
    own = f"/proc/{os.getpid()}"
    script = f"ls /var/lib/hive-harness; ls /run/hive-harness; kill -9 {os.getpid()}; cat {own}/environ; ls {own}/root"
    ended = await kit.shell(script)
    assert ended.code != 0
    assert ended.out == ""
    assert ended.err.count("Permission denied") + ended.err.count("No such file") == 4, ended
    assert "not permitted" in ended.err


async def files_of_the_harness_are_read_as_copies(kit: RuntimeKit) -> None:
    """Where the agent's program is to read one: by the name that it is given, and nothing beside it."""
    file = HARNESS_STATE / "servers.json"
    file.write_text("{}")
    file.chmod(0o600)
    child = await kit.start("/bin/sh", "-c", 'cat "$0"; ls -A "${0%/*}"', str(file), readable=[file])
    assert (await finish(child)).out.split() == ["{}servers.json"]


async def copies_of_the_harnesss_files_stay_as_they_are(kit: RuntimeKit) -> None:
    """What an agent's next turn is started with is not the agent's to change: settings, hooks, a prompt, the CLI."""
    file = HARNESS_STATE / "settings.json"
    file.write_text("own")
    script = 'chmod u+w "$0"; echo other >"$0"; rm -f "$0"; mv "$0" "$0.old"; touch "${0%/*}/more"'
    await finish(await kit.start("/bin/sh", "-c", script, str(file), readable=[file]))
    child = await kit.start("/bin/sh", "-c", 'cat "$0"; ls -A "${0%/*}"', str(file), readable=[file])
    assert (await finish(child)).out.split() == ["ownsettings.json"]


CASES: Final = (
    suite.exit_codes_come_through,
    suite.the_pipes_are_three,
    suite.the_environment_is_exactly_what_was_given,
    suite.programs_start_in_the_state_directory,
    suite.no_signal_is_ignored_or_blocked,
    suite.only_three_descriptors_are_open,
    suite.terminate_reaches_the_payload,
    suite.kill_ends_all_descendants,
    suite.leaving_a_child_kills_it,
    suite.what_a_payload_leaves_behind_ends_with_it,
    suite.a_cancelled_start_leaves_nothing,
    suite.the_program_must_be_there,
    suite.a_file_is_limited,
    programs_run_as_the_other_user,
    the_harness_is_out_of_their_reach,
    files_of_the_harness_are_read_as_copies,
    copies_of_the_harnesss_files_stay_as_they_are,
)


def main() -> None:
    """Runs every case, and names what failed."""
    if len(sys.argv) > 1:
        sys.exit(anyio.run(_run, sys.argv[1]))
    failed = [case.__name__ for case in CASES if not _passes(case)]
    print(f"{len(CASES) - len(failed)} of {len(CASES)} passed; failed: {failed}")  # noqa: T201
    sys.exit(1 if failed else 0)


@asynccontextmanager
async def _kit() -> AsyncIterator[RuntimeKit]:
    paths = InsidePaths.of(Path("/var/lib/hyperhive"))
    runtime = await pick_runtime("process", paths, os.environ)
    try:
        with anyio.fail_after(60):
            yield RuntimeKit(runtime=runtime, paths=paths, work=Path(tempfile.mkdtemp()))
    finally:
        await runtime.aclose()


async def _run(script: str) -> int:
    async with _kit() as kit:
        ended = await kit.shell(script)
    sys.stdout.write(ended.out)
    sys.stderr.write(ended.err)
    return ended.code


def _passes(case: object) -> bool:
    async def run() -> None:
        async with _kit() as kit:
            await case(kit)  # type: ignore[operator]

    try:
        anyio.run(run)
    except Exception:  # noqa: BLE001 - supervisor: the other cases run all the same
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    main()
