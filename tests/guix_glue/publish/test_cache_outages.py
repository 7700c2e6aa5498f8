"""The cache directory goes, is full, or cannot be written to, while a publisher runs.

Plain nars are served all the time, the log says what is wrong, once, and all is as it was when
somebody has mended it.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.guix_glue.fetch.fakes import running_server
from tests.guix_glue.fetch.support import make_item as make_fetched
from tests.guix_glue.fetch.support import narinfo_of, plain_url
from tests.guix_glue.publish.support import (
    KEYS,
    SAMPLES,
    Publisher,
    make_item,
    nar_of,
    nothing_half_made,
    publishing,
    wait_until,
)
from tests.guix_glue.publish.test_command import refused
from tests.integration.daemon import running_daemon
from tests.integration.users import as_a_user

TRUST = ("--acl", SAMPLES / "keys" / "acl")


@pytest.fixture
def items(tmp_path: Path) -> Path:
    directory = tmp_path / "items"
    directory.mkdir()
    for name in ("one", "two", "three"):
        make_item(directory, name).write_bytes(name.encode() * 1000)
    return directory


def is_baked(publisher: Publisher, item: Path) -> bool:
    """Whether the narinfo has a compressed nar, and that is there."""
    urls = publisher.narinfo(item).narinfo().urls
    return urls[0].compression == "gzip" and publisher.request(f"/{urls[0].url}").status == 200


def remove_all(cache: Path) -> None:
    shutil.rmtree(cache)


def remove_tmp(cache: Path) -> None:
    shutil.rmtree(cache / "v1" / "tmp")


def remove_items(cache: Path) -> None:
    shutil.rmtree(cache / "v1" / "items")


@pytest.mark.parametrize("remove", [remove_all, remove_tmp, remove_items], ids=lambda f: f.__name__)
def test_what_is_removed_is_made_again(
    items: Path, tmp_path: Path, remove: Callable[[Path], None]
) -> None:
    one, two = make_item(items, "one"), make_item(items, "two")
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        wait_until(lambda: is_baked(publisher, one), "an item to be baked")
        remove(tmp_path / "cache")
        assert publisher.request(f"/nar/{two.name}").body == nar_of(two)
        # Nothing is promised that is not there.
        for url in publisher.narinfo(one).narinfo().urls:
            assert publisher.request(f"/{url.url}").status == 200
        wait_until(lambda: all(is_baked(publisher, item) for item in (two, one)), "baking")
        assert "cannot be used" not in publisher.log


def test_what_is_made_again_is_kept_and_for_one_server_alone(items: Path, tmp_path: Path) -> None:
    one = make_item(items, "one")
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        remove_all(tmp_path / "cache")
        wait_until(lambda: is_baked(publisher, one), "an item to be baked")
        # It is still for one server alone.
        arguments = ("--items", items, *KEYS, "--cache", tmp_path / "cache", "--port", "0")
        assert "another server is using it" in refused(*arguments)
        assert publisher.stop() == 0
        publisher.start()
        assert is_baked(publisher, one)


def test_items_still_get_into_the_store(items: Path, tmp_path: Path) -> None:
    one, two = make_item(items, "one"), make_item(items, "two")
    with running_daemon(tmp_path) as daemon:
        arguments = ("--items", items, *KEYS, f"--eris={daemon.url}")
        with publishing(tmp_path, *arguments) as publisher:
            publisher.baked(one, urn=True)
            # With what spares encoding again.
            remove_all(tmp_path / "cache")
            for item in (one, two):
                publisher.baked(item, urn=True)
            assert "Not baked" not in publisher.log


def test_something_else_in_its_place_is_left_and_said_once(items: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with publishing(tmp_path, "--items", items, *KEYS) as publisher:
        remove_all(cache)
        cache.write_bytes(b"somebody's")
        for name in ("one", "two", "three"):
            item = make_item(items, name)
            assert publisher.narinfo(item).narinfo().urls[0].compression == "none"
            assert publisher.request(f"/nar/{item.name}").body == nar_of(item)
        publisher.wait_for_log("cannot be used: Not a directory")
        assert cache.read_bytes() == b"somebody's"
        cache.unlink()
        for name in ("one", "two", "three"):
            wait_until(partial(is_baked, publisher, make_item(items, name)), "mending")
        assert publisher.log.count("cannot be used:") == 1
        assert publisher.log.count("can be used again") == 1


def test_a_right_that_is_lost_and_given_back(items: Path, tmp_path: Path) -> None:
    item = make_item(items, "one")
    (tmp_path / "cache").mkdir()
    with publishing(tmp_path, "--items", items, *KEYS, prefix=as_a_user()) as publisher:
        layout = tmp_path / "cache" / "v1"
        for path in (layout / "tmp", layout / "items"):
            path.chmod(0o500)
        assert publisher.narinfo(item).status == 200
        publisher.wait_for_log("cannot be used: Permission denied")
        assert publisher.request(f"/nar/{item.name}").body == nar_of(item)
        for path in (layout / "tmp", layout / "items"):
            path.chmod(0o700)
        wait_until(lambda: is_baked(publisher, item), "mending")
        assert publisher.log.count("cannot be used:") == 1


def test_a_full_disk_is_told_with_the_item_and_stops_no_other(
    items: Path, tmp_path: Path, tiny_disk: Path
) -> None:
    large = make_item(items, "large")
    large.write_bytes(random.Random(0).randbytes(1_000_000))
    small = make_item(items, "one")
    with publishing(tmp_path, "--items", items, *KEYS, "--workers", "1") as publisher:
        assert publisher.narinfo(large).status == 200
        text = f"Not baked: /gnu/store/{large.name}: the cache {tiny_disk} is full"
        publisher.wait_for_log(text)
        wait_until(lambda: is_baked(publisher, small), "a smaller one to be baked")
        nothing_half_made(tiny_disk)
        subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
        wait_until(lambda: is_baked(publisher, large), "it to be baked when there is room")
        assert publisher.log.count("Not baked") == 1


def test_a_part_on_another_file_system(items: Path, tmp_path: Path, tiny_disk: Path) -> None:
    # Mounted over `items` only, as somebody may do who wants the nars elsewhere.
    subprocess.run(["umount", str(tiny_disk)], check=True)
    part = tiny_disk / "v1" / "items"
    part.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "kapla-test", str(part)], check=True)
    try:
        with publishing(tmp_path, "--items", items, *KEYS) as publisher:
            wait_until(lambda: is_baked(publisher, make_item(items, "one")), "baking")
            assert "Not baked" not in publisher.log
    finally:
        subprocess.run(["umount", "--lazy", str(part)], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "kapla-test", str(tiny_disk)], check=True)


@pytest.mark.parametrize("remove", [remove_all, remove_tmp], ids=lambda f: f.__name__)
def test_a_mirror_makes_its_directory_again(tmp_path: Path, remove: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_bytes(b"content " * 1000)
    made = make_fetched(tmp_path / "file")
    path = f"/{made.item.hash_part}.narinfo"
    with running_server() as server:
        server.files[path] = narinfo_of(made, (plain_url(made),))
        server.files[f"/nar/{made.item.base_name}"] = made.nar
        arguments = (*TRUST, "--upstream", server.url, "--eris")
        with publishing(tmp_path, *arguments) as mirror:
            remove(tmp_path / "cache")
            wait_until(lambda: mirror.request(path).narinfo().hint_urn is not None, "the hint")
            assert mirror.stop() == 0
            mirror.start()
            assert mirror.request(path).narinfo().hint_urn is not None
        assert server.requests.count(path) == 1


def test_a_mirror_whose_directory_cannot_be_used_answers_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content " * 1000)
    made = make_fetched(tmp_path / "file")
    path = f"/{made.item.hash_part}.narinfo"
    with running_server() as server:
        server.files[path] = narinfo_of(made, (plain_url(made),))
        with publishing(tmp_path, *TRUST, "--upstream", server.url) as mirror:
            remove_all(tmp_path / "cache")
            (tmp_path / "cache").touch()
            for _ in range(3):
                assert mirror.request(path).status == 200
            assert mirror.log.count("not kept on disk") == 1
        assert server.requests == [path]
