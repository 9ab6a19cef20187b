"""A whole machine with systemd and Nix's daemon, and the hive on it as the service that its own command installs.

The tests of this directory run there once more, on the daemon's store. What a NixOS is more than that: docs/nixos.md.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts import ROOT
from systemd_machine import Machine, booted, tree

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.needs("nspawn", "mmdebstrap", "claude"),
    pytest.mark.timeout(1200),
]

PACKAGES = ("nix-bin", "nix-setup-systemd", "git", "bubblewrap")
NIX_CONF = """\
experimental-features = nix-command flakes
substituters =
sandbox = false
"""
CLI = [sys.executable, "-m", "hyperhive.cli"]
CLAUDE = ROOT / ".parts/claude-2.1.328/claude"
WHERE = {"HOME": "/root", "HYPERHIVE_STATE_DIR": "/hive/state", "HYPERHIVE_RUN_DIR": "/run/hyperhive"}
SUITE = ("tests/nix/test_nix_files.py", "tests/nix/test_meta_flake.py", "tests/nix/test_meta_inputs.py")
PROPOSE = """
import json, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect("/run/hyperhive/manager/mcp.sock")
line.sendall(json.dumps({"cmd": "request_apply_commit", "agent": "alice", "commit_ref": sys.argv[1]}).encode() + b"\\n")
print(line.makefile().readline())
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("machine") / "root", PACKAGES, made="HYPERHIVE_TEST_NIX_HOST")


@pytest.fixture
def machine(system: Path, tmp_path: Path) -> Iterator[Machine]:
    with booted(system, tmp_path, "nix", volatile=True) as machine:
        yield machine


def test_the_flakes_are_locked_evaluated_built_and_bumped_through_nixs_daemon(machine: Machine) -> None:
    """All that tests/nix does with a store of its own, by a user whom the daemon does not trust."""
    machine.must("tee", "/etc/nix/nix.conf", stdin=NIX_CONF)
    machine.must("systemctl", "start", "nix-daemon.socket")
    machine.must("useradd", "--create-home", "--groups", "nix-users", "builder")
    machine.must("chmod", "o+x", "/root")  # Python may lie below it
    pytest_words = (
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "--basetemp=/home/builder/t",
        *SUITE,
    )
    env = {
        "HYPERHIVE_TEST_NIX_STORE": "daemon",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPERHIVE_TEST_REQUIRE": "all",
    }
    words = " ".join([sys.executable, *pytest_words])
    variables = " ".join(f"{key}={value}" for key, value in env.items())
    done = machine.run("su", "builder", "-c", f"cd {ROOT} && env {variables} {words}", seconds=900)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    built = machine.must("sh", "-c", "ls -d /nix/store/*-system")
    assert len(built.split()) > 3, "it was the daemon's store"


def test_the_hive_runs_as_the_machines_service_and_comes_back(machine: Machine) -> None:
    """Installed by its own command: spawned, changed and rolled back under it, restarted, killed, removed."""

    def cli(*words: str, stdin: str = "") -> dict[str, object]:
        told = machine.must(
            *CLI, *words, "--json", env=WHERE | {"HYPERHIVE_CLAUDE": str(CLAUDE)}, stdin=stdin
        )
        value = json.loads(told)
        assert isinstance(value, dict)
        return value

    def until_up() -> None:
        machine.until(*CLI, "list", env=WHERE)

    # The manager's turns reach no API here, and must not hold up a restart for long.
    machine.must("sh", "-c", "mkdir /etc/hyperhive; echo 'drain_seconds = 1' > /etc/hyperhive/hive.toml")
    cli("login", stdin="sk-ant-api03-dummy\n")
    cli("service", "install", "--system", "--runtime", "bwrap")
    until_up()
    shown = machine.must("systemctl", "show", "hyperhive", "-p", "ActiveState,Delegate,MainPID,KillMode")
    assert {"ActiveState=active", "Delegate=yes", "KillMode=mixed"} <= {*shown.split()}

    cli("request-spawn", "alice")
    cli("approve", "1")
    first = settled(machine, 1)
    assert first["stage"] == "deployed", first
    repo = "/hive/state/proposed/alice/config"
    machine.until("test", "-d", f"{repo}/.git")
    machine.must("tee", f"{repo}/agent.toml", stdin='prompt = "You keep the parser fast."\n')
    git = ["git", "-C", repo, "-c", "safe.directory=*"]
    machine.must(*git, "commit", "-qam", "faster")
    sha = machine.must(*git, "rev-parse", "HEAD").strip()
    assert '"kind":"ok"' in machine.must(sys.executable, "-c", PROPOSE, sha)
    approval = cli("show", "2")["approval"]
    assert isinstance(approval, dict)
    cli("approve", "2", "--sha", sha, "--diff", str(approval["diff_sha256"]))
    second = settled(machine, 2)
    assert second["stage"] == "deployed", second

    machine.must("systemctl", "restart", "hyperhive")
    until_up()
    assert deployed(machine) == sha
    before = machine.must("systemctl", "show", "hyperhive", "-p", "MainPID", "--value").strip()
    machine.must("systemctl", "kill", "--kill-who=main", "-s", "KILL", "hyperhive")
    machine.until(
        "sh", "-c",
        f'p=$(systemctl show hyperhive -p MainPID --value); [ "$p" != 0 ] && [ "$p" != {before} ]',
    )  # fmt: skip
    until_up()
    assert deployed(machine) == sha
    cli("rollback", "alice", "0")
    assert settled(machine, 3)["stage"] == "deployed"
    journal = machine.must("journalctl", "-u", "hyperhive", "-o", "cat", "--no-pager")
    assert any(line.startswith("{") and "approval_advanced" in line for line in journal.splitlines())
    assert "sk-ant-api03-dummy" not in journal

    cli("service", "remove", "--system")
    assert machine.run("systemctl", "is-active", "hyperhive").returncode != 0
    assert machine.run("test", "-e", "/etc/systemd/system/hyperhive.service").returncode != 0
    machine.must("test", "-e", "/hive/state/hive.sqlite")
    left = "! grep -lsz 'hyperhive[.]cli' /proc/[0-9]*/cmdline | grep ."
    machine.must("sh", "-c", left)


def settled(machine: Machine, number: int) -> dict[str, object]:
    """The approval, once it is final."""
    script = f'{" ".join(CLI)} show {number} --json | grep -E \'"stage":"(deployed|failed|denied)"\''
    value = json.loads(machine.until("sh", "-c", script, env=WHERE))["approval"]
    assert isinstance(value, dict)
    return value


def deployed(machine: Machine) -> str:
    """What alice runs."""
    told = json.loads(machine.until(*CLI, "status", "alice", "--json", env=WHERE))
    return str(told["agents"][0]["view"]["deployed_sha"])
