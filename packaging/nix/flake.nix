{
  description = "Kapla: ERIS blocks, and substitutes for Nix and Guix out of them";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  # Of a checkout: nix build 'git+file:///path/to/kapla?dir=packaging/nix'. The whole tree is the
  # source, so a path that ends here is not enough.
  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each =
        make:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = make nixpkgs.legacyPackages.${system};
          }) systems
        );
    in
    {
      packages = each (pkgs: {
        default = pkgs.callPackage ./package.nix { };
      });

      overlays.default = final: prev: {
        kapla = final.callPackage ./package.nix { };
      };

      nixosModules.default = import ./module.nix;
    };
}
