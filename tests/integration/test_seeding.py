"""`kapla seed` beside a real daemon: others decode what is stored nowhere."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from eris.capability import ReadCapability
from guix_glue.formats.narinfo import NarUrl, format_narinfo, format_unsigned
from guix_glue.kept.public_notes import PublicNotes
from guix_glue.local.archive import nar_hash
from guix_glue.model import StoreItem
from guix_glue.seed.indexing import Indexer
from guix_glue.seed.trees import SeedTree
from guix_glue.trust.signature import sign_text
from tests.guix_glue.fetch.fakes import running_server
from tests.guix_glue.fetch.support import KEY, SAMPLES
from tests.guix_glue.seed.support import encoded, make_tree, opened_index
from tests.guix_glue.seed.test_seeder import Store
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, Daemon, running_daemon, wait_until
from tests.integration.here import User
from tests.integration.test_peers import connected, stat

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@dataclass
class Place:
    """A daemon that lends, another that asks it, and a directory beside them."""

    lender: Daemon
    asker: Daemon
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def user(self) -> User:
        """Somebody at the machine of the one that asks."""
        return User(self.directory, self.asker.url)

    def seeder(self) -> Kapla:
        """Somebody at the machine of the one that lends, with a store."""
        return Kapla(self.directory, self.lender.url, env=self.environment)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with (
        tempfile.TemporaryDirectory(prefix="kapla-") as name,
        running_daemon(listen=["coap+tcp://127.0.0.1:0"]) as lender,
        running_daemon(None, "--peer", lender.tcp_url) as asker,
    ):
        yield Place(lender, connected(asker), Path(name))


@contextmanager
def seeding(place: Place, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """`kapla seed`, until the end of the context, from when it is connected."""
    seeder = place.seeder()
    before = stat(place.lender)["seeds"]["now"]
    with subprocess.Popen(
        seeder.command("seed", *arguments),
        env=seeder.environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            wait_until(lambda: stat(place.lender)["seeds"]["now"] > before, "the seed")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=GUARD_S)
            assert process.returncode == 0, errors.decode()


def is_read(index: Path) -> bool:
    """Whether all trees are in the index."""
    found = told(index)
    return bool(found) and bool(found["trees"]) and not found["trees_left"]


def told(index: Path) -> dict[str, Any]:
    """What the seed has told last."""
    try:
        return dict(json.loads((index / "status.json").read_text()))
    except FileNotFoundError:
        return {}


def test_others_decode_what_is_stored_nowhere(place: Place) -> None:
    root = make_tree(place.directory / "tree")
    urn = encoded(root)[0].to_urn()
    index = place.directory / "index"
    kept = stat(place.lender)["blocks"]
    with seeding(place, root, "--index", index):
        wait_until(lambda: is_read(index), "its index")
        place.user("decode", urn, place.directory / "out")
        assert "connected to the daemon" in place.user.out("seed", "--status", "--index", index)
        found = json.loads(place.user.out("seed", "--status", "--json", "--index", index))
        assert found["running"] and found["trees"] == 1
        assert found["index_bytes"] < 0.02 * found["data_bytes"]
    assert_same(root, place.directory / "out")
    assert stat(place.lender)["blocks"] == kept
    assert "not running" in place.user.out("seed", "--status", "--index", index)


def test_a_file_that_changed_is_not_there(place: Place) -> None:
    root = make_tree(place.directory / "changing", [71_001, 3_001, 20_001])
    before, _ = encoded(root)
    index = place.directory / "changing-index"
    with seeding(place, root, "--index", index):
        wait_until(lambda: is_read(index), "its index")
        (root / "d0" / "f71001").write_bytes(os.urandom(71_001))
        place.user("decode", before.to_urn(), place.directory / "none", code=4)
        # It is read again soon.
        after, _ = encoded(root)
        read = told(index)["read_bytes"]
        wait_until(lambda: told(index)["read_bytes"] > read, "the file that changed")
        place.user("decode", after.to_urn(), place.directory / "new")
    assert_same(root, place.directory / "new")


def assert_same(first: Path, second: Path) -> None:
    done = subprocess.run(["diff", "-r", "--no-dereference", first, second], check=False)
    assert done.returncode == 0


def test_a_seed_that_is_killed_goes_on_where_it_was(place: Place) -> None:
    roots = [make_tree(place.directory / f"k{number}", [1_000_000]) for number in range(8)]
    index = place.directory / "killed"
    seeder = place.seeder()
    command = seeder.command("seed", *roots, "--once", "--index", index)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=seeder.environment(), stderr=subprocess.PIPE)

    with start() as process:
        # As soon as something is written; or it has done all before anybody saw that.
        path = index / "segments"
        wait_until(lambda: path.exists() or process.poll() is not None, str(path))
        process.kill()
    with start() as process:
        _, errors = process.communicate(timeout=GUARD_S)
    assert process.returncode == 0, errors.decode()
    found = told(index)
    assert (found["trees"], found["trees_left"], found["trees_failed"]) == (8, 0, 0)
    # All is there: once more there is nothing to read.
    with opened_index(index) as opened:
        indexer = Indexer(opened)
        indexer.update([SeedTree(str(root)) for root in roots])
        assert indexer.progress.read_bytes == 0
    assert not list(index.glob("*.new"))


def test_an_item_is_given_as_it_was_packed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    item = store.add(0, fetched=False, text="a line of text\n" * 50_000)
    index = tmp_path / "index"
    environment = {
        "NIX_STORE_DIR": store.store_dir,
        "GUIX_STATE_DIRECTORY": str(tmp_path),
        "GUIX_LOG_DIRECTORY": str(tmp_path),
    }
    with running_daemon() as daemon:
        user = User(tmp_path, daemon.url)
        urn = user.out("encode", "--packed", "--level", "3", "--no-pin", item)
        _note(store, item, urn)
        place = Place(daemon, daemon, tmp_path, environment)
        with seeding(place, "--index", index, "--public-items", store.notes):
            wait_until(lambda: told(index).get("packed", 0) == 1, "how it was packed")
            daemon.stop()
            for file in daemon.store.parent.glob(f"{daemon.store.name}*"):
                file.unlink()
            daemon.start()
            assert not any(stat(daemon)["blocks"].values())
            wait_until(lambda: stat(daemon)["seeds"]["now"] == 1, "the seed")
            user("decode", urn, tmp_path / "out")
            assert_same(item, tmp_path / "out")
            # What was made goes to the daemon.
            wait_until(lambda: any(stat(daemon)["blocks"].values()), "packs that are kept")


def _note(store: Store, item: Path, urn: str) -> None:
    """As who has fetched it by a narinfo with this URN."""
    notes = PublicNotes(str(store.notes))
    part, (digest, _) = item.name[:32], nar_hash(str(item))
    notes.items.note(part, digest)
    notes.urns.note(part, digest, ReadCapability.from_urn(urn).to_bytes())


def test_what_a_server_has_signed_is_given_once_it_was_asked(place: Place, tmp_path: Path) -> None:
    store = Store(tmp_path)
    public, private = store.add(0, fetched=False), store.add(1, fetched=False)
    index = tmp_path / "index"
    environment = {
        "NIX_STORE_DIR": store.store_dir,
        "GUIX_STATE_DIRECTORY": str(tmp_path),
        "GUIX_LOG_DIRECTORY": str(tmp_path / "log"),
    }
    (tmp_path / "log" / "drvs").mkdir(parents=True)
    item = StoreItem(str(public), nar_hash(str(public))[0], 1000, ())
    unsigned = format_unsigned(item)
    narinfo = format_narinfo(unsigned, sign_text(KEY, unsigned, "test"), [NarUrl("nar/x")])
    with running_server() as server:
        server.files[f"/{item.hash_part}.narinfo"] = narinfo
        place = replace(place, directory=tmp_path, environment=environment)
        options: list[str | Path] = ["--index", index, "--public-items", tmp_path / "none"]
        options += ["--upstream", server.url, "--acl", SAMPLES / "keys" / "acl"]
        with seeding(place, *options):
            wait_until(lambda: told(index).get("trees", 0) == 1, "the item that is public")
            place.user("decode", encoded(public)[0].to_urn(), tmp_path / "out")
            place.user("decode", encoded(private)[0].to_urn(), tmp_path / "none", code=4)
        asked = len(server.requests)
        assert "no server that was asked" in _explained(place, options, private)
        with seeding(place, *options):
            # It was read before, need not be asked about, and is there as soon as the seed is.
            place.user("decode", encoded(public)[0].to_urn(), tmp_path / "again")
        assert len(server.requests) == asked


def _explained(place: Place, options: Sequence[str | Path], item: Path) -> str:
    return place.seeder()("seed", "--explain", item, *options).stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--json"], 2, "--json is for --status"),
        (["--once", "--status"], 2, "each for themselves"),
        (["--once", "--eris-store-url", "coap+unix:///x"], 2, "for a seed that runs"),
        (["--status"], 1, "no seed has its index"),
        (["--store", "/elsewhere"], 2, "the stores of this machine are"),
        (["--deny", "*"], 2, "add --store"),
        (["--eris-store-url", "coap+tcp://127.0.0.1"], 6, "of this machine"),
        (["--explain", "x"], 2, "add --store"),
        (["/none"], 2, "there is no /none"),
    ],
)
def test_what_makes_no_sense_is_told(
    tmp_path: Path, arguments: Sequence[str], code: int, words: str
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    directories = [] if arguments[0] == "--store" else [root]
    index = ["--index", str(tmp_path / "index")]
    done = User(tmp_path, "")("seed", *directories, *arguments, *index, code=code)
    assert words in " ".join(done.stderr.decode().split())


def test_servers_whom_nobody_believes_are_not_asked(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("(acl)")
    acl = str(tmp_path / "acl")
    options = ["--upstream", "http://127.0.0.1:9", "--acl", acl, "--explain", "x"]
    done = User(tmp_path, "")("seed", *options, "--index", tmp_path / "index", code=2)
    assert "authorizes no key" in " ".join(done.stderr.decode().split())


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that another user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@needs_root
def test_root_is_given_up_once_the_keys_are_read(open_place: Path) -> None:
    store = Store(open_place)
    store.add(0)
    acl = open_place / "acl"
    acl.write_bytes((SAMPLES / "keys" / "acl").read_bytes())
    acl.chmod(0o600)
    (open_place / "gcroots").mkdir()
    environment = {"NIX_STORE_DIR": store.store_dir, "GUIX_STATE_DIRECTORY": str(open_place)}
    seeder = Kapla(open_place, "", env=environment)
    index = open_place / "caches" / "index"
    options: list[str | Path] = ["--once", "--pin", "--user", "nobody", "--index", index]
    asked: list[str | Path] = [
        "--public-items",
        store.notes,
        "--upstream",
        "http://127.0.0.1:9",
        "--acl",
        acl,
    ]
    done = subprocess.run(
        seeder.command("seed", *options, *asked),
        env=seeder.environment(),
        stderr=subprocess.PIPE,
        check=False,
        timeout=GUARD_S,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert told(index)["trees"] == 1
    nobody = pwd.getpwnam("nobody").pw_uid
    assert {path.stat().st_uid for path in (index, *index.iterdir())} == {nobody}
    assert index.stat().st_mode & 0o777 == 0o700
    assert len(list((open_place / "gcroots" / "kapla-seed").iterdir())) == 1


@needs_root
def test_whoever_becomes_another_user_gives_him_nothing_that_was_there(open_place: Path) -> None:
    precious = open_place / "precious"
    precious.mkdir()
    (open_place / "index").symlink_to(precious)
    root = make_tree(open_place / "tree")
    index = open_place / "index"
    done = Kapla(open_place, "")(
        *("seed", root, "--once", "--user", "nobody", "--index", index), code=1
    )
    assert b"it is of another user" in done.stderr
    assert precious.stat().st_uid == 0


def test_an_index_in_what_is_seeded_is_refused(tmp_path: Path) -> None:
    done = User(tmp_path, "")("seed", tmp_path, "--index", tmp_path / "index", code=2)
    assert "has the index in it" in " ".join(done.stderr.decode().split())
