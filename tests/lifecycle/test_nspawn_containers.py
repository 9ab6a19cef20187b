"""Agents' own nspawn containers, with their harness in them: real ones, as root."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nspawn_world import ALICE, NspawnWorld

pytestmark = [
    pytest.mark.needs("nspawn"),
    pytest.mark.may_block("the test looks at files and processes between actions"),
]


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NspawnWorld]:
    async with NspawnWorld.open(tmp_path, monkeypatch) as world:
        yield world


async def test_what_the_harness_starts_in_its_container_behaves_as_in_a_box(world: NspawnWorld) -> None:
    said = await world.inside()
    assert "failed: []" in said, said
    # On the machine nothing changed hands, whoever wrote it in there.
    assert (world.paths.agent_state(ALICE) / "x").stat().st_uid == 0
