"""The kit's own bounds: a wait that is in vain ends, and says what it was for and who is to blame."""

import os
import subprocess

import anyio
import pytest

from processes import alive, holding, output_of
from waiting import within


async def test_a_wait_in_vain_fails_with_what_was_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.01 s in vain: rain"), within(0.01, lambda: "rain"):
        await anyio.sleep_forever()
    with within(60, lambda: "nothing"):
        await anyio.lowlevel.checkpoint()


def test_who_holds_a_pipe_that_should_have_ended_is_named() -> None:
    """As a program does that was started by a hive with the hive's own output."""
    read, write = os.pipe()
    with subprocess.Popen(["sleep", "1000"], stdout=write) as heir:
        os.close(write)
        pipe = output_of(heir.pid)
        assert [one.argv for one in holding(pipe) if one.pid == heir.pid] == [("sleep", "1000")]
        assert [one.pid for one in alive([heir.pid])] == [heir.pid]
        heir.kill()
        heir.wait()
        assert heir.pid not in {one.pid for one in holding(pipe)}
        assert alive([heir.pid]) == []
    os.close(read)
