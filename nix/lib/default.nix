# Pure functions of builtins alone: they evaluate without nixpkgs, a store or a network (tests/nix does so).
{
  agentToml = import ./agent-toml.nix;
  check = import ./check.nix;
  mcp = import ./mcp.nix;
  hardening = import ./hardening.nix;
}
