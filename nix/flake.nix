# HyperHive on NixOS: the package, the modules, and what the hive's own flake (STATE/meta/flake) builds containers with.
# What could be checked off NixOS and what could not: docs/nixos.md.
{
  description = "HyperHive: a hive of persistent coding agents, each in a NixOS container of its own";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        hyperhive = pkgs.callPackage ./packages/hyperhive.nix { };
        claude = pkgs.callPackage ./packages/claude.nix { };
        default = hyperhive;
      });

      nixosModules = {
        # For the machine that the hive runs on.
        host = import ./modules/host.nix { inherit self; };
        # For the containers; `lib.containers` puts them together.
        harness = import ./modules/harness.nix { inherit self; };
        agent = ./modules/agent.nix;
        manager = ./modules/manager.nix;
        default = self.nixosModules.host;
      };

      lib = import ./lib // {
        # { system, agents = { NAME = { input, role }; } } -> { NAME = nixosSystem; }
        containers = import ./lib/containers.nix {
          inherit (nixpkgs.lib) nixosSystem;
          inherit (self.nixosModules) harness agent manager;
        };
      };
    };
}
