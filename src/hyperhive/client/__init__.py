"""A running hive, from another process: the library's surfaces over its admin socket, and a harness's line to its core.

`hive` what `connect` gives · `parts` its broker, lifecycle and approvals · `places` where a hive is looked for ·
`lines` one connection, without a task of its own · `core` the core as a harness in its own process sees it ·
`attached` that harness's line. Blocking clients (the command line) have their own; nothing here listens.
"""

from hyperhive.client.hive import RemoteHive, connect

__all__ = ["RemoteHive", "connect"]
