"""The directory layout: where everything lies, on the host and in the box."""

from pathlib import Path

import pytest

from hyperhive.errors import PathTooLong, WorldError
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths

ALICE = AgentName("alice")


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / "s", tmp_path / "r")
    assert {
        "database": paths.database, "accounts": paths.accounts, "log": paths.log, "cli": paths.cli,
        "proposed": paths.proposed_config(ALICE), "applied": paths.applied_repo(ALICE), "meta": paths.meta,
        "state": paths.agent_state(ALICE), "claude": paths.agent_claude(ALICE), "harness": paths.agent_harness(ALICE),
        "host": paths.host_socket, "tools": paths.tools_socket(ALICE), "manager": paths.tools_socket(MANAGER),
        "harness socket": paths.harness_socket(ALICE),
    } == {
        "database": tmp_path / "s/hive.sqlite", "accounts": tmp_path / "s/accounts", "log": tmp_path / "s/log",
        "cli": tmp_path / "s/cli", "proposed": tmp_path / "s/proposed/alice/config",
        "applied": tmp_path / "s/applied/alice", "meta": tmp_path / "s/meta",
        "state": tmp_path / "s/agents/alice/state", "claude": tmp_path / "s/agents/alice/claude",
        "harness": tmp_path / "s/agents/alice/harness", "host": tmp_path / "r/host.sock",
        "tools": tmp_path / "r/agents/alice/mcp.sock", "manager": tmp_path / "r/manager/mcp.sock",
        "harness socket": tmp_path / "r/harness/alice/harness.sock",
    }  # fmt: skip


def test_without_a_run_directory_sockets_lie_in_the_state(tmp_path: Path) -> None:
    assert Paths.of(tmp_path).host_socket == tmp_path / "run/host.sock"


def test_every_directory_is_private_and_making_them_again_changes_nothing(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / "deep/s", tmp_path / "r")
    for _ in range(2):
        paths.make_hive()
        paths.make_agent(ALICE)
        paths.make_agent(MANAGER)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) >= 25
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}


@pytest.mark.parametrize(
    "place", ["proposed/alice", "proposed/alice/config", "agents/alice", "agents/alice/state", "agents/alice/claude",
              "agents/alice/harness", "run/agents/alice", "run/harness/alice"]
)  # fmt: skip
@pytest.mark.parametrize("what", ["link", "dangling link", "file"])
def test_an_agents_directory_is_never_made_through_a_link(place: str, what: str, tmp_path: Path) -> None:
    """What stands in the place of a directory is refused by name, and nothing is made elsewhere."""
    paths = Paths.of(tmp_path / "s")
    paths.make_hive()
    private = tmp_path / ".ssh"
    private.mkdir()
    blocked = paths.state_dir / place
    blocked.parent.mkdir(parents=True, exist_ok=True)
    if what == "file":
        blocked.write_text("x")
    else:
        blocked.symlink_to(private if what == "link" else tmp_path / "none")
    of_no_box = place.endswith("harness") or "run/harness" in place
    for make in (paths.make_agent,) if of_no_box else (paths.make_agent, paths.check_agent):
        with pytest.raises(WorldError) as refused:
            make(ALICE)
        assert str(blocked) in str(refused.value)
    assert list(private.iterdir()) == []
    assert not (tmp_path / "none").exists()


def test_the_operator_may_keep_the_hives_own_directories_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir(mode=0o700)
    (tmp_path / "s").mkdir()
    (tmp_path / "s/agents").symlink_to(tmp_path / "big")
    paths = Paths.of(tmp_path / "s")
    paths.make_hive()
    paths.make_agent(ALICE)
    paths.check_agent(ALICE)
    assert (tmp_path / "big/alice/state").is_dir()


def test_what_the_operator_made_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o750)
    (tmp_path / "s").chmod(0o750)
    Paths.of(tmp_path / "s").make_hive()
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o750


def test_a_box_has_short_names_and_a_host_its_own(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path)
    boxed, plain = paths.box(ALICE, isolated=True), paths.box(ALICE, isolated=False)
    assert (boxed.state, boxed.claude, boxed.run, boxed.config) == (
        "/state", "/claude", "/run/hive", "/agents/alice/config",
    )  # fmt: skip
    assert (plain.state, plain.run) == (str(paths.agent_state(ALICE)), str(paths.tools_dir(ALICE)))
    assert boxed.host_state == plain.host_state == paths.agent_state(ALICE)


@pytest.mark.parametrize("name", ["alice", "manager"])
def test_a_socket_path_of_107_bytes_is_the_longest(name: str) -> None:
    agent = AgentName(name)
    rest = len(str(Paths(Path("/s"), Path("/r")).harness_socket(agent))) - len("/r")
    Paths(Path("/s"), Path("/" + "r" * (107 - rest - 1))).check_sockets(agent)
    with pytest.raises(PathTooLong) as caught:
        Paths(Path("/s"), Path("/" + "é" * ((108 - rest) // 2) + "r")).check_sockets(agent)
    assert "HYPERHIVE_RUN_DIR" in str(caught.value)


def test_the_hives_own_socket_is_checked_before_anything_is_made(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / "s", tmp_path / ("r" * 107))
    with pytest.raises(PathTooLong):
        paths.make_hive()
    assert not (tmp_path / "s").exists()
