# agent.toml for the templates: { text, file } -> what of it a container is built from, checked.
# The hive has checked the whole file before anything is built; here it is read for what Nix alone can do (packages),
# and so that a wrong file ends the build with its place, whoever starts it. Environment, prompt and tools are the
# harness's affair, which the hive hands the settings to.
{ text, file ? "agent.toml" }:
let
  check = import ./check.nix;
  given = check.set file (builtins.fromTOML text);

  packageName = check.matching "[A-Za-z0-9][A-Za-z0-9._+-]{0,99}" "is no name of a package";
  alone = where: _: check.fail where "is the operator's alone: it stands in hive.toml";

  known = {
    model = check.string;
    prompt = check.string;
    network = check.oneOf [ "none" "out" "host" ];
    packages = check.listOf packageName;
    env = check.attrsOf check.string;
    mcp = check.attrsOf (check.struct {
      command = check.string;
      args = check.listOf check.string;
      env = check.attrsOf check.string;
      allowedTools = check.listOf check.string;
    });
    tools = check.struct {
      allow = check.listOf check.string;
      deny = check.listOf check.string;
      ask = check.listOf check.string;
    };
    budget = check.set;
    memory = check.string;
    pids = check.int;
    cpu = _: value: value;
    disk = check.string;
    send_to = check.listOf check.string;
    sends_per_minute = check.int;
    bytes_per_hour = check.string;
    account = alone;
    harness = alone;
    limits = alone;
    mounts = alone;
  };
  checked = check.struct known file given;
in
builtins.deepSeq checked {
  packages = checked.packages or [ ];
  mcp = checked.mcp or { };
  network = checked.network or null;
  model = checked.model or null;
}
