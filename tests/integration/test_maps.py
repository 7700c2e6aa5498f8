"""From items to a map and by it to the items again: all programs real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from guix_glue.formats.store_path import format_hash
from guix_glue.local.archive import nar_hash
from tests.eris_fs.trees import File, Link, Node, lay_out
from tests.guix_glue.fetch.fakes import running_server
from tests.guix_glue.fetch.support import make_item as item_at
from tests.guix_glue.fetch.support import publish
from tests.guix_glue.publish.support import KEYS, SAMPLES, Publisher, make_item, publishing
from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon, program, running_daemon, wait_until
from tests.integration.here import User

ITEMS: dict[str, Node] = {
    "tree-1.0": {"bin": {"run": File(b"#!/bin/sh\n", executable=True), "again": Link("run")}},
    "file-1.0": File(b"an item may be a file\n" * 2000),
    "odd-1.0": {"\u00e4 \u4e16\u754c\n": File(b"UTF-8"), "empty": {}, "nothing": File(b"")},
}


@dataclass(frozen=True)
class Published:
    """A publisher that has baked all items and written its map, and what it filled."""

    publisher: Publisher
    daemon: Daemon
    items: dict[str, Path]
    urns: dict[str, str]
    """What its narinfos say, by hash part."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    root = tmp_path_factory.mktemp("published")
    (root / "items").mkdir()
    items = {name: make_item(root / "items", name) for name in ITEMS}
    for name, path in items.items():
        lay_out(ITEMS[name], path)
    with running_daemon(listen=["coap+tcp://127.0.0.1:0"]) as daemon:
        eris = (f"--eris={daemon.url}", "--map", "--eris-level", "3")
        arguments = ("--items", root / "items", *KEYS, "-C", "zstd:1", *eris)
        with publishing(root, *arguments) as publisher:
            urns = {}
            for path in items.values():
                urn = publisher.baked(path, urn=True).narinfo().signed_urn
                assert urn is not None
                urns[path.name[:32]] = urn
            # The map is written at the start, and hourly.
            publisher.stop()
            publisher.start()
            wait_until(lambda: publisher.request("/map.urn").status == 200, "the map")
            yield Published(publisher, daemon, items, urns)


@pytest.fixture
def user(published: Published, tmp_path: Path) -> User:
    return User(tmp_path, published.daemon.url)


def lines(urns: dict[str, str]) -> list[str]:
    return [f"{hash_part} {urn}" for hash_part, urn in sorted(urns.items())]


def test_a_map_that_is_built_is_what_the_publisher_announces(
    published: Published, user: User, tmp_path: Path
) -> None:
    """Real processes: the command, and those that it starts."""
    places = [str(path) for path in published.items.values()]
    built, merged = tmp_path / "built.map", tmp_path / "merged.map"
    arguments = ("--eris-level", "3", "--workers", "2")
    Kapla(tmp_path, published.daemon.url)("map", "build", built, *places, *arguments)
    assert user.out("map", "get", built).splitlines() == lines(published.urns)
    assert built.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "built.map.partial").exists()
    url = f"{published.publisher.url}/map.urn"
    user("map", "diff", built, url)
    # The same bytes: so its URN is that of the publisher, too.
    user("map", "merge", merged, url)
    assert merged.read_bytes() == built.read_bytes()
    (urn,) = published.publisher.request("/map.urn").body.decode().split()
    assert user.out("encode", "--no-store", built) == urn


def test_the_map_of_a_publisher_is_pinned_and_lent(published: Published, user: User) -> None:
    listed = map(json.loads, user.out("pins", "--json").splitlines())
    (pin,) = [one for one in listed if one["name"].endswith("/map")]
    assert (pin["keep"], pin["lend"], pin["missing"]) == (True, True, 0)
    # So whoever comes over the network can look an item up, and have it.
    hash_part, urn = next(iter(published.urns.items()))
    there = ("--store-url", published.daemon.tcp_url)
    url = f"{published.publisher.url}/map.urn"
    assert user.out("map", "get", url, hash_part, *there) == f"{hash_part} {urn}"


