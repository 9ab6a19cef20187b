"""The model gateway: agents reach the model's API through the hive, which alone holds the key and meters the use."""

from hyperhive.gateway.gateway import Gateway
from hyperhive.gateway.meter import Meter, NoBudgets, Refusal
from hyperhive.gateway.upstream import Upstream

__all__ = ["Gateway", "Meter", "NoBudgets", "Refusal", "Upstream"]
