"""nix/: everything parses, and the pure functions say what the Python side says. No NixOS is here: docs/nixos.md."""

import json
import re
from pathlib import Path

import pytest

from hyperhive.agent_toml import AgentFile, parse
from hyperhive.errors import BadConfig
from hyperhive.harness.drivers.mcp_servers import EXTRA_MCP, read_extra
from hyperhive.lifecycle.runtimes import inside
from hyperhive.lifecycle.runtimes.nixos_conf import BOX_HARNESS_STATE
from nix_runs import FILES, NIX, evaluate, quoted, run
from parts import ROOT

pytestmark = pytest.mark.needs("nix")

FULL = """\
model = "sonnet"
prompt = "You keep the parser fast."
network = "none"
packages = ["ripgrep", "python3Packages.pytest"]
env = {LOG = "debug"}
[mcp.tracker]
command = "tracker-mcp"
args = ["--fast"]
allowedTools = ["list_*"]
[tools]
allow = ["Bash", "Edit"]
deny = []
ask = ["WebFetch"]
"""


def test_everything_parses(tmp_path: Path) -> None:
    done = run(tmp_path, "nix-instantiate", "--parse", *map(str, FILES))
    assert done.returncode == 0, done.stderr
    assert len(FILES) > 10
    (tmp_path / "bad.nix").write_text("{ a = ; }")
    assert "syntax error" in run(tmp_path, "nix-instantiate", "--parse", str(tmp_path / "bad.nix")).stderr


def test_agent_toml_is_read_as_the_hive_reads_it(tmp_path: Path) -> None:
    told = evaluate(tmp_path, f"lib.agentToml {{ text = {quoted(FULL)}; }}")
    file = parse(FULL)
    assert told.value == {
        "model": file.model,
        "network": file.network,
        "packages": list(file.packages or ()),
        "mcp": {"tracker": {"command": "tracker-mcp", "args": ["--fast"], "allowedTools": ["list_*"]}},
    }
    assert evaluate(tmp_path, 'lib.agentToml { text = ""; }').value == {
        "model": None, "network": None, "packages": [], "mcp": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("packages = [3]", "agent.toml.packages[0]: is a int, not a string"),
        ('packages = ["$(id)"]', "agent.toml.packages[0]: is no name of a package"),
        ('packages = "x"', "agent.toml.packages: is a string, not a list"),
        ('network = "all"', 'agent.toml.network: is "all", none of none, out, host'),
        ('typo = "x"', "agent.toml.typo: there is no such key"),
        ("mounts = []", "agent.toml.mounts: is the operator's alone"),
        ('account = "x"', "agent.toml.account: is the operator's alone"),
        ("env = {A = 1}", "agent.toml.env.A: is a int, not a string"),
        ("[mcp.a]\nargs = [1]", "agent.toml.mcp.a.args[0]: is a int, not a string"),
        ("pids = 1.5", "agent.toml.pids: is a float, not a int"),
        ("x = = 1", "toml"),
    ],
)
def test_what_the_hive_refuses_in_it_ends_a_build_too_with_the_place(
    tmp_path: Path, text: str, reason: str
) -> None:
    told = evaluate(tmp_path, f"lib.agentToml {{ text = {quoted(text)}; }}")
    assert told.value is None
    assert reason in told.error
    with pytest.raises(BadConfig):
        parse(text)


def test_every_key_that_the_hive_knows_is_known_to_nix() -> None:
    known = set(re.findall(r"^    (\w+) = ", (NIX / "lib/agent-toml.nix").read_text(), re.MULTILINE))
    assert known == {*AgentFile.__struct_fields__, "account", "harness", "limits", "mounts"}


def test_extra_mcp_servers_become_the_file_that_the_harness_reads(tmp_path: Path) -> None:
    told = evaluate(
        tmp_path, 'lib.mcp { tracker = { command = "/bin/t"; env.A = "b"; allowedTools = [ "list_*" ]; }; }'
    )
    assert isinstance(told.value, str)
    (tmp_path / "extra.json").write_text(told.value)
    server = read_extra(tmp_path / "extra.json")["tracker"]
    assert (server.command, server.env, server.allowedTools) == ("/bin/t", {"A": "b"}, ("list_*",))


