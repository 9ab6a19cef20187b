"""What is deployed, handed to a harness in a process of its own."""

from pathlib import Path

import pytest

from hyperhive import agent_toml
from hyperhive.config import AgentConfig, Limits
from hyperhive.errors import WorldError
from hyperhive.lifecycle.deploy.handing import HANDED, Handed, hand_over, handed


def test_what_was_handed_over_is_read_as_it_was(tmp_path: Path) -> None:
    assert handed(tmp_path) == agent_toml.AgentFile()
    file = agent_toml.parse('model = "opus"\npids = 9\n[mcp.x]\ncommand = "x"\n[tools]\nallow = ["Bash"]\n')
    hand_over(tmp_path, file)
    assert handed(tmp_path) == file
    assert [path.name for path in tmp_path.iterdir()] == [HANDED]
    assert (tmp_path / HANDED).stat().st_mode & 0o777 == 0o600


def test_a_harness_of_its_own_runs_with_it_within_the_operators_limits(tmp_path: Path) -> None:
    own = Handed(tmp_path)
    operator = AgentConfig(model="haiku", limits=Limits(pids=5))
    assert own.overlay("alice", operator) == operator
    hand_over(tmp_path, agent_toml.parse('model = "opus"\npids = 9\n'))
    assert own.overlay("alice", operator).model == "haiku", "not before it rereads"
    own.reread()
    config = own.overlay("alice", operator)
    assert (config.model, config.limits.pids) == ("opus", 5)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / HANDED).write_text("{")
    with pytest.raises(WorldError, match="cannot be read"):
        handed(tmp_path)
    with pytest.raises(WorldError, match="cannot be written"):
        hand_over(tmp_path / "nowhere", agent_toml.AgentFile())
