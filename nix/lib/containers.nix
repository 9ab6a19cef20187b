# The agents' systems. Called by the hive's own flake, with one input an agent:
#   { system, agents = { NAME = { input = inputs.agent-NAME; role = "agent" | "manager"; }; } }
# An agent's repo gives agent.toml, beside it agent.nix (a module), and with a flake.nix of its own the inputs of that,
# which reach agent.nix as `flakeInputs`.
{ nixosSystem, harness, agent, manager }:
{ system, agents }:
let
  check = import ./check.nix;
  name = check.matching "[a-z]([a-z0-9-]{0,9}[a-z0-9])?" "cannot name a container: at most 11 of a-z, 0-9 and -";
  one = agentName: { input, role ? "agent" }:
    let
      source = toString input;
      module = "${source}/agent.nix";
      toml = "${source}/agent.toml";
    in
    builtins.seq (name "agents.${agentName}" agentName) (nixosSystem {
      inherit system;
      specialArgs = {
        flakeInputs = input.inputs or { };
        hyperhiveAgent = {
          name = agentName;
          toml = import ./agent-toml.nix {
            text = if builtins.pathExists toml then builtins.readFile toml else "";
            file = "${agentName}: agent.toml";
          };
        };
      };
      modules = [
        harness
        (if check.oneOf [ "agent" "manager" ] "agents.${agentName}.role" role == "manager" then manager else agent)
      ] ++ (if builtins.pathExists module then [ module ] else [ ]);
    });
in
builtins.mapAttrs one agents
