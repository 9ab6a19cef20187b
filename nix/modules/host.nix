# The machine that the hive runs on: the service `hyperhive serve`, the programs it uses, what its containers reach.
{ self }:
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkEnableOption mkIf mkOption types;
  cfg = config.services.hyperhive;
  pure = import ../lib;
in
{
  options.services.hyperhive = {
    enable = mkEnableOption "the hive";
    package = mkOption {
      type = types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.hyperhive;
      description = "HyperHive itself.";
    };
    settings = mkOption {
      type = types.attrs;
      default = { };
      example = { agents.alice.limits.memory = "8G"; };
      description = "hive.toml. Keys and tokens do not belong here: everybody can read it. `hyperhive login` takes them.";
    };
    stateDir = mkOption {
      type = types.strMatching "/[A-Za-z0-9._/+@-]*";
      default = "/var/lib/hyperhive";
      description = "Everything the hive keeps. No blanks: nspawn's flags cannot hold them.";
    };
    runDir = mkOption {
      type = types.strMatching "/[A-Za-z0-9._/+@-]*";
      default = "/run/hyperhive";
      description = "The sockets.";
    };
    runtime = mkOption {
      type = types.enum [ "auto" "bwrap" "nspawn" "nixos-container" ];
      default = "nixos-container";
      description = "What agents live in.";
    };
    flake = mkOption {
      type = types.str;
      default = "path:${self}?dir=nix";
      description = "The flake that the agents' containers are built with: this one, as the machine was built from.";
    };
    externalInterface = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "eth0";
      description = "Where agents with network `out` leave the machine. Null: they reach nothing.";
    };
    extraMcpServers = mkOption {
      type = types.attrs;
      default = { };
      description = "MCP servers of every agent whose harness runs on this machine itself.";
    };
  };

  config = mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc."hyperhive/hive.toml".source = (pkgs.formats.toml { }).generate "hive.toml" cfg.settings;
    environment.etc."hyperhive/extra-mcp.json".text = pure.mcp cfg.extraMcpServers;

    nix.settings.experimental-features = [ "nix-command" "flakes" ];
    boot.enableContainers = true;

    systemd.services.hyperhive = {
      description = "HyperHive";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" "nix-daemon.socket" ];
      path = [
        config.nix.package
        pkgs.nixos-container
        pkgs.git
        pkgs.bubblewrap
        pkgs.passt
        pkgs.util-linux
        config.systemd.package
      ];
      environment = {
        HYPERHIVE_STATE_DIR = cfg.stateDir;
        HYPERHIVE_RUN_DIR = cfg.runDir;
        HYPERHIVE_CONFIG = "/etc/hyperhive/hive.toml";
        HYPERHIVE_RUNTIME = cfg.runtime;
        HYPERHIVE_FLAKE = cfg.flake;
      };
      # Containers run on while the service is exchanged: an upgrade of the machine ends no turn.
      serviceConfig = pure.hardening { inherit (cfg) stateDir runDir; } // {
        ExecStart = "${lib.getExe cfg.package} serve";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        Restart = "on-failure";
        RestartSec = 2;
        TimeoutStopSec = 960;
        KillMode = "mixed";
        Delegate = true;
      };
    };
    systemd.tmpfiles.rules = [
      "d ${cfg.stateDir} 0700 root root -"
      "d ${cfg.runDir} 0700 root root -"
      "d /etc/nixos-containers 0755 root root -"
    ];

    # A container reaches the world, and nothing of this machine: not even the dashboard at its end of the link.
    networking.nat = mkIf (cfg.externalInterface != null) {
      enable = true;
      internalInterfaces = [ "ve-+" ];
      inherit (cfg) externalInterface;
    };
    networking.firewall = {
      enable = lib.mkDefault true;
      extraCommands = "iptables -w -I nixos-fw 1 -i ve-+ -j nixos-fw-refuse";
      extraStopCommands = "iptables -w -D nixos-fw -i ve-+ -j nixos-fw-refuse 2>/dev/null || true";
    };
    # udev's network manager, where there is one, leaves the containers' links alone.
    networking.networkmanager.unmanaged = [ "interface-name:ve-*" ];
  };
}
