# As much of nixpkgs as packaging/nix/package.nix needs: packages of Python that are no more than
# their names, JSON in `names`, and a package that is what was asked for. `python` is its version.
{ names, python }:

rec {
  lib = {
    optional = condition: value: if condition then [ value ] else [ ];
    versionOlder = one: other: builtins.compareVersions one other < 0;
    cleanSource = path: path;
    licenses.asl20 = "Apache-2.0";
    platforms.linux = [ "x86_64-linux" ];
  };

  python3Packages = {
    python.version = python;
    buildPythonApplication =
      arguments:
      derivation {
        inherit (arguments) src;
        name = "${arguments.pname}-${arguments.version}";
        system = "x86_64-linux";
        builder = "/bin/sh";
      }
      // {
        inherit arguments;
      };
  }
  // builtins.listToAttrs (
    map (name: {
      inherit name;
      value = name;
    }) (builtins.fromJSON names)
  );

  callPackage = file: others: import file ({ inherit lib python3Packages; } // others);
}