def test_one_item_at_a_time_over_http(published: Published, user: User) -> None:
    url = published.publisher.url
    for hash_part, urn in published.urns.items():
        assert user.out("map", "get", url, hash_part) == f"{hash_part} {urn}"
        assert published.publisher.request(f"/map/{hash_part}").body.decode() == f"{urn}\n"
    assert "does not have" in user.error("map", "get", url, "0" * 32, code=4)
    assert "/map.urn" in user.error("map", "get", url, code=2)


@pytest.mark.parametrize("given", ["option", "environment"])
def test_an_item_whose_narinfo_has_no_urn_comes_out_of_blocks(
    published: Published, tmp_path: Path, given: str
) -> None:
    """By a map that is named, and by one that stands behind others that are none."""
    options: tuple[str, ...] = ("--map", f"{published.publisher.url}/map.urn")
    named = {}
    if given == "environment":
        (tmp_path / "urn").write_bytes(published.publisher.request("/map.urn").body)
        maps = (f"{tmp_path}/nowhere", "http://", "urn:eris:ABCDEF", f"@{tmp_path}/urn")
        options, named = (), {"KAPLA_MAPS": " ".join(maps)}
    item = published.items["tree-1.0"]
    made = item_at(item, item.name)
    with running_server() as server:
        publish(server, made)
        done = subprocess.run(
            [
                *(program("kapla"), "substitute", "--substitute", "--reply-fd=1"),
                *("--eris-store-url", published.daemon.url, *options),
            ],
            input=f"substitute {made.item.path} {tmp_path}/item\n",
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "GUIX_CONFIGURATION_DIRECTORY": str(SAMPLES / "keys"),
                "KAPLA_NARINFO_CACHE": "none",
                "_NIX_OPTIONS": f"substitute-urls={server.url}",
                **named,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    digest, size = nar_hash(str(item))
    assert done.stdout == f"success {format_hash(digest)} {size}\n", done
    assert nar_hash(str(tmp_path / "item")) == (digest, size)
    assert not [path for path in server.requests if path.startswith("/nar/")], done
    assert "failed" not in done.stderr
    assert done.stderr.count("is left out") == (3 if named else 0)
    assert "ABCDEF" not in done.stderr
    assert published.urns[item.name[:32]][:30] not in done.stderr


def test_building_goes_on_and_takes_what_is_known(
    published: Published, user: User, tmp_path: Path
) -> None:
    places = [str(path) for path in published.items.values()]
    hash_part = published.items["file-1.0"].name[:32]
    known = published.urns[published.items["odd-1.0"].name[:32]]
    level = ("--eris-level", "3", "--workers", "1")
    partial = tmp_path / "items.map.partial"
    # That of another item, to see that it is taken from there.
    partial.write_text(f"kapla-map-partial kapla-packed-1 level 3\n{hash_part} {known}\n")
    user("map", "build", str(tmp_path / "items.map"), *places, *level)
    expected = {**published.urns, hash_part: known}
    assert user.out("map", "get", str(tmp_path / "items.map")).splitlines() == lines(expected)
    assert not partial.exists()
    # And from the map that is there, if the items were there before it.
    user("map", "build", str(tmp_path / "items.map"), *places, *level)
    assert user.out("map", "get", str(tmp_path / "items.map")).splitlines() == lines(expected)
    user("map", "build", str(tmp_path / "items.map"), *places, *level, "--again")
    found = user.out("map", "get", str(tmp_path / "items.map")).splitlines()
    assert found == lines(published.urns)


def test_what_is_interrupted_goes_on(published: Published, user: User, tmp_path: Path) -> None:
    small = published.items["file-1.0"]
    large = make_item(tmp_path, "large-1.0")
    large.touch()
    # A hole that takes no room, and minutes.
    os.truncate(large, 1 << 40)
    partial = tmp_path / "items.map.partial"
    arguments = ("--eris-level", "3", "--workers", "1", "items.map")
    kapla = user.as_program
    with kapla.running("map", "build", *arguments, small, large) as process:
        wait_until(lambda: partial.exists() and b"urn:" in partial.read_bytes(), "an item")
        kapla.interrupt(process, signal.SIGINT)
    assert not (tmp_path / "items.map").exists()
    urn = published.urns[small.name[:32]]
    assert partial.read_text().splitlines()[1:] == [f"{small.name[:32]} {urn}"]
    assert partial.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_encoded_is_left_out(
    published: Published, user: User, tmp_path: Path
) -> None:
    good = published.items["file-1.0"]
    bad = make_item(tmp_path, "bad-1.0")
    bad.mkdir()
    os.mkfifo(bad / "pipe")
    listed = f"{good}\n\n{bad}\n".encode()
    out = str(tmp_path / "items.txt")
    arguments = ("--from", "-", "--eris-level", "3", "--workers", "1")
    error = user.error("map", "build", out, *arguments, code=9, stdin=listed)
    assert "1 item is left out" in error
    assert Path(out).read_text() == f"{good.name[:32]} {published.urns[good.name[:32]]}\n"


def test_items_into_a_store_are_pinned_and_lent(
    published: Published, user: User, tmp_path: Path
) -> None:
    item = make_item(tmp_path, "stored-1.0")
    item.write_bytes(b"stored\n" * 5000)
    out = str(tmp_path / "stored.map")
    arguments = ("--store-url", published.daemon.url, "--lend", "--workers", "1")
    for _ in range(2):
        user("map", "build", out, str(item), *arguments)
        (line,) = user.out("map", "get", out).splitlines()
        urn = line.split()[1]
        listed = map(json.loads, user.out("pins", "--json").splitlines())
        (pin,) = [one for one in listed if one["name"] == f"kapla-map/{item.name}"]
        assert (pin["lend"], pin["missing"]) == (True, 0)
    user("decode", urn, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == item.read_bytes()


def test_maps_are_merged_compared_and_written_in_other_forms(
    published: Published, user: User, tmp_path: Path
) -> None:
    one, two, three = sorted(published.urns)
    mine, theirs, merged = (str(tmp_path / name) for name in ("mine.txt", "theirs.txt", "all.map"))
    urns = published.urns
    Path(mine).write_text(f"{one} {urns[one]}\n{two} {urns[two]}\n")
    Path(theirs).write_text(f"{two} {urns[three]}\n{three} {urns[three]}\n")
    user("map", "merge", merged, mine, theirs)
    assert user.out("map", "get", merged).splitlines() == lines(urns)
    shown = user("map", "diff", mine, theirs, code=1).stdout.decode()
    assert shown.splitlines() == [f"- {one}", f"! {two}", f"+ {three}"]
    assert "urn:eris:" in user("map", "diff", mine, theirs, "--urns", code=1).stdout.decode()
    assert "exists" in user.error("map", "merge", merged, mine, code=7)
    for out in (f"{tmp_path}/folder/", f"{tmp_path}/items.sqlite", f"{tmp_path}/again.list"):
        user("map", "merge", out, merged)
        assert user.out("map", "get", out).splitlines() == lines(urns)
        user("map", "diff", out, merged)
    assert "not empty" in user.error("map", "merge", str(tmp_path / "folder"), merged, code=7)
    user("map", "merge", str(tmp_path / "folder"), mine, "--force")
    assert sorted(os.listdir(tmp_path / "folder")) == [one, two]


def test_a_map_is_verified_by_narinfos_and_by_what_is_here(
    published: Published, user: User, tmp_path: Path
) -> None:
    places = [str(path) for path in published.items.values()]
    acl = ("--acl", SAMPLES / "keys" / "acl")
    servers = ("--substitute-urls", published.publisher.url, *acl)
    url = f"{published.publisher.url}/map.urn"
    found = user.out("map", "verify", url, *servers)
    assert found == "3 confirmed, 0 differs, 0 unknown"
    found = user.out("map", "verify", url, "--here", *places)
    assert found == "3 confirmed, 0 differs, 0 unknown"
    one, two, _ = sorted(published.urns)
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(f"{one} {published.urns[two]}\n{'0' * 32} {published.urns[two]}\n")
    done = user("map", "verify", str(wrong), *servers, code=5)
    assert done.stdout.decode() == f"! {one}\n0 confirmed, 1 differs, 1 unknown\n"
    assert "format" in user.error("map", "verify", str(wrong), "--here", *places, code=2)
    assert "With what" in user("map", "verify", str(wrong), code=2).stderr.decode()
