"""Starting what is to outlive the hive: through a wrapper that goes on by itself once its program runs.

Until then it depends on the hive as any other: a start that is cut short leaves nothing.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread

from hyperhive.errors import TimedOut, WorldError
from hyperhive.lifecycle.runtimes.launch import (
    START_SECONDS,
    WRAPPER_VARIABLES,
    Plan,
    answer_of,
    memory_file,
    receive,
    refusal,
    spec_of,
)

SAID_MAX = 4096


async def start_detached(
    plan: Plan, program: Path, *, log: Path, env: Mapping[str, str], **more: object
) -> None:
    """Starts what `plan` says and returns when it runs; nothing here ends it then.

    Args:
        plan: as for `launch`.
        program: the wrapper.
        log: where all of it writes; appended to.
        env: what is added to the wrapper's own environment.
        more: what the wrapper is told beside the plan.

    Raises:
        WorldError: it did not start, and what was said.
        TimedOut: it took longer than `START_SECONDS`, and was ended.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    file = spec = -1
    try:
        file = await anyio.to_thread.run_sync(
            lambda: os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        )
        begins = os.fstat(file).st_size
        spec = await anyio.to_thread.run_sync(memory_file, "spec", spec_of(plan, theirs.fileno(), **more))
        with anyio.fail_after(START_SECONDS):
            await anyio.run_process(
                [*plan.prefix, sys.executable, "-ISB", str(program), str(spec)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={name: os.environ[name] for name in WRAPPER_VARIABLES if name in os.environ} | dict(env),
                cwd="/",
                check=False,
                pass_fds=(spec, theirs.fileno()),
                start_new_session=True,
            )
            theirs.close()
            if not await _runs(plan, ours, log, begins):
                said = await anyio.to_thread.run_sync(_said, log, begins)
                raise WorldError(
                    f"the container of {plan.program} did not start: {said or 'it said nothing'}"
                )
    except TimeoutError as error:
        raise TimedOut(f"{plan.program} did not start within {START_SECONDS:.0f} s") from error
    except OSError as error:
        raise WorldError(f"{plan.program} cannot be started: {error}") from error
    finally:
        ours.close()
        theirs.close()
        for fd in (file, spec):
            if fd >= 0:
                os.close(fd)


async def _runs(plan: Plan, line: socket.socket, log: Path, begins: int) -> bool:
    """False: it ended without a word. Raises: HiveError: a step failed."""
    told = b""
    while b'"started"' not in told:
        if not (more := await receive(line)):
            return False
        told += more
        for word in answer_of(told):
            if "step" in word:
                refused = refusal(plan, word["step"], word["errno"])
                said = "" if word["step"] == "exec" else await anyio.to_thread.run_sync(_said, log, begins)
                raise type(refused)(f"{refused.message}: {said}", hint=refused.hint) if said else refused
    return True


def _said(log: Path, begins: int) -> str:
    """What was written since. Blocks."""
    with log.open("rb") as file:
        file.seek(begins)
        text = file.read(SAID_MAX).decode(errors="replace").strip()
    return " · ".join(text.splitlines()[-5:])
