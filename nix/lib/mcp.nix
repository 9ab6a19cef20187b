# `hyperhive.extraMcpServers` as the file that every harness on a machine or in a container reads
# (/etc/hyperhive/extra-mcp.json): { NAME = { command, args, env, allowedTools }; } -> JSON text.
servers:
let
  check = import ./check.nix;
  server = where: value:
    let
      one = check.struct {
        command = check.string;
        args = check.listOf check.string;
        env = check.attrsOf check.string;
        allowedTools = check.listOf check.string;
      } where value;
    in
    if one ? command then { args = [ ]; env = { }; allowedTools = [ ]; } // one
    else check.fail where "has no command";
  name = check.matching "[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*" "is no name of a server: letters, digits, - and single _";
  where = "hyperhive.extraMcpServers";
  named = builtins.mapAttrs (key: value: builtins.seq (name "${where}.${key}" key) (server "${where}.${key}" value))
    (check.set where servers);
in
builtins.toJSON named
