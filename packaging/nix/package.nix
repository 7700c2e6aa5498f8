# Kapla as a package of Nix: `pkgs.callPackage ./package.nix { }`, or by way of flake.nix beside it.
#
# It is built from the tree that this file is in, with the libraries that nixpkgs has. Where one of
# these is older than setup.cfg asks for, the build says which. For a store in PostgreSQL:
# `.override { withPostgresql = true; }`.
{
  lib,
  python3Packages,
  withPostgresql ? false,
}:

let
  # Python has a zstd of its own from 3.14 on.
  zstd = lib.optional (lib.versionOlder python3Packages.python.version "3.14") "backports-zstd";
in
python3Packages.buildPythonApplication {
  pname = "kapla";
  version = "0.1.0";
  pyproject = true;

  src = lib.cleanSource ../..;

  build-system = [ python3Packages.setuptools ];

  dependencies = map (name: python3Packages.${name}) (
    zstd
    ++ lib.optional withPostgresql "psycopg"
    ++ [
      "aiocoap"
      "aiohappyeyeballs"
      "aiohttp"
      "blake3"
      "cbor2"
      "click"
      "cryptography"
      "httptools"
      "platformdirs"
      "pynacl"
      "pyroaring"
      "rich"
      "sdnotify"
      "sqlalchemy"
      "zeroconf"
      "zstandard"
    ]
  );

  # The tests start daemons, other programs and networks; "make test" runs them.
  doCheck = false;
  pythonImportsCheck = [
    "eris"
    "eris_fs"
    "guix_glue"
    "kapla"
  ];

  meta = {
    description = "A daemon that keeps ERIS blocks, and substitutes for Nix and Guix out of them";
    homepage = "https://purl.org/eris";
    license = lib.licenses.asl20;
    mainProgram = "kapla";
    platforms = lib.platforms.linux;
  };
}
