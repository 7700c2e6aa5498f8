"""What a publisher bakes into a real daemon is pinned there, and lent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guix_glue.formats.store_path import hash_part_of
from tests.guix_glue.publish.support import KEYS, make_item, publishing
from tests.integration.commands import Kapla
from tests.integration.daemon import running_daemon, wait_until


def pins(kapla: Kapla) -> list[dict[str, Any]]:
    return [json.loads(line) for line in kapla.out("pins", "--json").splitlines()]


def test_an_item_that_is_baked_is_pinned_and_lent_and_again_at_the_next_start(
    tmp_path: Path,
) -> None:
    items = tmp_path / "items"
    items.mkdir()
    item = make_item(items, "file")
    item.write_bytes(b"content\n" * 10_000)
    with running_daemon(tmp_path) as daemon:
        kapla = Kapla(tmp_path, daemon.url)
        eris = f"--eris={daemon.url}"
        with publishing(tmp_path, "--items", items, *KEYS, eris) as publisher:
            publisher.baked(item, urn=True)
            (pin,) = pins(kapla)
            assert pin["name"].startswith("kapla-publish-")
            assert pin["name"].endswith(f"/{hash_part_of(item.name)}")
            assert (pin["keep"], pin["lend"], pin["missing"]) == (True, True, 0)
            publisher.stop()
            kapla("unpin", pin["name"])
            assert not pins(kapla)
            publisher.start()
            wait_until(lambda: bool(pins(kapla)), "the pin of what is baked")
            (again,) = pins(kapla)
            assert {**again, "created": 0} == {**pin, "created": 0}


def test_a_store_that_lets_us_pin_nothing_gets_one_warning(tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.mkdir()
    names = ("one", "two")
    for name in names:
        make_item(items, name).write_bytes(name.encode() * 10_000)
    with running_daemon(tmp_path, listen=["coap+tcp://127.0.0.1:0?get&put"]) as daemon:
        eris = f"--eris={daemon.tcp_url}"
        with publishing(tmp_path, "--items", items, *KEYS, eris) as publisher:
            for name in names:
                publisher.baked(make_item(items, name), urn=True)
            publisher.wait_for_log("may go when the store needs room")
            assert publisher.log.count("may go when the store needs room") == 1
        assert not pins(Kapla(tmp_path, daemon.url))
