"""Which groups there are. A part adds its own by a module with `groups() -> list[Group]` and a line here."""

from importlib import import_module

from tests.bench.table import Group

MODULES = (
    "tests.bench.broker_rows",
    "tests.bench.socket_rows",
    "tests.bench.flood_rows",
    "tests.bench.stream_rows",
    "tests.bench.sse_rows",
    "tests.bench.gateway_rows",
    "tests.bench.turn_rows",
    "tests.bench.hive_rows",
    "tests.bench.screens_rows",
    "tests.bench.dashboard_rows",
    "tests.bench.deploy_rows",
)


def all_groups() -> list[Group]:
    """Every group, in the order of the table."""
    return [group for name in MODULES for group in import_module(name).groups()]
