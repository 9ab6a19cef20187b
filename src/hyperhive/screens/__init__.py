"""What the operator's screens ask for beyond single parts: gathered, counted, searched. It changes nothing.

`snapshot` (all at once, and what goes with it by `seq`), `digest` (what happened since), `configs` (one agent's
config in all its stands), `origins` (what led to a question or an approval), `search` (texts by their words); `table`
is who answers which request.
"""

from hyperhive.screens.table import screens

__all__ = ["screens"]
