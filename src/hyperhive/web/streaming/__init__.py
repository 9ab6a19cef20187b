"""The browsers' streams: one connection a browser, many streams on it, replay, heartbeats, and nobody waits.

`feed`: one stream of the core, read and encoded once. `stream`: one browser's ring and ids. `hub`: limits,
subscriptions, timers. `response`: writes it, as server-sent events; the only one that knows HTTP.
"""

from hyperhive.web.streaming.hub import Hub, HubLimits
from hyperhive.web.streaming.stream import BrowserStream, Connection

__all__ = ["BrowserStream", "Connection", "Hub", "HubLimits"]
