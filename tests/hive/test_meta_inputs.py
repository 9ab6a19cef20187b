"""What agents are built from, as a hive without Nix tells it: its own revision, and each agent's commit."""

import anyio
import pytest

import hyperhive
from hyperhive.client import RemoteHive
from hyperhive.errors import NotAvailable
from hyperhive.host import Hive
from hyperhive.protocol.events import MetaInputsChanged

pytestmark = pytest.mark.needs("git")


async def test_each_agents_commit_is_an_input_and_a_change_of_one_is_told(hive: Hive) -> None:
    async with hive.bus.subscribe() as events:
        await hive.lifecycle.spawn("alice")
        with anyio.fail_after(30):
            while "agent-alice" not in (
                known := {one.name: one for one in await hive.lifecycle.meta_inputs()}
            ):
                while not isinstance(getattr(await anext(events), "event", None), MetaInputsChanged):
                    pass
    assert known["hyperhive"].rev == hyperhive.__version__
    assert known["agent-alice"].rev == hive.config_code.deployed_sha("alice")
    assert known["agent-alice"].updated_at is not None


async def test_what_is_not_built_by_nix_has_nothing_to_bump_and_says_what_to_do(operator: RemoteHive) -> None:
    with pytest.raises(NotAvailable, match="not built by Nix") as refused:
        await operator.lifecycle.meta_update(["hyperhive"])
    assert "update --all" in str(refused.value.hint)
