# The agent CLI: the native program in its npm package, by version and hash (claude.json). npm fetches the package from
# whatever registry npm is set to, and the hash says whether it is the one. Unfree: whoever builds it allows that by
# name (`nixpkgs.config.allowUnfreePredicate`); nothing here does so for them.
{ lib, stdenv, nodejs, cacert, runCommand, autoPatchelfHook }:
let
  pins = builtins.fromJSON (builtins.readFile ./claude.json);
  pin = pins.packages.${stdenv.hostPlatform.system}
    or (throw "there is no claude for ${stdenv.hostPlatform.system}: ${toString (builtins.attrNames pins.packages)}");
  tarball = runCommand "claude-${pins.version}.tgz" {
    nativeBuildInputs = [ nodejs cacert ];
    outputHash = pin.integrity;
    outputHashMode = "flat";
    SSL_CERT_FILE = "${cacert}/etc/ssl/certs/ca-bundle.crt";
    impureEnvVars = lib.fetchers.proxyImpureEnvVars ++ [ "NPM_CONFIG_REGISTRY" ];
  } ''
    export HOME=$TMPDIR
    npm pack --ignore-scripts --silent "${pin.name}@${pins.version}"
    mv ./*.tgz "$out"
  '';
in
stdenv.mkDerivation {
  pname = "claude";
  inherit (pins) version;
  src = tarball;
  nativeBuildInputs = [ autoPatchelfHook ];
  dontStrip = true; # the program carries its scripts behind its ELF image
  installPhase = ''
    install -Dm755 claude "$out/bin/claude"
  '';
  meta = {
    description = "Claude Code CLI";
    license = lib.licenses.unfree;
    mainProgram = "claude";
    platforms = builtins.attrNames pins.packages;
    sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
  };
}
