"""From a publisher to a machine that wants the item: all programs real, every oddity of trees."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from guix_glue.formats.narinfo import Narinfo
from guix_glue.formats.store_path import format_hash
from guix_glue.local.archive import nar_hash
from tests.eris_fs.trees import File, Link, Node, lay_out
from tests.guix_glue.publish.support import KEYS, SAMPLES, Publisher, make_item, nar_of, publishing
from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon, program, running_daemon, wait_until

ODD: Node = {
    "empty": {},
    "bin": {"run": File(b"#!/bin/sh\n", executable=True), "again": Link("run")},
    "nothing": File(b""),
    "one": File(b"1"),
    "dangling": Link("to/nowhere"),
    "absolute": Link("/etc/passwd"),
    "Case": File(b"upper"),
    "case": File(b"lower"),
    "\u00e4 \u4e16\u754c\n": File(b"UTF-8"),
    "-": {"8191": File(b"x" * 8191), "8192": File(b"x" * 8192), "twin": File(b"x" * 8192)},
    "zeroes": File(bytes(200_000)),
    "deep": {"er": {"and": {"deeper": File(b"x" * 40_000)}}},
}
ITEMS: dict[str, Node] = {
    "odd-1.0": ODD,
    "file-1.0": File(b"an item may be a file"),
    "program-1.0": File(b"#!/bin/sh\n", executable=True),
    "link-1.0": Link("file-1.0"),
    "directory-1.0": {},
}


# Names that are not UTF-8: as text they would stand before the letters from U+E000 on.
STRAY = (b"\xff", b"\x80", b"\xee\x80\x80", b"\xef\xbf\xae", b"\xf0\x90\x80\x80", b"\xf0\x90")


@dataclass(frozen=True)
class Both:
    """A publisher of trees of a format, the daemon that it fills, and the items, laid out."""

    trees: str
    publisher: Publisher
    daemon: Daemon
    items: dict[str, Path]


@pytest.fixture(scope="module", params=["packed", "standard"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    trees = str(request.param)
    root = tmp_path_factory.mktemp("published")
    (root / "items").mkdir()
    items = {name: make_item(root / "items", name) for name in ITEMS}
    for name, path in items.items():
        lay_out(ITEMS[name], path)
    items["stray-1.0"] = make_item(root / "items", "stray-1.0")
    make_stray(items["stray-1.0"])
    arguments = ("--items", root / "items", *KEYS, "-C", "zstd", "--ttl", "1d")
    with (
        running_daemon() as daemon,
        publishing(root, *arguments, f"--eris={daemon.url}", "--eris-format", trees) as publisher,
    ):
        yield Both(trees, publisher, daemon, items)


def make_stray(path: Path) -> None:
    """A tree with names and a target that are not UTF-8."""
    path.mkdir()
    for name in STRAY:
        (path / os.fsdecode(name)).write_bytes(name)
        (path / os.fsdecode(b"in" + name)).mkdir()
        (path / os.fsdecode(b"in" + name) / os.fsdecode(name)).symlink_to(os.fsdecode(name))


def fetch(both: Both, narinfo: Narinfo, destination: Path, store: str) -> str:
    """Be the Guix daemon for one item; returns the messages."""
    done = subprocess.run(
        [program("kapla"), "substitute", "--substitute", "--eris-store-url", store, "--reply-fd=1"],
        input=f"substitute {narinfo.item.path} {destination}\n",
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(destination.parent),
            "GUIX_CONFIGURATION_DIRECTORY": str(SAMPLES / "keys"),
            "KAPLA_NARINFO_CACHE": "none",
            "_NIX_OPTIONS": f"print-extended-build-trace=1\nsubstitute-urls={both.publisher.url}",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    item = narinfo.item
    assert done.stdout == f"success {format_hash(item.nar_hash)} {item.nar_size}\n", done.stderr
    assert nar_hash(str(destination)) == (item.nar_hash, item.nar_size)
    return done.stderr


@pytest.mark.parametrize("name", ITEMS)
def test_every_item_comes_out_of_blocks_and_over_http(
    both: Both, name: str, tmp_path: Path
) -> None:
    path = both.items[name]
    narinfo = both.publisher.baked(path, urn=True).narinfo()
    assert narinfo.signed_urn is not None
    info = Kapla(tmp_path, both.daemon.url).out("info", "--json", narinfo.signed_urn)
    assert ("packed" in json.loads(info)["format"]) == (both.trees == "packed")
    assert (narinfo.item.nar_hash, narinfo.item.nar_size) == nar_hash(str(path))
    said = fetch(both, narinfo, tmp_path / "blocks", both.daemon.url)
    assert f"@ download-succeeded {tmp_path}/blocks urn:eris:" in said
    said = fetch(both, narinfo, tmp_path / "http", f"coap+unix://{tmp_path}/nobody")
    assert f"@ download-succeeded {tmp_path}/http http://" in said
    for found in (tmp_path / "blocks", tmp_path / "http"):
        assert found.lstat().st_mtime == 1
        if not found.is_symlink():
            assert found.stat().st_mode & 0o777 == (0o444 if name == "file-1.0" else 0o555)


def test_names_that_are_not_utf8_come_out_of_packed_trees_and_over_http(
    both: Both, tmp_path: Path
) -> None:
    path = both.items["stray-1.0"]
    wait_until(lambda: both.publisher.narinfo(path).max_age == 86_400, "the end of baking")
    narinfo = both.publisher.narinfo(path).narinfo()
    assert (narinfo.item.nar_hash, narinfo.item.nar_size) == nar_hash(str(path))
    assert hashlib.sha256(nar_of(path)).digest() == narinfo.item.nar_hash
    said = fetch(both, narinfo, tmp_path / "blocks", both.daemon.url)
    if both.trees == "packed":
        assert f"@ download-succeeded {tmp_path}/blocks urn:eris:" in said
    else:
        assert narinfo.signed_urn is None
        assert f"@ download-succeeded {tmp_path}/blocks http://" in said
