"""Directories of items through the door: odd entries, huge ones, changes, and a store of Nix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guix_glue.formats.store_path import fixed_output_path
from guix_glue.local.archive import nar_hash
from tests.guix_glue.publish.support import KEYS, SAMPLES, Publisher, make_item, publishing

NIX_KEY = SAMPLES / "nix-2.8" / "secret-key"


@pytest.fixture
def items(tmp_path: Path) -> Path:
    directory = tmp_path / "items"
    directory.mkdir()
    return directory


def status_of(publisher: Publisher, path: Path, store_dir: str = "/gnu/store") -> int:
    """What is answered of an entry that is not named as an item."""
    digest, _ = nar_hash(str(path))
    item = fixed_output_path(store_dir, path.name, digest, recursive=True)
    return publisher.request(f"/{item[len(store_dir) + 1 :][:32]}.narinfo").status


def test_an_odd_entry_is_named_and_hinders_none(items: Path, tmp_path: Path) -> None:
    (items / "one").write_text("1")
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        assert status_of(publisher, items / "one") == 200
        for name in (".hidden", "x~", "foo bar", "café", ".nfs0001", "x" * 212):
            (items / name).touch()
        (items / "items.toml").write_text("[gone]\n[two]\nreferences = 5\n")
        (items / "two").write_text("2")
        (items / "three").write_text("3")
        assert status_of(publisher, items / "three") == 200
        # Not with other references than somebody meant to give it.
        assert status_of(publisher, items / "two") == 404
        assert publisher.stop() == 0
        assert publisher.log.count("'.hidden'") == 1
        publisher.start()
        assert status_of(publisher, items / "one") == 200
        assert status_of(publisher, items / "three") == 200
        assert publisher.log.count("'.hidden'") == 1
        assert publisher.log.count("['two']") == 1


def test_a_huge_entry_keeps_no_other_waiting(items: Path, tmp_path: Path) -> None:
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        (items / "huge").touch()
        os.truncate(items / "huge", 1 << 42)
        for _ in range(2):
            (items / "small").write_text(publisher.url)
            assert status_of(publisher, items / "small") == 200
            assert publisher.stop() == 0
            publisher.start()


def test_a_directory_like_the_store_of_nix(items: Path, tmp_path: Path) -> None:
    item = make_item(items, "item")
    item.write_text("content")
    (items / ".links").mkdir()
    item.with_name(f"{item.name}.lock").touch(0o600)
    item.with_name(f"{item.name}.drv.chroot").mkdir()
    with publishing(tmp_path, "--items", items, "--nix-key", NIX_KEY) as publisher:
        narinfo = publisher.narinfo(item).narinfo("/nix/store")
        assert narinfo.item.base_name == item.name
        assert "left out" not in publisher.log
        assert "cannot be" not in publisher.log
