# HyperHive from this checkout, on the Python packages of nixpkgs. Where those are older than pyproject.toml asks for,
# the build says which: override them there (docs/nixos.md).
{ lib, python3Packages, git, bubblewrap, passt, util-linux }:
let
  project = (builtins.fromTOML (builtins.readFile ../../pyproject.toml)).project;
  # "name>=1,<2" -> name
  required = map (text: builtins.head (builtins.match "([A-Za-z0-9._-]+).*" text)) project.dependencies;
in
python3Packages.buildPythonApplication {
  pname = "hyperhive";
  version = builtins.head (builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../../src/hyperhive/__init__.py));
  pyproject = true;
  src = lib.cleanSource ../..;
  build-system = [ python3Packages.hatchling ];
  dependencies = map (name: python3Packages.${name}) required;
  makeWrapperArgs = [ "--suffix PATH : ${lib.makeBinPath [ git bubblewrap passt util-linux ]}" ];
  doCheck = false; # the suite runs real parts that a Nix sandbox has not
  pythonImportsCheck = [ "hyperhive" ];
  meta = {
    inherit (project) description;
    mainProgram = "hyperhive";
    platforms = lib.platforms.linux;
  };
}
