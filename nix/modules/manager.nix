# The manager's container: it writes every agent's proposed repo (/agents) and reads the applied ones (/applied).
{ lib, pkgs, ... }:
{
  environment.systemPackages = [ pkgs.git pkgs.nixfmt-rfc-style ];
  programs.git = {
    enable = true;
    config.safe.directory = [ "/agents/*/config" "/applied/*" ];
  };
  environment.sessionVariables.HIVE_CONFIG = lib.mkDefault "/agents/manager/config";
}
