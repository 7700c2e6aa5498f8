"""Items whose files are not what the store says, and what is said when baking fails."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from guix_glue.formats.store_path import fixed_output_path
from guix_glue.local.archive import nar_hash
from tests.guix_glue.local.databases import connect, make_database
from tests.guix_glue.publish.support import (
    KEYS,
    make_item,
    nar_of,
    nothing_half_made,
    publishing,
    wait_until,
)


@pytest.fixture
def items(tmp_path: Path) -> Path:
    directory = tmp_path / "items"
    directory.mkdir()
    return directory


class GuixStore:
    """A store with a database, and no daemon."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "store"
        self._state = directory / "state"
        (self._state / "db").mkdir(parents=True)
        self.directory.mkdir()
        make_database(self._state / "db")
        self.environment = {
            "NIX_STORE_DIR": str(self.directory),
            "GUIX_STATE_DIRECTORY": str(self._state),
            "GUIX_DAEMON_SOCKET": str(directory / "none"),
        }

    def register(self, item: Path) -> None:
        digest, size = nar_hash(str(item))
        with closing(connect(self._state / "db")) as database, database:
            database.execute(
                "INSERT INTO ValidPaths (path, hash, registrationTime, narSize)"
                " VALUES (?, ?, 0, ?)",
                (str(item), f"sha256:{digest.hex()}", size),
            )


@pytest.fixture
def store(tmp_path: Path) -> GuixStore:
    return GuixStore(tmp_path)


def test_files_that_are_not_what_the_store_says(store: GuixStore, tmp_path: Path) -> None:
    item = make_item(store.directory, "item")
    sound = make_item(store.directory, "sound")
    for path in (item, sound):
        path.write_text("content")
        store.register(path)
    item.write_text("CONTENT")
    with publishing(tmp_path, *KEYS, "-C", "none", env=store.environment) as publisher:
        publisher.narinfo(item)
        # Once that is known nothing says any more that these files have that hash.
        wait_until(lambda: publisher.narinfo(item).status == 404, "damage to be found")
        assert publisher.narinfo(item).max_age == 300
        assert publisher.request(f"/nar/{item.name}").status == 404
        assert publisher.request(f"/{item.name[:32]}.ls").status == 404
        assert publisher.narinfo(sound).status == 200
        publisher.wait_for_log("guix gc --verify=contents,repair")
        (line,) = [line for line in publisher.log.splitlines() if "contents,repair" in line]
        assert item.name in line
        item.write_text("content")
        publisher.stop()
        publisher.start()
        publisher.narinfo(item)
        wait_until(lambda: publisher.narinfo(item).max_age is None, "the mended item to be baked")
        assert publisher.narinfo(item).status == 200


def test_what_is_kept_of_a_damaged_item_is_sound(store: GuixStore, tmp_path: Path) -> None:
    item = make_item(store.directory, "item")
    item.write_text("content")
    store.register(item)
    nar = nar_of(item)
    with publishing(tmp_path, *KEYS, "-C", "gzip", env=store.environment) as publisher:
        publisher.baked(item, store_dir=str(store.directory))
    item.write_text("CONTENT")
    arguments = (*KEYS, "-C", "zstd", "-C", "gzip")
    with publishing(tmp_path, *arguments, env=store.environment) as publisher:
        publisher.narinfo(item)
        publisher.wait_for_log("contents,repair")
        (url,) = publisher.narinfo(item).narinfo(str(store.directory)).urls
        assert url.compression == "gzip"
        assert publisher.request(f"/nar/{item.name}").body == nar


def test_an_entry_that_changed_deep_inside_is_hashed_again(items: Path, tmp_path: Path) -> None:
    tree = items / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below" / "file").write_text("content")

    def narinfo_path() -> str:
        digest, _ = nar_hash(str(tree))
        path = fixed_output_path("/gnu/store", "tree", digest, recursive=True)
        return f"/{path[11:43]}.narinfo"

    before = narinfo_path()
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        # Now it is hashed, and not asked for yet.
        assert publisher.request(f"/{'0' * 32}.narinfo").status == 404
        # Such a change is not looked for: it shows when the entry is baked.
        (tree / "below" / "file").write_text("CONTENT")
        publisher.request(before)
        wait_until(lambda: publisher.request(before).status == 404, "the change to be noticed")
        assert publisher.request(narinfo_path()).status == 200


def test_what_fails_is_told_by_item_and_place(items: Path, tmp_path: Path) -> None:
    large = make_item(items, "large")
    large.write_bytes(random.Random(0).randbytes(1_000_000))
    # No file that is written may be larger, as if the disk were full.
    prefix = ("prlimit", "--fsize=100000")
    with publishing(tmp_path, "--items", items, *KEYS, prefix=prefix) as publisher:
        assert publisher.narinfo(large).status == 200
        publisher.wait_for_log(
            f"{large.name}: the cache {tmp_path}/cache cannot hold it (File too large)"
        )
        nothing_half_made(tmp_path / "cache")
