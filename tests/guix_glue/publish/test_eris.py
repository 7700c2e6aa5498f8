"""URNs in narinfos: computed only, or with the blocks in a real daemon; never a reason to wait.

Of packed trees unless told otherwise.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import traceback
from pathlib import Path

import pytest

from eris.store import MemoryStore, NullStore
from guix_glue.publish.model import ErisTarget
from guix_glue.publish.tree_formats import PackedTrees, StandardTrees, TreeFormat
from guix_glue.publish.trees import EncodeTree
from guix_glue.trust.signature import verify_narinfo
from tests.descriptors import descriptors, left_open
from tests.guix_glue.publish.support import ACL, KEYS, make_item, nar_of, publishing
from tests.integration.commands import Kapla
from tests.integration.daemon import running_daemon, wait_until


def some_items(tmp_path: Path) -> Path:
    items = tmp_path / "items"
    items.mkdir()
    make_item(items, "file").write_bytes(b"content\n" * 10_000)
    make_item(items, "link").symlink_to("file")
    tree = make_item(items, "tree")
    tree.mkdir()
    (tree / "empty").mkdir()
    for n in range(20):
        (tree / f"{n}").write_bytes(b"%d\n" % n * 5000)
    return items


def requests(kapla: Kapla) -> int:
    """How many blocks were put into the store so far."""
    return int(json.loads(kapla.out("stat", "--json"))["requests"]["put"])


@pytest.mark.parametrize("trees", ["packed", "standard"])
def test_the_blocks_of_every_item_are_in_the_store(trees: str, tmp_path: Path) -> None:
    items = some_items(tmp_path)
    with running_daemon(tmp_path) as daemon:
        kapla = Kapla(tmp_path, daemon.url)
        eris = (f"--eris={daemon.url}", "--eris-format", trees)
        with publishing(tmp_path, "--items", items, *KEYS, *eris) as publisher:
            for name in ("file", "link", "tree"):
                answer = publisher.baked(make_item(items, name), urn=True)
                narinfo = answer.narinfo()
                verify_narinfo(narinfo, ACL)
                assert "ERIS" in narinfo.signed_fields
                assert narinfo.signed_urn is not None
                order = [line.partition(":")[0] for line in narinfo.text.splitlines()]
                assert order[2:5] == ["NarSize", "ERIS", "References"]
                kapla("decode", narinfo.signed_urn, tmp_path / name)
                assert nar_of(tmp_path / name) == nar_of(make_item(items, name))
                assert narinfo.signed_urn not in publisher.log
            # The same again, after a restart, puts nothing.
            puts = requests(kapla)
            publisher.stop()
            publisher.start()
            assert publisher.narinfo(make_item(items, "tree")) == answer
            assert requests(kapla) == puts


def test_the_urn_alone_is_that_of_the_store(tmp_path: Path) -> None:
    items = some_items(tmp_path)
    tree = make_item(items, "tree")
    with publishing(tmp_path, "--items", items, *KEYS, "--eris") as publisher:
        urn = publisher.baked(tree, urn=True).narinfo().signed_urn
    with running_daemon(tmp_path) as daemon:
        kapla = Kapla(tmp_path, daemon.url)
        # Now a store is named: the URN is known, but the blocks are not there yet.
        with publishing(tmp_path, "--items", items, *KEYS, f"--eris={daemon.url}") as publisher:
            assert publisher.narinfo(tree).narinfo().signed_urn is None
            assert publisher.baked(tree, urn=True).narinfo().signed_urn == urn
        assert urn == kapla.out("encode", "--packed", "--level", "19", tree)


def test_a_store_that_is_not_there_delays_nothing(tmp_path: Path) -> None:
    items = some_items(tmp_path)
    tree = make_item(items, "tree")
    socket = tmp_path / "s"
    arguments = ("--items", items, *KEYS, f"--eris=coap+unix://{socket}")
    with publishing(tmp_path, *arguments, "--ttl", "1d") as publisher:
        answer = publisher.baked(tree, urn=False)
        assert answer.max_age == 300
        assert [url.compression for url in answer.narinfo().urls] == ["gzip"]
        publisher.wait_for_log("has no URN for now: the store cannot be reached: there is no such")
        # Once, not for each item.
        for name in ("file", "link"):
            publisher.baked(make_item(items, name), urn=False)
        assert publisher.log.count("no URN for now") == 1
        assert str(socket) not in publisher.log


def test_another_format_or_level_is_encoded_again(tmp_path: Path) -> None:
    items = some_items(tmp_path)
    tree = make_item(items, "tree")
    urns = []
    with running_daemon(tmp_path) as daemon:
        kapla = Kapla(tmp_path, daemon.url)
        arguments = ("--items", items, *KEYS, f"--eris={daemon.url}", "--ttl", "1d")
        for more, how in (
            (["--eris-format=standard"], []),
            ([], ["--packed", "--level=19"]),
            (["--eris-level=3"], ["--packed", "--level=3"]),
            (["--eris-format=standard"], []),
        ):
            with publishing(tmp_path, *arguments, *more) as publisher:
                # What is known is a URN of the other kind, which is not published.
                first = publisher.narinfo(tree)
                assert first.narinfo().signed_urn is None
                assert first.max_age == 300
                answer = publisher.baked(tree, urn=True)
                assert answer.max_age == 86_400
                urns.append(answer.narinfo().signed_urn)
            assert urns[-1] == kapla.out("encode", "--no-cache", *how, tree)
    assert len(set(urns)) == 3


def test_packs_that_the_store_has_are_not_put_again(tmp_path: Path) -> None:
    items = some_items(tmp_path)
    first, second = make_item(items, "first"), make_item(items, "second")
    for item in (first, second):
        item.mkdir()
        (item / "large").write_bytes(random.Random(0).randbytes(300_000))
    (second / "one").write_bytes(b"1")
    with running_daemon(tmp_path) as daemon:
        kapla = Kapla(tmp_path, daemon.url)
        arguments = ("--items", items, *KEYS, f"--eris={daemon.url}")
        with publishing(tmp_path, *arguments) as publisher:
            publisher.baked(first, urn=True)
            before = requests(kapla)
            assert before > 9
            publisher.baked(second, urn=True)
            # The index and the pack of small files.
            assert requests(kapla) - before <= 4


def test_a_name_that_is_not_utf8_has_a_urn_in_packed_trees(tmp_path: Path) -> None:
    items = some_items(tmp_path)
    tree = make_item(items, "tree")
    (Path(os.fsdecode(os.fsencode(tree) + b"/\xff"))).write_bytes(b"x")
    with publishing(tmp_path, "--items", items, *KEYS, "--eris") as publisher:
        assert publisher.baked(tree, urn=True).narinfo().signed_urn is not None


def test_a_name_that_is_not_utf8_has_no_urn_in_standard_trees(tmp_path: Path) -> None:
    items = some_items(tmp_path)
    tree = make_item(items, "tree")
    (Path(os.fsdecode(os.fsencode(tree) + b"/\xff"))).write_bytes(b"x")
    eris = ("--eris", "--eris-format", "standard")
    with publishing(tmp_path, "--items", items, *KEYS, *eris, "--ttl", "1d") as publisher:
        publisher.baked(tree)
        wait_until(lambda: publisher.narinfo(tree).max_age == 86_400, "the end of baking")
        answer = publisher.narinfo(tree)
        assert answer.narinfo().signed_urn is None
        nar = publisher.request(f"/nar/{tree.name}").body
        assert nar == nar_of(tree)
        assert "not UTF-8" in publisher.log


def threads_at_work() -> int:
    """How many other threads are in code that encodes."""
    at_work = 0
    for thread, frame in sys._current_frames().items():
        if thread != threading.get_ident():
            files = {found.f_code.co_filename for found, _ in traceback.walk_stack(frame)}
            at_work += any("/eris_fs/" in file for file in files)
    return at_work


@pytest.mark.parametrize("trees", [PackedTrees(19), StandardTrees()])
def test_cancelled_encoding_leaves_no_thread_at_work(trees: TreeFormat, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(4):
        (tree / f"{number}").write_bytes(random.Random(number).randbytes(3_000_000))

    async def main() -> None:
        begun = asyncio.Event()

        class Store(NullStore):
            async def put(self, *block: object) -> None:
                begun.set()
                await asyncio.Event().wait()

        encode = EncodeTree(ErisTarget(Store(), "one", trees))
        before = descriptors()
        job = asyncio.create_task(encode(str(tree), "tree"))
        await begun.wait()
        # More is read and encoded ahead of a store that does not answer.
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert threads_at_work() == 0
        assert not left_open(before)
        assert len(asyncio.all_tasks()) == 1

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() == before


def test_formats_are_told_apart() -> None:
    formats: list[TreeFormat] = [StandardTrees(), PackedTrees(1), PackedTrees(19)]
    assert len({trees.name for trees in formats}) == 3
    assert len({trees.variant for trees in formats}) == 3
    assert PackedTrees() == PackedTrees(19)
    assert ErisTarget(MemoryStore(), None, PackedTrees()).destination.store_id is None
