"""`kapla items`: from one machine's store into blocks, and from there into that of another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from eris.capability import ReadCapability
from eris.node import block_count
from guix_glue.formats.item_list import parse_item_list
from guix_glue.formats.narinfo import NarUrl, format_narinfo, format_unsigned
from guix_glue.trust.keys import parse_private_key, parse_public_key
from guix_glue.trust.signature import sign_text
from tests.eris_fs.trees import File, read_back
from tests.guix_glue.closures.guix import FakeGuix, import_archive, running_guix
from tests.guix_glue.closures.support import BIG, GREETING, WORDS, Made, export_of, make
from tests.guix_glue.local.databases import add_items
from tests.guix_glue.publish.support import KEYS, SAMPLES, Publisher, publishing
from tests.integration.daemon import Daemon, running_daemon
from tests.integration.here import User
from tests.integration.nix_programs import NixStore
from tests.integration.test_nix_store import EXPRESSION
from tests.integration.test_peers import far_and_near

KEY = parse_public_key((SAMPLES / "keys" / "signing-key.pub").read_bytes())
ACL = ("--acl", SAMPLES / "keys" / "acl")
NOBODY = ("--acl", SAMPLES / "keys" / "acl-empty")


@dataclass(frozen=True)
class Machine:
    """Items in a directory, the greeting's closure first, and somebody who has a daemon."""

    user: User
    directory: Path
    items: list[Made]
    daemon: Daemon

    @property
    def here(self) -> tuple[str | Path, ...]:
        """Options of what encodes."""
        return ("--items", self.directory, "--eris-level", "1", *KEYS)

    def encode(self, *arguments: str | Path, code: int = 0) -> list[str]:
        """Encode items; the lines that are said, the last one the URN of the list."""
        done = self.user("items", "encode", *self.here, *arguments, code=code)
        return done.stdout.decode().splitlines()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    home = tmp_path_factory.mktemp("home")
    directory = home / "items"
    directory.mkdir()
    words = make(directory, "words", WORDS)
    greeting = make(directory, "greeting", GREETING, words.item.base_name, "self")
    big = make(directory, "big", BIG, greeting.item.base_name)
    (directory / "items.toml").write_text(
        "".join(f'["{made.item.base_name}"]\nreferences = {list(made.item.references)}\n\n'
                for made in (greeting, big))
    )  # fmt: skip
    with running_daemon(home) as daemon:
        yield Machine(User(home, daemon.url), directory, [words, greeting, big], daemon)


@pytest.fixture(scope="module")
def lines(machine: Machine) -> list[str]:
    """What encoding the closure of the largest item says."""
    return machine.encode("--closure", machine.items[2].item.base_name)


