"""The fake `nixos-container` has the grammar and the traps of the real one: what docs/gotchas.md says of it."""

import json
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperhive.testing import fake_nixos
from nixos_world import FakeHost

pytestmark = [pytest.mark.needs("bwrap"), pytest.mark.needs("root")]

ALSO = "With --host-address set, --local-address is required as well!\n"
FLAKE = """{
  inputs = {
    agent-alice = { rev = "0123456789012345678901234567890123456789"; };
  };
  alice = { input = inputs.agent-alice; };
}
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeHost]:
    host = FakeHost.make(tmp_path)
    (tmp_path / "flake").mkdir()
    (tmp_path / "flake/flake.nix").write_text(FLAKE)
    yield host
    host.close()


def ref(host: FakeHost) -> str:
    return f"path:{host.root.parent / 'flake'}"


def made(host: FakeHost) -> FakeHost:
    assert host.run("create", "alice", "--flake", f"{ref(host)}#alice").returncode == 0
    return host


def test_create_writes_the_conf_in_order_and_speaks_on_standard_error_alone(host: FakeHost) -> None:
    done = host.run("--auto-start", "create", "--flake", f"{ref(host)}#alice", "alice", "--option", "a", "b")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "host IP is 10.233.1.1, container IP is 10.233.1.2\n"
    assert (host.root / "etc/nixos-containers/alice.conf").read_text() == (
        "PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.1.1\nLOCAL_ADDRESS=10.233.1.2\nHOST_BRIDGE=\nHOST_PORT=\n"
        f"AUTO_START=1\nFLAKE={ref(host)}\n"
    )


def test_the_attribute_is_forgotten_so_a_bare_update_builds_another_and_fails(host: FakeHost) -> None:
    done = made(host).run("update", "alice")
    assert done.returncode != 0
    assert '"container"' in done.stderr
    assert host.run("update", "alice", "--flake", f"{ref(host)}#alice").returncode == 0


def test_a_create_whose_build_fails_leaves_its_conf(host: FakeHost) -> None:
    failed = host.run("create", "alice", "--flake", f"{ref(host)}#bob")
    assert failed.returncode != 0
    assert "failed to build container from flake" in failed.stderr
    again = host.run("create", "alice", "--flake", f"{ref(host)}#alice")
    assert (again.returncode, again.stderr) == (25, "nixos-container: container ‘alice’ already exists\n")
    assert host.run("destroy", "alice").returncode == 0
    assert made(host).run("list").stdout == "alice\n"


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["status", "nobody"], 2, "gone\n", "nixos-container: container ‘nobody’ does not exist\n"),
        (["destroy", "nobody"], 0, "", ""),
        (["start", "nobody"], 2, "", "nixos-container: container ‘nobody’ does not exist\n"),
        (["run", "nobody", "--", "true"], 2, "", "nixos-container: container ‘nobody’ does not exist\n"),
        (["list"], 0, "", ""),
        ([], 255, "", "nixos-container: no action specified\n"),
        (["start"], 255, "", "nixos-container: no container name specified\n"),
        (["start", "a b"], 2, "", "nixos-container: invalid container name\n"),
        (["start", "--no-such"], 1, "", "Unknown option: no-such\n"),
        (["create", "twelve-chars"], 2, "", "nixos-container: container name ‘twelve-chars’ is too long\n"),
        (["create", "a", "--host-address", "1.2.3.4"], 255, "", ALSO),
    ],
)  # fmt: skip
def test_errors_are_whatever_perl_makes_of_them(
    host: FakeHost, words: list[str], code: int, out: str, err: str
) -> None:
    done = host.run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_a_name_with_a_line_end_passes_the_real_pattern_too(host: FakeHost) -> None:
    assert "does not exist" in host.run("status", "alice\n").stderr


def test_a_container_goes_up_and_down_and_destroy_leaves_nothing_but_what_was_bound(
    host: FakeHost, tmp_path: Path
) -> None:
    made(host)
    (tmp_path / "state").mkdir()
    with (host.root / "etc/nixos-containers/alice.conf").open("a") as conf:
        conf.write(f'EXTRA_NSPAWN_FLAGS="--bind={tmp_path}/state:/state"\n')
    assert host.run("status", "alice").stdout == "down\n"
    assert host.run("start", "alice").returncode == 0
    assert host.run("status", "alice").stdout == "up\n"
    inside = host.run("run", "alice", "--", "sh", "-c", "echo kept > /state/note; hostname; exit 42")
    assert (inside.returncode, inside.stdout) == (42, "alice\n")
    assert host.run("show-ip", "alice").stdout == "10.233.1.2\n"
    assert host.run("stop", "alice").returncode == 0
    assert host.run("status", "alice").stdout == "down\n"
    assert host.run("destroy", "alice").returncode == 0
    assert host.run("status", "alice").returncode == 2
    assert (tmp_path / "state/note").read_text() == "kept\n"
    left = [str(path) for path in host.root.rglob("*alice*") if "nix/store" not in str(path)]
    assert left == [str(host.root / "run/alice.log")]


def test_new_flags_take_effect_at_a_restart_only_and_a_blank_in_them_breaks_the_start(
    host: FakeHost, tmp_path: Path
) -> None:
    made(host).run("start", "alice")
    conf = host.root / "etc/nixos-containers/alice.conf"
    plain = conf.read_text()
    conf.write_text(f'{plain}EXTRA_NSPAWN_FLAGS="--bind-ro={tmp_path}/flake:/state"\n')
    assert host.run("update", "alice", "--flake", f"{ref(host)}#alice").stderr == "reloading container...\n"
    assert host.run("run", "alice", "--", "ls", "/state").returncode != 0
    assert host.run("restart", "alice").returncode == 0
    assert host.run("run", "alice", "--", "ls", "/state").stdout == "flake.nix\n"
    assert host.run("run", "alice", "--", "touch", "/state/x").returncode != 0
    conf.write_text(f'{plain}EXTRA_NSPAWN_FLAGS="--bind-ro={tmp_path}/a b:/state"\n')
    failed = host.run("restart", "alice")
    assert failed.returncode != 0
    assert f"Failed to stat {tmp_path}/a" in failed.stderr


def test_what_runs_in_a_container_gets_term_and_its_time(tmp_path: Path) -> None:
    script = "trap 'echo bye > /state/note; exit 0' TERM; echo up > /state/note; while :; do sleep 0.05; done"
    host = FakeHost.make(tmp_path, ["sh", "-c", script])
    (tmp_path / "flake").mkdir()
    (tmp_path / "flake/flake.nix").write_text(FLAKE)
    (tmp_path / "state").mkdir()
    made(host)
    with (host.root / "etc/nixos-containers/alice.conf").open("a") as conf:
        conf.write(f"EXTRA_NSPAWN_FLAGS=--bind={tmp_path}/state:/state\n")
    try:
        assert host.run("start", "alice").returncode == 0
        host.run("run", "alice", "--", "sh", "-c", "until grep -q up /state/note; do sleep 0.01; done")
        assert host.run("stop", "alice").returncode == 0
        assert (tmp_path / "state/note").read_text() == "bye\n"
    finally:
        host.close()


def test_a_container_whose_first_process_ends_is_down(host: FakeHost) -> None:
    made(host).run("start", "alice")
    leader = json.loads((host.root / "run/units/alice.json").read_text())["leader"]
    handle = os.pidfd_open(leader)
    signal.pidfd_send_signal(handle, signal.SIGKILL)

    select.select([handle], [], [], 10)
    os.close(handle)
    assert host.run("status", "alice").stdout == "down\n"


def test_each_verb_can_be_made_to_fail(host: FakeHost) -> None:
    for verb in ("create", "build"):
        fake_nixos.set_fault(host.root, verb, "out of luck", 7)
        failed = host.run("create", "alice", "--flake", f"{ref(host)}#alice")
        assert failed.returncode != 0
        assert "out of luck" in failed.stderr
        fake_nixos.set_fault(host.root, verb, None)
        host.run("destroy", "alice")
    made(host)
    for verb in ("start", "stop", "update", "status", "destroy"):
        fake_nixos.set_fault(host.root, verb, "out of luck", 7)
        failed = host.run(verb, "alice", *(("--flake", f"{ref(host)}#alice") if verb == "update" else ()))
        assert (failed.returncode, "out of luck" in failed.stderr) == (7, True)
        fake_nixos.set_fault(host.root, verb, None)


def test_addresses_are_the_first_free_ones(host: FakeHost) -> None:
    made(host)
    for name, address in (("other", "10.233.2.1"), ("third", "10.233.3.1")):
        assert address in host.run("create", name, "--system-path", "/").stderr
    host.run("destroy", "other")
    assert "10.233.2.1" in host.run("create", "fourth", "--system-path", "/").stderr
    assert host.run("create", "other", "--ensure-unique-name", "--system-path", "/").stdout == "other\n"
    assert host.run("create", "other", "--ensure-unique-name", "--system-path", "/").stdout == "other-0\n"
