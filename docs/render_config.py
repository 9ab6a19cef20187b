"""docs/reference/config.md: hive.toml and the variables, from hyperhive.config.

Variables are read in several modules, so their table stands here; rendering fails when the code names one that the
table does not. What the code does not name is left out.
"""

import re
from pathlib import Path

import hyperhive
from hyperhive import agent_toml, config
from render_types import doc, field_table, mentioned, table

VARIABLES = {
    "HYPERHIVE_CONFIG": "Path of hive.toml.",
    "HYPERHIVE_STATE_DIR": "Where the hive keeps its state.",
    "HYPERHIVE_RUN_DIR": "Where the hive puts its sockets, and where clients look for them first.",
    "HYPERHIVE_CLAUDE": "Path of the agent CLI.",
    "HYPERHIVE_RUNTIME": "What agents live in; wins over hive.toml.",
    "HYPERHIVE_NSPAWN_BASE": "The root file system that nspawn containers share; wins over hive.toml.",
    "HYPERHIVE_FLAKE": "The flake that NixOS containers are built with; the host module sets it.",
    "HYPERHIVE_NIXOS_ROOT": "Another root directory than / for /etc/nixos-containers; for tests.",
    "HYPERHIVE_INSIDE": "What the container is that `agent serve` runs in; set in the container's unit.",
    "HYPERHIVE_INSIDE_ROOT": "The descriptor of an nspawn container's root; the hive sets it for the harness there.",
    "HYPERHIVE_CONTAINER": "What an nspawn container was started as; the hive sets it for the container's keeper.",
    "HYPERHIVE_EVENTS_DB": "Where `agent serve` keeps the agent's event history.",
    "HYPERHIVE_MODEL_FILE": "Where `agent serve` keeps the agent's model.",
    "HIVE_DASHBOARD_PORT": "The dashboard's port; wins over the port of `listen`.",
    "HIVE_OPERATOR_PRONOUNS": "The operator's pronouns, as agents are told; wins over hive.toml.",
}
NAME = re.compile(r"[\"'](HYPERHIVE_[A-Z_]+|HIVE_[A-Z_]+)[\"']")


def _read_by_the_code() -> set[str]:
    package = Path(hyperhive.__path__[0])
    sources = [path for path in package.rglob("*.py") if "testing" not in path.relative_to(package).parts]
    return {name for source in sources for name in NAME.findall(source.read_text())}


def _variables() -> str:
    code = _read_by_the_code()
    if unknown := code - VARIABLES.keys():
        raise LookupError(f"docs/render_config.py says nothing of {', '.join(sorted(unknown))}")
    return table(
        ("variable", "means"), [(f"`{name}`", VARIABLES[name]) for name in VARIABLES if name in code]
    )


def render() -> str:
    """The page."""
    parts = [struct for struct in mentioned([config.HiveFile]) if struct is not config.AgentConfig]
    sections = "\n\n".join(f"### {part.__name__}\n\n{doc(part)}\n\n{field_table(part)}" for part in parts)
    return f"""# Configuration

What the operator sets. Whatever is not written has its default.

Where `hive.toml` is: `$HYPERHIVE_CONFIG`, else `$XDG_CONFIG_HOME/hyperhive/hive.toml`, else for `serve`
`/etc/hyperhive/hive.toml`. Flags win over variables, variables over the file. An unknown key or a wrong value is
refused with its line; a hive that runs keeps the old file in force then. Sizes are written as `512M` or `4G` (powers
of 1024), times in seconds.

## hive.toml

{field_table(config.HiveFile)}

### AgentConfig

One table `[agents.NAME]` an agent. {doc(config.AgentConfig)}

{field_table(config.AgentConfig)}

{sections}

## agent.toml

At the top of an agent's config repo; it changes by approved commits only ([approvals](../approvals.md)).
{doc(agent_toml.AgentFile)}

{field_table(agent_toml.AgentFile)}

## Variables

{_variables()}
"""