@pytest.fixture(scope="module")
def publisher(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    eris = ("--eris", machine.daemon.url, "--eris-level", "1")
    arguments = ("--items", machine.directory, *KEYS, *eris, "-C", "zstd:1")
    with publishing(tmp_path_factory.mktemp("publisher"), *arguments) as running:
        yield running


@pytest.fixture
def guix(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGuix]:
    """The other machine's daemon, which the environment names."""
    with running_guix(tmp_path, {KEY.q}) as running:
        monkeypatch.setenv("GUIX_DAEMON_SOCKET", str(running.socket))
        monkeypatch.setenv("GUIX_CONFIGURATION_DIRECTORY", str(tmp_path))
        yield running


def test_references_come_first_and_the_list_last(machine: Machine, lines: list[str]) -> None:
    paths = [line.partition(" ")[0] for line in lines[:-1]]
    assert paths == [made.item.path for made in machine.items]
    text = machine.user("decode", lines[-1], "-").stdout
    items = parse_item_list(text)
    assert items.wanted == (machine.items[2].item.base_name,)
    assert [one.item for one in items.items] == [made.item for made in machine.items]
    urns = [one.narinfo.signed_urn for one in items.items]
    assert urns == [line.partition(" ")[2] for line in lines[:-1]]


def test_one_pin_holds_the_list_and_all_trees(machine: Machine) -> None:
    urn = machine.encode("--name", "pinned", "--closure", machine.items[1].item.base_name)[-1]
    pins = map(json.loads, machine.user.out("pins", "--json").splitlines())
    (pin,) = [one for one in pins if "@pinned" in one["catalogue"]]
    assert pin["missing"] == 0
    size = len(machine.user("decode", urn, "-").stdout)
    assert pin["blocks"] > block_count(size, ReadCapability.from_urn(urn).block_size) + 2


def test_one_that_is_named_otherwise_is_the_same(machine: Machine, lines: list[str]) -> None:
    words = machine.items[0].item
    for name in (words.path, words.hash_part):
        assert machine.encode("--no-store", name)[0] == lines[0]


def test_urns_are_those_that_a_publisher_announces(
    machine: Machine, lines: list[str], publisher: Publisher
) -> None:
    told = [publisher.baked(made.path, urn=True).narinfo().signed_urn for made in machine.items]
    assert told == [line.partition(" ")[2] for line in lines[:-1]]


def test_an_archive_that_guix_takes(machine: Machine, lines: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    machine.user("items", "fetch", *ACL, lines[-1], "-o", out)
    guix = FakeGuix(tmp_path, {KEY.q})
    assert import_archive(guix, out.read_bytes()) == [made.item.path for made in machine.items]
    assert [one.nar for one in guix.valid.values()] == [made.nar for made in machine.items]
    assert list(tmp_path.iterdir()) == [out]
    # The same to standard output; and nothing is replaced unless that is said.
    done = machine.user("items", "fetch", *ACL, lines[-1], "-o", "-")
    assert done.stdout == out.read_bytes()
    assert "exists" in machine.user.error("items", "fetch", *ACL, lines[-1], "-o", out, code=7)
    machine.user("items", "fetch", "--force", *ACL, lines[-1], "-o", out)


def test_into_the_store_from_a_stick_without_any_daemon_of_ours(
    machine: Machine, lines: list[str], guix: FakeGuix, tmp_path: Path
) -> None:
    stick = ("--eris-store-url", f"file://{tmp_path}/blocks.sqlite")
    big = machine.items[2].item
    # Twice: a list that is there already is the same.
    machine.encode(*stick, "--closure", "--name", "laptop", big.base_name)
    assert machine.encode(*stick, "--closure", big.base_name) == lines
    fetch = ("items", "fetch", *ACL, *stick, "--into-store")
    dry = machine.user(*fetch, "--dry-run", "@laptop").stdout.decode().splitlines()
    assert dry == [f"{made.item.path} {made.item.nar_size}" for made in machine.items]
    assert guix.valid == {}
    assert machine.user.out(*fetch, "@laptop") == big.path
    assert [one.nar for one in guix.valid.values()] == [made.nar for made in machine.items]
    # What is there is passed over.
    del guix.valid[big.path]
    before = guix.valid.copy()
    assert machine.user.out(*fetch, "@laptop") == big.path
    assert all(guix.valid[path] is one for path, one in before.items())


def test_into_the_store_from_a_peer(machine: Machine, guix: FakeGuix) -> None:
    greeting = machine.items[1].item
    with far_and_near() as (far, near):
        there = ("--eris-store-url", far.url, "--lend", "--closure")
        urn = machine.encode(*there, greeting.base_name)[-1]
        fetch = ("items", "fetch", *ACL, "--eris-store-url", near.url, "--into-store", urn)
        assert machine.user.out(*fetch) == greeting.path
    assert [one.nar for one in guix.valid.values()] == [made.nar for made in machine.items[:2]]


def test_a_daemon_that_dies_in_the_middle(
    machine: Machine, lines: list[str], guix: FakeGuix
) -> None:
    guix.dies_after = 2
    fetch = ("items", "fetch", *ACL, "--into-store", lines[-1])
    assert "closed the connection" in machine.user.error(*fetch, code=3)
    assert len(guix.valid) == 2
    machine.user(*fetch)
    assert len(guix.valid) == 3


def test_without_what_it_refers_to(machine: Machine, guix: FakeGuix, tmp_path: Path) -> None:
    greeting = machine.items[1].item
    urn = machine.encode(greeting.base_name)[-1]
    text = machine.user.error("items", "fetch", *ACL, "--into-store", urn, code=4)
    assert f"refer to {machine.items[0].item.base_name}, which is neither" in text
    done = machine.user("items", "fetch", *ACL, urn, "-o", tmp_path / "out")
    assert b"not whole: items refer to" in done.stderr


def test_nobody_vouches_for_a_list(machine: Machine, lines: list[str], tmp_path: Path) -> None:
    fetch = ("items", "fetch", *NOBODY, lines[-1], "-o", tmp_path / "out")
    text = machine.user.error(*fetch, code=5)
    assert "vouches for 3 of 3 items" in text
    assert "signing-key authorize" in text
    assert list(tmp_path.iterdir()) == []
    code = 0 if os.geteuid() == 0 else 2
    machine.user(*fetch, "--no-check-sigs", code=code)


def test_a_list_that_was_altered(machine: Machine, lines: list[str], tmp_path: Path) -> None:
    text = machine.user("decode", lines[-1], "-").stdout
    (tmp_path / "list").write_bytes(text.replace(b"NarSize: ", b"NarSize: 1", 1))
    urn = machine.user.out("encode", "--no-catalogue", tmp_path / "list")
    said = machine.user.error("items", "fetch", *ACL, urn, "-o", tmp_path / "out", code=5)
    assert "vouches for 1 of 3 items" in said
    assert not (tmp_path / "out").exists()


def test_what_is_no_list(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"something else")
    urn = machine.user.out("encode", "--no-catalogue", tmp_path / "file")
    said = machine.user.error("items", "fetch", *ACL, urn, "-o", tmp_path / "out", code=5)
    assert "another content" in said


def test_it_goes_on_where_it_broke_off(machine: Machine, lines: list[str], tmp_path: Path) -> None:
    stick = f"file://{tmp_path}/few.sqlite"
    machine.encode("--eris-store-url", stick, "--no-cache", machine.items[0].item.base_name)
    machine.user("copy", "--no-pin", lines[-1], "--to", stick)
    fetch = ("items", "fetch", *ACL, lines[-1], "-o", tmp_path / "out")
    said = machine.user.error(*fetch, "--eris-store-url", stick, code=4)
    assert machine.items[1].item.base_name in said
    assert "run this again" in said
    assert not (tmp_path / "out").exists()
    done = machine.user(*fetch)
    assert b"going on: 1 items" in done.stderr
    guix = FakeGuix(tmp_path, {KEY.q})
    assert len(import_archive(guix, (tmp_path / "out").read_bytes())) == 3
    # All that was printed is all that it takes.
    machine.user("copy", "--no-pin", *(line.split()[-1] for line in lines), "--to", stick)
    machine.user(*fetch[:-1], "-", "--eris-store-url", stick)


def test_an_item_by_its_name(
    machine: Machine, lines: list[str], publisher: Publisher, tmp_path: Path
) -> None:
    for made in machine.items:
        publisher.baked(made.path, urn=True)
    big = machine.items[2].item
    fetch = ("items", "fetch", *ACL, "--sign", *KEYS, "--upstream", publisher.url)
    machine.user(*fetch, big.path, "-o", tmp_path / "blocks")
    # Without any blocks the nars are had from the server.
    machine.user(*fetch, "--eris-store-url", "none", big.hash_part, "-o", tmp_path / "http")
    archive = (tmp_path / "blocks").read_bytes()
    assert (tmp_path / "http").read_bytes() == archive
    guix = FakeGuix(tmp_path, {KEY.q})
    assert import_archive(guix, archive) == [made.item.path for made in machine.items]
    nobody = ("items", "fetch", *NOBODY, "--upstream", publisher.url, "--dry-run", big.path)
    assert "counts here" in machine.user.error(*nobody, code=4)
    machine.user(*nobody, "--no-check-sigs", code=0 if os.geteuid() == 0 else 2)


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[str]:
    """A server of these files, by their paths."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_map_tells_where_blocks_are(machine: Machine, lines: list[str], tmp_path: Path) -> None:
    key = parse_private_key((SAMPLES / "keys" / "signing-key.sec").read_bytes())
    files = {}
    for made in machine.items:
        unsigned = format_unsigned(made.item)
        nar = NarUrl(f"nar/{made.item.base_name}", "none", None, None)
        text = format_narinfo(unsigned, sign_text(key, unsigned, "vm"), [nar])
        files[f"/{made.item.hash_part}.narinfo"] = text
    # What the map says of the smallest is wrong: only of that there is a nar.
    words, greeting, big = (line.partition(" ") for line in lines[:-1])
    files[f"/nar/{machine.items[0].item.base_name}"] = machine.items[0].nar
    told = [(words[0], greeting[2]), (greeting[0], greeting[2]), (big[0], big[2])]
    (tmp_path / "map").write_text("".join(f"{path} {urn}\n" for path, urn in told))
    with serving(files) as url:
        fetch = ("items", "fetch", *ACL, "--upstream", url, machine.items[2].item.path)
        machine.user(*fetch, "--map", tmp_path / "map", "-o", tmp_path / "out")
        machine.user.error(*fetch, "-o", tmp_path / "other", code=4)
    assert (tmp_path / "out").read_bytes() == export_of(machine.items)


def test_what_others_have_signed_goes_along(
    machine: Machine, publisher: Publisher, tmp_path: Path
) -> None:
    encode = ("items", "encode", "--items", machine.directory, "--no-sign", "--closure")
    asked = (*encode, *ACL, "--upstream", publisher.url, machine.items[1].item.base_name)
    urn = machine.user.out(*asked).splitlines()[-1]
    done = machine.user("items", "fetch", *ACL, urn, "-o", tmp_path / "out")
    # The publisher signs no archives.
    assert b"not signed: " in done.stderr
    assert (tmp_path / "out").read_bytes() == export_of(machine.items[:2])
    # Without anybody's signature it is nobody's word.
    urn = machine.user.out(*encode, machine.items[1].item.base_name).splitlines()[-1]
    text = machine.user.error("items", "fetch", *ACL, urn, "--dry-run", code=5)
    assert "it is not signed" in text


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Made]:
    """This machine's store, with its database, and no daemon of Guix."""
    directory = str(tmp_path / "store")
    Path(directory).mkdir()
    words = make(Path(directory), "words", WORDS, store_dir=directory)
    name = words.item.base_name
    greeting = make(Path(directory), "greeting", GREETING, name, "self", store_dir=directory)
    other = make(Path(directory), "other", File(b"other"), name, store_dir=directory)
    made = [words, greeting, other]
    add_items(tmp_path / "db", [one.item for one in made])
    monkeypatch.setenv("NIX_STORE_DIR", directory)
    monkeypatch.setenv("GUIX_STATE_DIRECTORY", str(tmp_path))
    return made


def test_of_this_machines_store(machine: Machine, store: list[Made], tmp_path: Path) -> None:
    _, greeting, other = store
    profile = tmp_path / "profile"
    profile.symlink_to(greeting.path / "bin")
    encode = ("items", "encode", *KEYS, "--eris-level", "1", "--closure")
    lines = machine.user.out(*encode, profile, other.item.path).splitlines()
    assert {line.partition(" ")[0] for line in lines[:-1]} == {one.item.path for one in store}
    machine.user("items", "fetch", *ACL, lines[-1], "-o", tmp_path / "out")
    guix = FakeGuix(tmp_path, {KEY.q})
    assert set(import_archive(guix, (tmp_path / "out").read_bytes())) == set(guix.valid)
    assert guix.valid[greeting.item.path].nar == greeting.nar
    assert guix.valid.keys() == {one.item.path for one in store}


def test_an_item_that_was_altered_is_left_out(
    machine: Machine, store: list[Made], tmp_path: Path
) -> None:
    words, greeting, other = store
    (greeting.path / "run").unlink()
    encode = ("items", "encode", *KEYS, "--eris-level", "1", "--closure")
    paths = (greeting.item.path, other.item.path)
    done = machine.user(*encode, *paths, code=5)
    assert b"greeting: its files are not what the store says they are" in done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line.partition(" ")[0] for line in lines[:-1]] == [words.item.path, other.item.path]
    items = parse_item_list(machine.user("decode", lines[-1], "-").stdout)
    assert items.wanted == (other.item.base_name,)
    assert len(items.items) == 2
    # Where nothing is left there is no list.
    done = machine.user("items", "encode", *KEYS, greeting.item.path, code=5)
    assert done.stdout == b""
    assert b"no item could be encoded" in done.stderr


def test_a_store_that_is_full_says_what_is_done(machine: Machine, tmp_path: Path) -> None:
    with running_daemon(tmp_path, "--max-size", "2MiB") as daemon:
        store = ("--eris-store-url", daemon.url, *machine.here, "--closure")
        done = machine.user("items", "encode", *store, machine.items[2].item.base_name, code=6)
    assert len(done.stdout.splitlines()) == 2
    assert b"2 of 3 items are encoded: run this again" in done.stderr


def test_options_that_say_nothing(machine: Machine, lines: list[str]) -> None:
    for arguments in (
        ("fetch", lines[-1]),
        ("fetch", lines[-1], "-o", "x", "--into-store"),
        ("fetch", lines[-1], "--into-store", "--force"),
        ("fetch", machine.items[0].item.path, "--dry-run"),
        ("fetch", lines[-1], "--dry-run", "--upstream", "http://127.0.0.1:1"),
        ("fetch", lines[-1], "--dry-run", "--trusted-public-keys", "nonsense"),
        ("fetch", lines[-1], "--dry-run", "--map", "x"),
        ("fetch", lines[-1], "--dry-run", "--store-dir", "/gnu/store"),
        ("encode", "--eris-format", "standard", "--eris-level", "3", "x"),
        ("encode", "--acl", "x", "x"),
        ("encode", "--no-sign", "--public-key", "x", "x"),
        ("encode", "--items", machine.directory, *KEYS, "/elsewhere"),
    ):
        machine.user("items", *arguments, code=2)
    absent = "0" * 32
    text = machine.user.error("items", "encode", *machine.here, absent, code=7)
    assert "is no item of /gnu/store" in text


@pytest.mark.skipif(shutil.which("nix-store") is None, reason="Nix is not installed")
def test_real_nix(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "items"
    directory.mkdir()
    words = make(directory, "words", WORDS, store_dir="/nix/store")
    name = words.item.base_name
    greeting = make(directory, "greeting", GREETING, name, "self", store_dir="/nix/store")
    table = f'["{greeting.item.base_name}"]\nreferences = {list(greeting.item.references)}\n'
    (directory / "items.toml").write_text(table)
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsandbox = false\nsubstituters =\n"
                       "experimental-features = nix-command\n")  # fmt: skip
    monkeypatch.setenv("NIX_REMOTE", f"local?root={tmp_path / 'root'}")
    key = ["nix", "key", "generate-secret", "--key-name", "here-1"]
    made = subprocess.run(key, capture_output=True, check=True, timeout=60)
    (tmp_path / "secret").write_bytes(made.stdout)
    shown = ["nix", "key", "convert-secret-to-public"]
    public = subprocess.run(shown, input=made.stdout, capture_output=True, check=True, timeout=60)
    stick = ("--eris-store-url", f"file://{tmp_path}/blocks.sqlite")
    encode = ("items", "encode", *stick, "--items", directory, "--store-dir", "/nix/store")
    nix_key = ("--nix-key", tmp_path / "secret", "--closure")
    urn = machine.user.out(*encode, *nix_key, greeting.item.path).splitlines()[-1]
    trusted = ("--trusted-public-keys", public.stdout.decode().strip())
    fetch = ("items", "fetch", *NOBODY, *stick)
    assert "vouches for" in machine.user.error(*fetch, "--into-store", urn, code=5)
    other = f"here-1:{'A' * 43}="
    machine.user.error(*fetch, "--trusted-public-keys", other, "--into-store", urn, code=5)
    machine.user.error(*fetch, *trusted, "--into-store", "--sign", *KEYS, urn, code=2)
    assert machine.user.out(*fetch, *trusted, "--into-store", urn) == greeting.item.path
    assert read_back(tmp_path / "root" / greeting.item.path[1:]) == GREETING
    # And as an archive: the very bytes that Nix writes.
    machine.user(*fetch, *trusted, urn, "-o", tmp_path / "out")
    paths = [words.item.path, greeting.item.path]
    exported = subprocess.run(
        ["nix-store", "--export", *paths], capture_output=True, check=True, timeout=60
    )
    assert (tmp_path / "out").read_bytes() == exported.stdout


@pytest.mark.skipif(shutil.which("nix-store") is None, reason="Nix is not installed")
def test_from_one_nix_to_another(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nix = NixStore(tmp_path / "nix")
    (tmp_path / "app.nix").write_text(EXPRESSION)
    app = nix.run("nix-build", "--no-out-link", tmp_path / "app.nix")
    public = nix.new_key("here-1", tmp_path / "secret")
    for name, value in nix.env.items():
        monkeypatch.setenv(name, value)
    stick = ("--eris-store-url", f"file://{tmp_path}/blocks.sqlite")
    key = ("--nix-key", tmp_path / "secret", "--eris-level", "1")
    lines = machine.user.out("items", "encode", *stick, *key, "--closure", app).splitlines()
    assert lines[-2].startswith(app)
    # The other machine has nothing but the stick, and a key in its settings.
    for directory in (nix.store_dir, nix.state_dir):
        directory.rename(tmp_path / f"old-{directory.name}")
    fetch = ("items", "fetch", *NOBODY, *stick, lines[-1], "--into-store")
    machine.user.error(*fetch, code=5)
    (tmp_path / "nix" / "etc").mkdir()
    settings = f"trusted-public-keys = {public}\nbuild-users-group =\nsandbox = false\n"
    (tmp_path / "nix" / "etc" / "nix.conf").write_text(settings)
    assert machine.user.out(*fetch) == app
    nix.run("nix-store", "--verify", "--check-contents")
    done = subprocess.run([f"{app}/bin/app"], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"some words\n"
    # Again: what is there is passed over.
    assert machine.user.out(*fetch) == app