@pytest.mark.parametrize(
    ("servers", "reason"),
    [
        ("{ a = { }; }", "hyperhive.extraMcpServers.a: has no command"),
        ("{ a = { command = 3; }; }", "hyperhive.extraMcpServers.a.command: is a int, not a string"),
        ('{ a = { command = "x"; tool = "y"; }; }', "hyperhive.extraMcpServers.a.tool: there is no such key"),
        ('{ "a b" = { command = "x"; }; }', "hyperhive.extraMcpServers.a b: is no name of a server"),
        ("[ ]", "hyperhive.extraMcpServers: is a list, not a set"),
    ],
)
def test_a_wrong_option_says_where_and_what(tmp_path: Path, servers: str, reason: str) -> None:
    assert reason in evaluate(tmp_path, f"lib.mcp ({servers})").error


CONTAINERS = f"""
(import {NIX}/lib/containers.nix {{
  nixosSystem = given: {{
    inherit (given) system;
    inherit (given.specialArgs) flakeInputs;
    agent = given.specialArgs.hyperhiveAgent;
    modules = map (module: if builtins.isPath module || builtins.isString module then baseNameOf module else module)
      given.modules;
  }};
  harness = "harness"; agent = "agent"; manager = "manager";
}} {{ system = "x86_64-linux"; agents = %s; }})
"""


def test_a_container_is_made_of_harness_role_and_the_agents_own_module(tmp_path: Path) -> None:
    for name in ("alice", "manager"):
        (tmp_path / name).mkdir()
    (tmp_path / "alice/agent.toml").write_text('packages = ["jq"]\n')
    (tmp_path / "alice/agent.nix").write_text("{ flakeInputs, ... }: { }")
    agents = f"""{{
      alice.input = {{ outPath = {tmp_path}/alice; inputs.tool = "pinned"; }};
      manager = {{ input = {tmp_path}/manager; role = "manager"; }};
    }}"""
    value = evaluate(tmp_path, CONTAINERS % agents).value
    assert isinstance(value, dict)
    assert value["alice"]["modules"] == ["harness", "agent", "agent.nix"]
    assert value["alice"]["flakeInputs"] == {"tool": "pinned"}
    assert value["alice"]["agent"]["name"] == "alice"
    assert value["alice"]["agent"]["toml"]["packages"] == ["jq"]
    assert value["manager"]["modules"] == ["harness", "manager"]
    assert value["manager"]["flakeInputs"] == {}


@pytest.mark.parametrize("name", ["twelve-chars", "a-", "Alice", "a b"])
def test_what_cannot_be_a_containers_name_is_refused(tmp_path: Path, name: str) -> None:
    told = evaluate(tmp_path, CONTAINERS % f'{{ "{name}".input = {tmp_path}; }}')
    assert "cannot name a container" in told.error


# Just enough of nixpkgs' lib and packages for a module to be looked at: no option types are checked by it.
STUB = """
  lib = rec {
    mkOption = o: o; mkEnableOption = t: { }; mkIf = c: v: if c then v else null; mkDefault = v: v; mkForce = v: v;
    types = { attrs = 1; bool = 1; package = 1; str = 1; enum = _: 1;
      nullOr = _: 1; listOf = _: 1; attrsOf = _: 1; strMatching = _: 1; };
    getExe = p: "${p}/bin/${p.name or p}";
    splitString = s: t: builtins.filter builtins.isString (builtins.split "[.]" t);
    attrByPath = path: default: set: if path == [ ] then set else if set ? ${builtins.head path}
      then attrByPath (builtins.tail path) default set.${builtins.head path} else default;
    getName = p: p.name or p;
  };
  pkgs = { stdenv.hostPlatform.system = "x86_64-linux"; bashInteractive = "bash"; coreutils = "coreutils"; git = "git";
    ripgrep = "rg"; util-linux = "ul"; bubblewrap = "bw"; passt = "passt"; nixos-container = "nc"; jq = "jq";
    nested.tool = "tool"; nixfmt-rfc-style = "nixfmt"; formats.toml = _: { generate = _: v: builtins.toJSON v; }; };
  self = { packages.x86_64-linux = { hyperhive = "hyperhive"; claude = "claude"; }; outPath = "/flake"; };
"""


