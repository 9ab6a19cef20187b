"""Which network an agent's box has: what was asked for, cut to what the operator allows. Pure."""

from typing import Final

from hyperhive.config import AgentConfig, Network

_WIDTH: Final[dict[Network, int]] = {"none": 0, "out": 1, "host": 2}


def network_in_force(config: AgentConfig, *, isolated: bool, behind_gateway: bool) -> Network:
    """The network of an agent's programs.

    Where nothing is asked for: none, if the hive's gateway serves its CLI, else `out`. `host` has to be asked for.
    Limits only ever make it narrower. Without a box there is nothing to narrow.
    """
    if not isolated:
        return "host"
    wanted: Network = config.network or ("none" if behind_gateway else "out")
    allowed = [one for one in config.limits.network if _WIDTH[one] <= _WIDTH[wanted]]
    return max(allowed, key=_WIDTH.__getitem__, default="none")
