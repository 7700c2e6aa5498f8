"""A store that real Nix has made, served by `kapla publish`, and taken from there by real Nix."""

from __future__ import annotations

import base64
import bz2
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guix_glue.formats.narinfo import Narinfo
from tests.guix_glue.publish.support import Publisher, publishing
from tests.integration.daemon import wait_until
from tests.integration.nix_programs import NixStore, nix

pytestmark = pytest.mark.skipif(shutil.which("nix-store") is None, reason="Nix is not installed")

EXPRESSION = """
let
  make = name: extra: script: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-e" (builtins.toFile "builder.sh" script) ];
    PATH = "/usr/local/bin:/usr/bin:/bin";
  } // extra);
  lib = make "lib-1.0" { } ''
    mkdir -p $out/lib $out/empty
    echo building lib
    echo "some words" > $out/lib/words
    : > $out/lib/nothing
    ln -s words $out/lib/alias
  '';
in make "app-1.0" { inherit lib; } ''
  mkdir -p $out/bin
  echo building app
  printf '#!/bin/sh\\ncat %s/lib/words\\n' $lib > $out/bin/app
  chmod +x $out/bin/app
  echo $out > $out/itself
''
"""


@dataclass(frozen=True)
class Built:
    """An app that refers to a library and to itself, and a file that is known by its content."""

    store: NixStore
    app: Path
    lib: Path
    file: Path
    signed_by: str
    """The key by which somebody else has signed the library."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("nix")
    store = NixStore(directory)
    (directory / "app.nix").write_text(EXPRESSION)
    app = store.run("nix-build", "--no-out-link", directory / "app.nix")
    references = store.run("nix-store", "--query", "--references", app).split()
    (lib,) = (path for path in references if path.endswith("-lib-1.0"))
    (directory / "greeting").write_text("hail\n")
    file = store.run("nix-store", "--add", directory / "greeting")
    other = store.new_key("other-1", directory / "other")
    store.run("nix", "store", "sign", "--key-file", directory / "other", lib)
    return Built(store, Path(app), Path(lib), Path(file), other)


@dataclass(frozen=True)
class Signing:
    """A publisher of that store with a key of its own."""

    publisher: Publisher
    key: str


@pytest.fixture(scope="module")
def signing(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signing]:
    directory = tmp_path_factory.mktemp("signing")
    key = built.store.new_key("kapla-1", directory / "secret")
    arguments = ("--nix-key", directory / "secret", "-C", "zstd:1", "-C", "gzip:1", "--eris")
    with publishing(directory, *arguments, "--priority", "30", env=built.store.env) as publisher:
        yield Signing(publisher, key)


@pytest.fixture(scope="module")
def unsigning(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    """A publisher of it that has no key."""
    directory = tmp_path_factory.mktemp("unsigning")
    with publishing(directory, "-C", "none", env=built.store.env) as publisher:
        yield publisher


def narinfo(built: Built, publisher: Publisher, path: Path) -> Narinfo:
    answer = publisher.request(f"/{path.name[:32]}.narinfo")
    return answer.narinfo(str(built.store.store_dir))


class Taker:
    """Another Nix, which has nothing and trusts one key, or none."""

    def __init__(self, built: Built, directory: Path, key: str) -> None:
        self._env = {"NIX_STORE_DIR": built.store.env["NIX_STORE_DIR"]}
        self._home = directory / "home"
        self._home.mkdir(parents=True)
        self.root = directory / "root"
        self._options = ("--option", "trusted-public-keys", key)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return nix(self._home, *arguments, *self._options, env=self._env)

    def copy(self, publisher: Publisher, path: Path) -> subprocess.CompletedProcess[str]:
        """Copy a path and all that it refers to."""
        return self.run("nix", "copy", "--from", publisher.url, "--to", self.root, path)

    def place(self, path: Path) -> Path:
        """Where a path of the store is that it has."""
        return self.root / "nix" / "store" / path.name


def same(one: Path, other: Path) -> bool:
    return nar_of(one) == nar_of(other)


def nar_of(path: Path) -> bytes:
    done = subprocess.run(["nix-store", "--dump", path], capture_output=True, check=True)
    return done.stdout


def test_nix_substitutes_out_of_the_store(built: Built, signing: Signing, tmp_path: Path) -> None:
    taker = Taker(built, tmp_path, signing.key)
    done = taker.run(
        *("nix-store", "--store", taker.root, "--realise", built.app),
        *("--option", "substituters", signing.publisher.url),
    )
    assert done.returncode == 0, done.stderr
    assert same(taker.place(built.app), built.app)
    assert same(taker.place(built.lib), built.lib)


def test_nix_copies_what_is_baked(built: Built, signing: Signing, tmp_path: Path) -> None:
    def is_baked() -> bool:
        told = [narinfo(built, signing.publisher, path) for path in (built.app, built.lib)]
        return all(len(one.urls) == 2 and one.hint_urn is not None for one in told)

    wait_until(is_baked, "nars and URNs")
    told = narinfo(built, signing.publisher, built.app)
    # Nix takes the last, which is the smallest; its hash is that of the file.
    last = told.urls[-1]
    assert last.file_size == min(url.file_size or 0 for url in told.urls)
    file = signing.publisher.request(f"/{last.url}").body
    taker = Taker(built, tmp_path / "taker", signing.key)
    shown = taker.run("nix", "path-info", "--json", "--store", signing.publisher.url, built.app)
    (info,) = json.loads(shown.stdout)
    digest = base64.b64encode(hashlib.sha256(file).digest()).decode()
    assert info["url"] == last.url
    assert (info["downloadHash"], info["downloadSize"]) == (f"sha256-{digest}", len(file))
    done = taker.copy(signing.publisher, built.app)
    assert done.returncode == 0, done.stderr
    assert same(taker.place(built.app), built.app)


def test_a_key_that_is_not_trusted(built: Built, signing: Signing, tmp_path: Path) -> None:
    taker = Taker(built, tmp_path, f"kapla-1:{'A' * 43}=")
    done = taker.copy(signing.publisher, built.app)
    assert done.returncode != 0
    assert "signature" in done.stderr or "not signed" in done.stderr, done.stderr
    assert not taker.place(built.app).exists()


def test_what_the_store_knows_is_in_narinfos(built: Built, signing: Signing) -> None:
    app = narinfo(built, signing.publisher, built.app)
    assert app.item.references == tuple(sorted([built.app.name, built.lib.name]))
    deriver = built.store.run("nix-store", "--query", "--deriver", built.app)
    assert app.item.deriver == Path(deriver).name
    info = json.loads(built.store.run("nix", "path-info", "--json", built.lib))[0]
    lib = narinfo(built, signing.publisher, built.lib)
    assert [one.partition(":")[0] for one in lib.nix_signatures] == ["kapla-1", "other-1"]
    assert set(info["signatures"]) == {lib.nix_signatures[1]}
    assert lib.item.nar_size == info["narSize"]
    file = narinfo(built, signing.publisher, built.file)
    address = json.loads(built.store.run("nix", "path-info", "--json", built.file))[0]["ca"]
    assert f"\nCA: {address}\n" in file.text


def test_a_server_without_a_key(built: Built, unsigning: Publisher, tmp_path: Path) -> None:
    assert "Nothing is signed here (--nix-key)" in unsigning.log
    # What is named by its content proves itself.
    assert narinfo(built, unsigning, built.file).nix_signatures == ()
    trusting_nobody = Taker(built, tmp_path / "nobody", "")
    done = trusting_nobody.copy(unsigning, built.file)
    assert done.returncode == 0, done.stderr
    assert trusting_nobody.place(built.file).read_text() == "hail\n"
    assert trusting_nobody.copy(unsigning, built.lib).returncode != 0
    # What somebody else has signed is as good as from there.
    trusting = Taker(built, tmp_path / "trusting", built.signed_by)
    assert trusting.copy(unsigning, built.lib).returncode == 0
    assert trusting.copy(unsigning, built.app).returncode != 0
    assert not trusting.place(built.app).exists()


def test_listings_are_those_of_nix(built: Built, signing: Signing, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    built.store.run("nix", "copy", "--to", f"file://{cache}?write-nar-listing=true", built.app)
    for path in (built.app, built.lib):
        answer = signing.publisher.request(f"/{path.name[:32]}.ls")
        assert answer.headers["content-type"] == "application/json"
        assert json.loads(answer.body) == json.loads((cache / f"{path.name[:32]}.ls").read_text())
    plain = signing.publisher.request(f"/nar/{built.lib.name}").body
    assert plain == nar_of(built.lib)
    listing: Any = json.loads(signing.publisher.request(f"/{built.lib.name[:32]}.ls").body)
    words = listing["root"]["entries"]["lib"]["entries"]["words"]
    assert plain[words["narOffset"] :][: words["size"]] == b"some words\n"
    head = signing.publisher.request(f"/{built.lib.name[:32]}.ls", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert signing.publisher.request(f"/{'0' * 32}.ls").status == 404


def test_nix_looks_into_items_and_reads_logs(
    built: Built, signing: Signing, tmp_path: Path
) -> None:
    taker = Taker(built, tmp_path, signing.key)
    shown = taker.run("nix", "store", "ls", "-R", "--store", signing.publisher.url, built.lib)
    assert shown.returncode == 0, shown.stderr
    assert {"./lib/words", "./lib/alias", "./empty"} <= set(shown.stdout.split())
    told = taker.run("nix", "store", "cat", "--store", signing.publisher.url, built.file)
    assert told.stdout == "hail\n"
    log = taker.run("nix", "log", "--store", signing.publisher.url, built.app)
    assert log.stdout == "building app\n", log.stderr
    derivation = built.store.run("nix-store", "--query", "--deriver", built.lib)
    answer = signing.publisher.request(f"/log/{Path(derivation).name}")
    assert answer.headers["content-encoding"] == "bzip2"
    assert bz2.decompress(answer.body) == b"building lib\n"
    assert signing.publisher.request(f"/log/{built.lib.name}").body == answer.body


def test_what_is_no_item_is_not_there(built: Built, signing: Signing) -> None:
    (built.store.store_dir / f"{'1' * 32}-lying-about").write_text("x")
    for path in (
        f"/{'1' * 32}.narinfo",
        f"/{'1' * 32}.ls",
        f"/nar/{'1' * 32}-lying-about",
        f"/nar/{built.lib.name}.lock",
        "/nar/.links",
        f"/log/{'1' * 32}-x.drv",
        f"/realisations/sha256:{'0' * 64}!out.doi",
    ):
        for method in ("GET", "HEAD"):
            assert signing.publisher.request(path, method).status == 404, path


def test_what_nix_reads_first_and_what_people_see(built: Built, signing: Signing) -> None:
    info = signing.publisher.request("/nix-cache-info").body.decode()
    assert info == f"StoreDir: {built.store.store_dir}\nWantMassQuery: 1\nPriority: 30\n"
    page = signing.publisher.request("/").body.decode()
    assert f"extra-trusted-public-keys = {signing.key}" in page
    assert "guix" not in page


def test_a_path_that_comes_and_goes_while_it_serves(
    built: Built, unsigning: Publisher, tmp_path: Path
) -> None:
    (tmp_path / "late").write_text("late\n")
    late = Path(built.store.run("nix-store", "--add", tmp_path / "late"))
    assert narinfo(built, unsigning, late).item.nar_size == 120
    asked = f"/{late.name[:32]}.narinfo"
    # Once it is kept, clients may keep what they are told.
    wait_until(lambda: unsigning.request(asked).max_age is None, "the nar to be kept")
    built.store.run("nix-store", "--delete", late)
    assert not late.exists()
    assert unsigning.request(f"/{late.name[:32]}.ls").status == 404
    # What was kept of it is as good as before, with what proves it.
    taker = Taker(built, tmp_path / "taker", "")
    assert taker.copy(unsigning, late).returncode == 0
    assert taker.place(late).read_text() == "late\n"