def harness(tmp_path: Path, what: str, toml: str = "", more: str = "") -> object:
    """What the harness's module sets, for an agent of this agent.toml."""
    text = f"""let {STUB} module = import {NIX}/modules/harness.nix {{ inherit self; }};
    made = module {{
      inherit lib pkgs;
      hyperhiveAgent = {{ name = "alice"; toml = (import {NIX}/lib).agentToml {{ text = {quoted(toml)}; }}; }};
      config.hyperhive = {{ package = "hyperhive"; claude = {{ name = "claude"; outPath = "claude"; }};
        extraMcpServers = {{ }}; extraPackages = [ ]; environment = {{ }};
        allowUnfreeClaude = false; }} // {{ {more} }};
    }}; in {what}"""
    told = evaluate(tmp_path, text)
    return told.value if told.value is not None else told.error


def test_the_harness_in_a_container_is_what_the_hive_expects_there(tmp_path: Path) -> None:
    service = harness(tmp_path, "made.config.systemd.services.hyperhive-harness")
    assert isinstance(service, dict)
    assert service["environment"][inside.INSIDE] == "nixos-container"
    assert service["environment"]["HYPERHIVE_CONFIG"] == "/run/hive-harness/hive.toml"
    assert service["serviceConfig"]["ExecStart"].endswith(
        "agent serve alice --socket /run/hive-harness/harness.sock"
    )
    assert service["restartIfChanged"] is False
    assert harness(tmp_path, "made.config.users.users.agent.uid") == inside.AGENT_UID
    assert service["environment"]["HOME"] == str(inside.HARNESS_STATE) == BOX_HARNESS_STATE
    etc = harness(tmp_path, "made.config.environment.etc")
    assert isinstance(etc, dict)
    assert [f"/etc/{name}" for name in etc] == [str(EXTRA_MCP)]


def test_packages_of_agent_toml_are_looked_up_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    found = harness(tmp_path, "made.config.environment.systemPackages", 'packages = ["jq", "nested.tool"]')
    assert isinstance(found, list)
    assert {"jq", "tool"} <= {one for one in found if isinstance(one, str)}
    wrong = harness(tmp_path, "made.config.environment.systemPackages", 'packages = ["no-such"]')
    assert "agent.toml: packages: nixpkgs has no no-such" in str(wrong)


def test_nothing_unfree_is_allowed_unless_somebody_says_so_and_then_that_alone(tmp_path: Path) -> None:
    predicate = "made.config.nixpkgs.config.allowUnfreePredicate"
    assert harness(tmp_path, f"{predicate} == null") is True
    allows = f'map {predicate} [ "claude" "steam" "" ]'
    assert harness(tmp_path, allows, more="allowUnfreeClaude = true;") == [True, False, False]
    assert "allowUnfree = true" not in "".join(file.read_text() for file in FILES)


def test_the_hosts_service_is_hardened_and_can_write_what_it_must(tmp_path: Path) -> None:
    value = evaluate(tmp_path, 'lib.hardening { stateDir = "/var/lib/h"; runDir = "/run/h"; }').value
    assert isinstance(value, dict)
    assert value["ProtectSystem"] == "strict"
    assert {"/var/lib/h", "/run/h", "-/etc/nixos-containers", "-/run/systemd/system"} <= {
        *value["ReadWritePaths"]
    }
    text = f"""let {STUB} module = import {NIX}/modules/host.nix {{ inherit self; }}; made = module {{
      inherit lib pkgs; config = {{ nix.package = "nix"; systemd.package = "systemd"; services.hyperhive = {{
        enable = true; package = "hyperhive"; settings.agents.alice.account = "x";
        stateDir = "/var/lib/h"; runDir = "/run/h";
        runtime = "nixos-container"; flake = "path:/flake?dir=nix";
        externalInterface = null; extraMcpServers = {{ }}; }}; }};
    }}; in made.config.systemd.services.hyperhive"""
    service = evaluate(tmp_path, text).value
    assert isinstance(service, dict)
    assert service["environment"]["HYPERHIVE_FLAKE"] == "path:/flake?dir=nix"
    assert service["serviceConfig"]["ExecStart"].endswith(" serve")
    assert service["serviceConfig"]["ProtectSystem"] == "strict"


def test_the_cli_is_the_one_that_the_tests_run_pinned_by_the_hash_of_its_package() -> None:
    pins = json.loads((NIX / "packages/claude.json").read_text())
    locked = json.loads((ROOT / f"tests/parts/claude-{pins['version']}/package-lock.json").read_text())[
        "packages"
    ]
    for pin in pins["packages"].values():
        assert locked[f"node_modules/{pin['name']}"]["integrity"] == pin["integrity"]
        assert locked[f"node_modules/{pin['name']}"]["version"] == pins["version"]
