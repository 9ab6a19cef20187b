"""hive.toml: what is read, what wins, and that one error lists every fault with its line."""

from pathlib import Path

import pytest

from hyperhive.config import (
    HiveFile,
    config_path,
    doubts,
    env_faults,
    load,
    parse_hive_file,
    parse_size,
    run_directory,
    state_directory,
)
from hyperhive.errors import BadConfig

EXAMPLE = """
listen = "127.0.0.1:7000"
idle_seconds = 60

[agents.alice]
account = "work"
mounts = [{source = "/srv/code/app", target = "/workspace/app", mode = "rw"}]
[agents.alice.limits]
network = ["none", "out"]
budget = {tokens_per_day = 2_000_000}
memory = "4G"
pids = 512
cpu = 2.0
disk = "10G"
send_to = ["manager", "bob"]
"""


def test_the_example_of_the_specification_is_read() -> None:
    file = parse_hive_file(EXAMPLE)
    alice = file.agents["alice"]
    assert file.idle_seconds == 60
    assert alice.account == "work"
    assert alice.mounts[0].target == "/workspace/app"
    assert alice.limits.network == ("none", "out")
    assert alice.limits.budget.tokens_per_day == 2_000_000
    assert alice.limits.send_to == ("manager", "bob")


def test_an_empty_file_means_the_defaults() -> None:
    file = parse_hive_file("")
    assert file == HiveFile()
    assert (file.idle_seconds, file.max_warm, file.dead_after, file.drain_seconds) == (600, 8, 5, 900)


def test_one_error_lists_every_fault_with_its_line() -> None:
    text = """idle_seconds = -1
max_warm = "x"
colour = 1
[agents.alice]
modell = "x"
[agents.Root]
[agents.bob.limits]
pids = 0
"""
    with pytest.raises(BadConfig) as caught:
        parse_hive_file(text, "h.toml")
    faults = caught.value.faults
    places = sorted(fault.split(": ")[0] for fault in faults)
    assert places == [f"h.toml:{line}" for line in (1, 2, 3, 5, 6, 8)]
    assert any("colour: unknown key; known here:" in fault for fault in faults)
    assert any("agents.bob.limits.pids" in fault for fault in faults)


def test_whom_an_agent_may_write_to_are_names() -> None:
    with pytest.raises(BadConfig) as caught:
        parse_hive_file('[agents.bob.limits]\nsend_to = ["manager", "Bad Name"]\n', "h.toml")
    [fault] = caught.value.faults
    assert fault.startswith("h.toml:2: agents.bob.limits.send_to: 'Bad Name' is no valid name")


def test_what_is_valid_and_will_not_work_is_a_doubt(tmp_path: Path) -> None:
    token = tmp_path / "token"
    text = f"""
[agents.ghost]
[agents.bob]
[notify.channels.phone]
kind = "ntfy"
url = "http://127.0.0.1:1/hive"
token_file = "{token}"
"""
    assert doubts(parse_hive_file(text), ["bob", "manager"]) == [
        "[agents.ghost]: there is no agent of this name yet",
        f"notify.channels.phone: its token_file {token} cannot be read",
    ]
    token.write_text("dummy")
    assert doubts(parse_hive_file(text), ["bob", "ghost"]) == []


def test_a_bad_name_and_a_forbidden_variable_are_faults() -> None:
    with pytest.raises(BadConfig) as caught:
        parse_hive_file('[agents.Root]\n[agents.bob.env]\nLD_PRELOAD = "x"\nlog = "debug"\n')
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(
    "key",
    [
        "LD_X",
        "NODE_OPTIONS",
        "BASH_ENV",
        "GIT_DIR",
        "ANTHROPIC_API_KEY",
        "CLAUDE_X",
        "https_proxy",
        "PATH",
        "HOME",
    ],
)
def test_an_agent_may_not_set_what_changes_which_code_runs(key: str) -> None:
    assert [name for name, _ in env_faults({key: "x", "LOG": "debug"})] == [key]


@pytest.mark.parametrize("text", ["[", "a = ", "x" * 10, "a = [" + "[" * 10_000])
def test_what_is_no_toml_is_one_clear_error(text: str) -> None:
    with pytest.raises(BadConfig):
        parse_hive_file(text)


def test_flags_win_over_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "hive.toml"
    file.write_text('runtime = "bwrap"\nlisten = "127.0.0.1:7100"\n')
    environ = {
        "HYPERHIVE_CONFIG": str(file),
        "HYPERHIVE_STATE_DIR": str(tmp_path / "state"),
        "HOME": str(tmp_path),
    }
    plain = load(environ)
    assert (plain.runtime, plain.port, plain.state_dir) == ("bwrap", 7100, tmp_path / "state")
    assert plain.run_dir == tmp_path / "state" / "run"
    named = load({**environ, "HYPERHIVE_RUNTIME": "process", "HIVE_DASHBOARD_PORT": "0"}, state_dir=tmp_path)
    assert (named.runtime, named.port, named.state_dir) == ("process", 0, tmp_path)
    assert load({**environ, "HYPERHIVE_RUNTIME": "process"}, runtime="bwrap").runtime == "bwrap"


def test_an_unknown_runtime_or_port_in_the_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig) as caught:
        load({"HOME": str(tmp_path), "HYPERHIVE_RUNTIME": "docker", "HIVE_DASHBOARD_PORT": "x"})
    assert len(caught.value.faults) == 2


def test_places_follow_the_xdg_rules_and_the_daemon_has_its_own(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/user/7"}
    state = state_directory(environ)
    assert state == tmp_path / ".local/state/hyperhive"
    assert run_directory(environ, state) == Path("/run/user/7/hyperhive")
    assert config_path(environ) == tmp_path / ".config/hyperhive/hive.toml"
    assert state_directory(environ, serve=True) == Path("/var/lib/hyperhive")
    assert config_path(environ, serve=True) == Path("/etc/hyperhive/hive.toml")


def test_sizes_are_powers_of_1024() -> None:
    assert [parse_size(text) for text in ("10", "2K", "4G")] == [10, 2048, 4 * 2**30]
