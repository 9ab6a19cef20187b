# What the host's service may do, as systemd's settings. It is root, makes containers and writes their confs: so the
# directories that belong to that stay writable, and everything else is closed.
{ stateDir, runDir }:
{
  ProtectSystem = "strict";
  ProtectHome = "read-only";
  PrivateTmp = true;
  ProtectClock = true;
  ProtectHostname = true;
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  LockPersonality = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" "AF_NETLINK" ];
  SystemCallArchitectures = "native";
  UMask = "0077";
  LimitCORE = 0;
  OOMScoreAdjust = -900;
  ReadWritePaths = [
    stateDir
    runDir
    # "-": they need not be there yet
    "-/etc/nixos-containers"
    "-/var/lib/nixos-containers"
    "-/nix/var/nix"
    "-/run/lock"
    "-/run/systemd/system"
  ];
}
