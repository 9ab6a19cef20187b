"""Screens for a terminal: what `top` and `attach` draw, and what keys do there.

`term` owns the terminal, `loop` waits, `wires` are the lines to the hive; `fleet` and `rows` are what is known, pure;
`fleet_screen` and `agent_screen` put the two together. They speak the protocol and nothing else.
"""
