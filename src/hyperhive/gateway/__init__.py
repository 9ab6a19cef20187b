"""The model gateway: agents reach the model's API through the hive, which alone holds the key and meters the use."""

from hyperhive.gateway.meter import Meter, NoBudgets, Refusal, Usage

__all__ = ["Meter", "NoBudgets", "Refusal", "Usage"]
