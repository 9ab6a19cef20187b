# What every agent's container has: the harness as root, the agent's programs as a user of their own, and nothing that
# listens. /state, /claude, /run/hive, /run/hive-harness and /var/lib/hive-harness are bound by the hive.
{ self }:
{ config, lib, pkgs, hyperhiveAgent, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.hyperhive;
  pure = import ../lib;
  packages = self.packages.${pkgs.stdenv.hostPlatform.system};
  named = name: lib.attrByPath (lib.splitString "." name)
    (throw "agent.toml: packages: nixpkgs has no ${name}") pkgs;
in
{
  options.hyperhive = {
    package = mkOption {
      type = types.package;
      default = packages.hyperhive;
      description = "HyperHive, for the harness.";
    };
    claude = mkOption {
      type = types.package;
      default = packages.claude;
      description = "The agent CLI.";
    };
    allowUnfreeClaude = mkOption {
      type = types.bool;
      default = false;
      description = "You have read the CLI's licence. Allows that one package, and no other, to be unfree.";
    };
    extraMcpServers = mkOption {
      type = types.attrs;
      default = { };
      example = { tracker = { command = "/nix/store/...-tracker/bin/tracker-mcp"; allowedTools = [ "list_*" ]; }; };
      description = "Further MCP servers, beside those of agent.toml. They run as the agent.";
    };
    extraPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      description = "Programs for the agent, beside agent.toml's `packages`.";
    };
    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Variables of the harness (a proxy, say). What the CLI gets is agent.toml's `env`.";
    };
  };

  config = {
    boot.isContainer = true;
    networking.hostName = lib.mkDefault hyperhiveAgent.name;
    networking.useDHCP = false;
    networking.firewall.enable = true;
    services.openssh.enable = lib.mkForce false;
    documentation.enable = lib.mkDefault false;
    nix.enable = lib.mkDefault false;
    system.stateVersion = lib.mkDefault "25.11";

    nixpkgs.config.allowUnfreePredicate = lib.mkIf cfg.allowUnfreeClaude (package: lib.getName package == "claude");

    # The number stands in hyperhive/lifecycle/runtimes/inside.py, too: the harness shows what is bound as this user's.
    users.users.agent = {
      uid = 58371;
      group = "agent";
      isSystemUser = true;
      home = "/state";
      createHome = false;
      shell = pkgs.bashInteractive;
    };
    users.groups.agent.gid = 58371;
    users.mutableUsers = false;
    security.sudo.enable = false;

    environment.systemPackages = [ pkgs.bashInteractive pkgs.coreutils pkgs.git pkgs.ripgrep cfg.claude ]
      ++ map named hyperhiveAgent.toml.packages ++ cfg.extraPackages;
    environment.etc."hyperhive/extra-mcp.json".text = pure.mcp cfg.extraMcpServers;

    systemd.services.hyperhive-harness = {
      description = "The harness of ${hyperhiveAgent.name}";
      wantedBy = [ "multi-user.target" ];
      path = [ "/run/current-system/sw" pkgs.util-linux ];
      environment = cfg.environment // {
        HOME = "/var/lib/hive-harness";
        HYPERHIVE_INSIDE = "nixos-container";
        HYPERHIVE_CONFIG = "/run/hive-harness/hive.toml";
        HYPERHIVE_STATE_DIR = "/var/lib/hive-harness";
        HYPERHIVE_RUN_DIR = "/run/hive-harness";
        HYPERHIVE_CLAUDE = lib.getExe cfg.claude;
      };
      # A build that is switched to while a turn runs must not end that turn: the hive restarts the container itself.
      restartIfChanged = false;
      serviceConfig = {
        ExecStart = "${lib.getExe cfg.package} agent serve ${hyperhiveAgent.name} "
          + "--socket /run/hive-harness/harness.sock";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        Restart = "always";
        RestartSec = 2;
        TimeoutStopSec = 80;
        KillMode = "mixed";
        LimitCORE = 0;
        # The machine's journal has the console: what the harness said last is told with the news of a crash.
        StandardOutput = "journal+console";
        StandardError = "journal+console";
        UMask = "0077";
      };
    };
  };
}
