"""What is in packaging/nix: read by Nix, and evaluated as far as that goes without nixpkgs."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pytest

from kapla.config import load_config
from tests.integration.daemon import GUARD_S
from tests.integration.nix_programs import NixStore

pytestmark = pytest.mark.skipif(
    shutil.which("nix-instantiate") is None, reason="Nix is not installed"
)

REPOSITORY = Path(__file__).resolve().parents[2]
NIX = REPOSITORY / "packaging" / "nix"
STUB = Path(__file__).with_name("nixos_stub.nix")
NIXPKGS = STUB.with_name("nixpkgs_stub.nix")
KEY = "/var/lib/secrets/nix-key"
KNOWN = {
    "environment.etc",
    "environment.systemPackages",
    "networking.firewall",
    "nix.settings",
    "systemd.services",
    "systemd.sockets",
    "users.groups",
    "users.users",
}
"""Options of NixOS that the module may define."""


def instantiate(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `nix-instantiate` on a store of no files."""
    return subprocess.run(
        ["nix-instantiate", "--store", "dummy://", *arguments],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
            "NIX_STATE_DIR": str(home / "state"),
            "NIX_CONFIG": "build-users-group =\nsubstituters =\n",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def evaluate(home: Path, expression: str) -> Any:
    done = instantiate(home, "--eval", "--strict", "--json", "--expr", expression)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expression_of(definition: dict[str, Any]) -> str:
    text = json.dumps(json.dumps(definition)).replace("$", "\\$")
    return f"import {STUB} {{ module = {NIX}/module.nix; definition = {text}; }}"


def configured(home: Path, definition: dict[str, Any]) -> Any:
    """What the module makes of options below `services.kapla`."""
    return evaluate(home, expression_of(definition))


def test_nix_reads_all_of_it(tmp_path: Path) -> None:
    files = sorted(map(str, [*NIX.glob("*.nix"), STUB, NIXPKGS]))
    assert len(files) == 5
    done = instantiate(tmp_path, "--parse", *files)
    assert done.returncode == 0, done.stderr


def test_nothing_is_done_that_was_not_asked_for(tmp_path: Path) -> None:
    assert configured(tmp_path, {}) == {}


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ({"publish": {"prt": 1}}, "no option services.kapla.publish.prt"),
        ({"publish": {"port": 70_000}}, "services.kapla.publish.port is of another type"),
        ({"proxy": {"upstream": []}}, "services.kapla.proxy.upstream is of another type"),
        ({"publish": {"nixKeyFile": 1}}, "services.kapla.publish.nixKeyFile is of another type"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, definition: dict[str, Any], reason: str) -> None:
    done = instantiate(tmp_path, "--eval", "--strict", "--expr", expression_of(definition))
    assert done.returncode != 0
    assert reason in done.stderr


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A machine with all three."""
    definition = {
        "daemon": {
            "enable": True,
            "settings": {"max-size": "100 GiB", "listen": ["coap+tcp://[::]:5683"]},
        },
        "publish": {
            "enable": True,
            "nixKeyFile": KEY,
            "openFirewall": True,
            "compression": ["zstd:19", "gzip"],
            "extraArgs": ["--request-log", "/var/log/50% done"],
        },
        "proxy": {"enable": True, "upstream": ["https://one.example", "https://two.example"]},
    }
    return configured(tmp_path_factory.mktemp("everything"), definition)


def test_only_options_of_nixos_are_set(everything: Any) -> None:
    assert {f"{one}.{two}" for one in everything for two in everything[one]} == KNOWN
    assert everything["systemd"]["services"].keys() == {"kaplad", "kapla-publish", "kapla-proxy"}
    assert everything["users"]["users"].keys() == {"kapla", "kapla-publish", "kapla-proxy"}
    assert everything["networking"]["firewall"] == {"allowedTCPPorts": [8080]}
    assert everything["nix"]["settings"]["substituters"] == ["http://127.0.0.1:8085"]


@pytest.mark.parametrize("name", ["kaplad", "kapla-publish"])
def test_a_service_is_as_tight_as_the_unit_that_is_packaged(everything: Any, name: str) -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(REPOSITORY / "packaging" / f"{name}.service")
    there = everything["systemd"]["services"][name]["serviceConfig"]
    of_place = {"ExecStart", "LoadCredential", "SystemCallFilter", "ExecReload"}
    for key, value in parser["Service"].items():
        if key not in of_place:
            assert as_text(there[key]) == value, key
    text = (REPOSITORY / "packaging" / f"{name}.service").read_text()
    assert there["SystemCallFilter"] == re.findall(r"(?m)^SystemCallFilter=(.*)$", text)


def as_text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(map(str, value))
        case _:
            return str(value)


def test_the_proxy_is_as_tight_as_the_publisher(everything: Any) -> None:
    publish, proxy = (
        everything["systemd"]["services"][name]["serviceConfig"]
        for name in ("kapla-publish", "kapla-proxy")
    )
    differ = {key for key in publish if publish[key] != proxy.get(key)}
    assert differ == {"CacheDirectory", "ExecStart", "Group", "LoadCredential", "User"}


def test_the_key_is_handed_over_and_not_copied(everything: Any) -> None:
    service = everything["systemd"]["services"]["kapla-publish"]["serviceConfig"]
    assert service["LoadCredential"] == [f"nix-key:{KEY}"]
    assert service["ExecStart"].endswith(" --nix-key %d/nix-key")
    # What is not for systemd to replace is told to be.
    assert '"/var/log/50%% done"' in service["ExecStart"]
    assert KEY not in service["ExecStart"]


@pytest.mark.parametrize("name", ["publish", "proxy"])
def test_the_commands_have_the_options_that_they_are_given(everything: Any, name: str) -> None:
    commands = {entry.name: entry for entry in entry_points(group="kapla.commands")}
    if name not in commands:
        pytest.skip(f"there is no kapla {name} here")
    line = everything["systemd"]["services"][f"kapla-{name}"]["serviceConfig"]["ExecStart"]
    program, given, *arguments = shlex.split(line.replace("%%", "%"))
    assert (program, given) == ("/kapla/bin/kapla", name)
    command = commands[name].load()
    assert isinstance(command, click.Command)
    context = command.make_context(name, arguments, resilient_parsing=True)
    assert not context.args
    assert {option.split("=")[0] for option in arguments if option.startswith("--")} <= {
        option for parameter in command.params for option in parameter.opts
    }
    if name == "publish":
        assert context.params["eris"] == "coap+unix:///run/kapla/eris.sock"
        assert context.params["store_dir"] == "/nix/store"


def test_the_daemon_takes_its_settings(everything: Any, tmp_path: Path) -> None:
    settings = everything["environment"]["etc"]["kapla/kapla.toml"]["source"]["value"]
    # A list of texts and a text are the same in JSON and TOML.
    file = tmp_path / "kapla.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    config = load_config(file=str(file), environment={})
    assert len(config.listen) == 2
    socket = everything["systemd"]["sockets"]["kaplad"]
    assert socket["listenStreams"] == ["/run/kapla/eris.sock"]
    assert settings["listen"][0].startswith(f"coap+unix://{socket['listenStreams'][0]}?")


def test_without_a_daemon_here_nothing_waits_for_one(tmp_path: Path) -> None:
    made = configured(
        tmp_path, {"publish": {"enable": True}, "proxy": {"enable": True, "useHere": False}}
    )
    assert made.keys() == {"environment", "networking", "nix", "systemd", "users"}
    assert made["nix"]["settings"] == {}
    for service in made["systemd"]["services"].values():
        assert service["after"] == ["network.target"]
        assert "coap" not in service["serviceConfig"]["ExecStart"]
        assert service["serviceConfig"]["SupplementaryGroups"] == []
        assert "LoadCredential" not in service["serviceConfig"]
    publish, proxy = (
        made["systemd"]["services"][name]["serviceConfig"]["ExecStart"]
        for name in ("kapla-publish", "kapla-proxy")
    )
    assert "--eris" not in publish
    assert proxy.endswith('"--eris-store-url" "none"')


@pytest.mark.parametrize(
    ("listen", "here"),
    [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("192.0.2.7", "192.0.2.7")],
)
def test_where_the_proxy_is_for_this_machine(tmp_path: Path, listen: str, here: str) -> None:
    made = configured(tmp_path, {"proxy": {"enable": True, "listen": listen, "port": 99}})
    assert made["nix"]["settings"]["substituters"] == [f"http://{here}:99"]


def needed_of_python() -> set[str]:
    """The libraries that Kapla needs, by the names that nixpkgs would have for them."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    found = re.findall(r"(?m)^ *([\w.-]+) *>=", setup["options"]["install_requires"])
    return {name.lower().replace(".", "-") for name in found}


def stub_of_nixpkgs(file: str, python: str) -> str:
    # What is not among these names is no package, and ends the evaluation.
    names = json.dumps(json.dumps(sorted([*needed_of_python(), "psycopg", "setuptools"])))
    return f'import {file} {{ names = {names}; python = "{python}"; }}'


@pytest.mark.parametrize("python", ["3.13.1", "3.14.0"])
@pytest.mark.parametrize("more", ["", "withPostgresql = true;"])
def test_the_package_has_all_that_is_needed(tmp_path: Path, python: str, more: str) -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    nixpkgs = stub_of_nixpkgs(str(NIXPKGS), python)
    made = evaluate(
        tmp_path,
        f"let made = (({nixpkgs}).callPackage {NIX}/package.nix {{ {more} }}).arguments;"
        " in made // { src = toString made.src; }",
    )
    assert made["version"] == setup["metadata"]["version"]
    assert made["src"] == str(REPOSITORY)
    brought_along = {"backports-zstd"} if python >= "3.14" else set()
    needed = needed_of_python() | ({"psycopg"} if more else set())
    assert set(made["dependencies"]) == needed - brought_along


FLAKE_OF_NIXPKGS = """
{
  outputs = { self }: let pkgs = %s; in {
    legacyPackages = { x86_64-linux = pkgs; aarch64-linux = pkgs; };
  };
}
"""


@pytest.fixture
def flake(tmp_path: Path) -> tuple[NixStore, list[str]]:
    """A checkout of what the flake needs; and which it is, with a nixpkgs that is near."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    tree, nixpkgs = tmp_path / "tree", tmp_path / "nixpkgs"
    shutil.copytree(NIX, tree / "packaging" / "nix")
    shutil.copy(REPOSITORY / "setup.cfg", tree)
    nixpkgs.mkdir()
    shutil.copy(NIXPKGS, nixpkgs / "stub.nix")
    (nixpkgs / "flake.nix").write_text(FLAKE_OF_NIXPKGS % stub_of_nixpkgs("./stub.nix", "3.13.1"))
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "-A"), (*who, "commit", "-q", "-m", "x")):
        subprocess.run(["git", "-C", tree, *command], check=True, timeout=GUARD_S)
    where = f"git+file://{tree}?dir=packaging/nix"
    return NixStore(tmp_path / "nix"), [
        *(where, "--override-input", "nixpkgs", f"path:{nixpkgs}", "--no-write-lock-file")
    ]


def test_nix_takes_the_flake(flake: tuple[NixStore, list[str]]) -> None:
    store, (where, *options) = flake
    store.run("nix", "flake", "check", where, *options)
    shown = json.loads(store.run("nix", "flake", "show", "--json", where, *options))
    assert shown["packages"]["aarch64-linux"]["default"]["name"].startswith("kapla-")
    assert shown["nixosModules"]["default"] == {"type": "nixos-module"}
    assert shown["overlays"]["default"] == {"type": "nixpkgs-overlay"}
    # The source is the whole tree, and not only what is beside the flake.
    package = f"{where}#packages.x86_64-linux.default.arguments.src"
    source = Path(json.loads(store.run("nix", "eval", "--json", package, *options)))
    assert (source / "setup.cfg").is_file()
