"""Mounts and limits that the operator changes: a warm process does not go on under the old ones."""

import pytest

from hyperhive.lifecycle.launching import AgentLauncher
from hyperhive.lifecycle.runtimes import ResourceLimits
from hyperhive.names import AgentName
from hyperhive.testing.turns import message
from turn_tools import Benches


async def test_a_changed_mount_or_limit_replaces_the_warm_process_at_the_next_turn(
    scripted: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = scripted.bench()
    of_runtime = bench.runtime.launcher
    now = {"limits": ResourceLimits()}

    def launcher(name: AgentName, **_: object) -> AgentLauncher:
        return AgentLauncher(
            lambda: of_runtime(name, mounts=(), limits=now["limits"], network="host"),
            lambda: str(now["limits"]),
        )

    monkeypatch.setattr(bench.runtime, "launcher", launcher)
    runner = await scripted.runner(bench)
    pids = []
    for number, pids_allowed in enumerate((512, 512, 300)):
        now["limits"] = ResourceLimits(pids=pids_allowed)
        assert (await runner.run([message(number + 1, "[[say hi]]")])).ok
        pids.append(runner.pid)
    assert pids[0] == pids[1] != pids[2]
