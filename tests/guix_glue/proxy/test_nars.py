"""Nars that go through a proxy: out of blocks, and nothing wrong of them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from guix_glue.errors import FetchFailed
from guix_glue.proxy.settings import NarSettings
from tests.guix_glue.fetch.fakes import FakeServer
from tests.guix_glue.proxy.support import (
    PATIENT,
    STREAMING,
    Goods,
    Map,
    Watched,
    drain,
    flipped,
    offer,
    proxying,
    run,
    status_of,
    take,
    unreachable,
    vouch,
)


@pytest.mark.parametrize("settings", [PATIENT, STREAMING, replace(PATIENT, memory=0, spool=0)])
def test_by_the_signed_urn(
    goods: Goods, server: FakeServer, tmp_path: Path, settings: NarSettings
) -> None:
    async def main() -> None:
        async with proxying(tmp_path, goods.blocks, settings=settings) as nars:
            for urn in (goods.urn, goods.packed):
                assert await take(nars, vouch(offer(server, goods.made, urn=urn))) == goods.made.nar
            assert server.requests == []

    run(main())


def test_a_hint_is_remembered_once_it_was_right(goods: Goods, tmp_path: Path) -> None:
    async def main() -> None:
        async with proxying(tmp_path, goods.blocks) as nars:
            hinted = unreachable(goods, hint=goods.packed)
            assert await take(nars, hinted) == goods.made.nar
        # Made whole is what was not compared before: now there is no room for that.
        settings = replace(STREAMING, spool=0)
        async with proxying(tmp_path, goods.blocks, settings=settings) as nars:
            assert await take(nars, unreachable(goods)) == goods.made.nar

    run(main())


def test_by_what_a_map_knows(goods: Goods, tmp_path: Path) -> None:
    async def main() -> None:
        item = goods.made.item
        empty, known = Map(), Map(**{item.hash_part: ["urn:eris:none", goods.packed]})
        async with proxying(tmp_path, goods.blocks, hints=(empty, known)) as nars:
            assert await take(nars, unreachable(goods)) == goods.made.nar
        assert known.forgotten == []

    run(main())


def test_no_hint_is_followed_that_is_not_wanted(goods: Goods, tmp_path: Path) -> None:
    async def main() -> None:
        settings = replace(STREAMING, trust_hints=False)
        known = Map(**{goods.made.item.hash_part: [goods.packed]})
        store = Watched(goods.blocks)
        async with proxying(tmp_path, store, hints=(known,), settings=settings) as nars:
            assert (await status_of(nars, unreachable(goods, hint=goods.urn))) != 200
        assert store.asked == 0

    run(main())


# --- what is wrong ------------------------------------------------------------------------------


def test_a_wrong_hint_never_goes_out(
    goods: Goods, server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="guix_glue")

    async def main() -> None:
        hinted = vouch(offer(server, goods.made, hint=goods.other_urn))
        async with proxying(tmp_path, goods.blocks) as nars:
            assert await take(nars, hinted) == goods.made.nar
        assert len(server.requests) == 1
        # It is not even looked at again.
        store = Watched(goods.blocks)
        async with proxying(tmp_path, store) as nars:
            assert await take(nars, hinted) == goods.made.nar
        assert store.asked == 0

    run(main())
    assert "cannot be had from blocks" in caplog.text
    assert "urn:eris" not in caplog.text
    assert goods.other_urn[20:40] not in caplog.text


def test_a_map_that_names_another_item_is_told(
    goods: Goods, server: FakeServer, tmp_path: Path
) -> None:
    async def main() -> None:
        item = goods.made.item
        wrong = Map(**{item.hash_part: [goods.other_urn]})
        async with proxying(tmp_path, goods.blocks, hints=(wrong,)) as nars:
            assert await take(nars, vouch(offer(server, goods.made))) == goods.made.nar
        assert wrong.forgotten == [(item.hash_part, goods.other_urn)]

    run(main())


def test_a_signed_urn_of_another_content_is_found_out(
    goods: Goods, server: FakeServer, tmp_path: Path
) -> None:
    """It is signed, and so it goes out as it comes; but not all of it, and not a second time."""

    async def main() -> None:
        signed = vouch(offer(server, goods.made, urn=goods.other_urn))
        async with proxying(tmp_path, goods.blocks) as nars:
            with pytest.raises(FetchFailed, match="no source brings"):
                await take(nars, signed)
            assert await take(nars, signed) == goods.made.nar
        store = Watched(goods.blocks)
        async with proxying(tmp_path, store) as nars:
            assert await take(nars, signed) == goods.made.nar
        assert store.asked == 0

    run(main())


def test_of_a_small_nar_nothing_wrong_goes_out(
    goods: Goods, server: FakeServer, second: FakeServer, tmp_path: Path
) -> None:
    async def main() -> None:
        nar = goods.made.nar
        settings = replace(PATIENT, small=len(nar))
        signed = vouch(
            offer(server, goods.made, flipped(nar, 10), urn=goods.other_urn),
            offer(second, goods.made),
        )
        async with proxying(tmp_path, goods.blocks, settings=settings) as nars:
            assert await take(nars, signed) == nar
        assert len(server.requests) == len(second.requests) == 1

    run(main())


def test_what_is_no_tree_at_all(goods: Goods, server: FakeServer, tmp_path: Path) -> None:
    async def main() -> None:
        store = Watched(goods.blocks)
        # The capability of a block that is there, with another key.
        urn = goods.urn[:-52] + goods.other_urn[-52:]
        for settings in (PATIENT, STREAMING):
            signed = vouch(offer(server, goods.made, urn=urn))
            async with proxying(tmp_path, store, settings=settings) as nars:
                assert await take(nars, signed) == goods.made.nar

    run(main())


def test_a_nar_that_is_there_is_not_cut_to_a_size_that_somebody_says(
    goods: Goods, tmp_path: Path
) -> None:
    vouched = unreachable(goods, urn=goods.urn)
    narinfo = vouched.narinfo
    shorter = replace(
        narinfo, item=replace(narinfo.item, nar_size=narinfo.item.nar_size - 1), urls=()
    )

    async def main() -> None:
        settings = replace(STREAMING, small=1 << 24)
        async with proxying(tmp_path, goods.blocks, settings=settings) as nars:
            reply = await nars.reply(vouched)
            assert await nars.reply(replace(vouched, narinfo=shorter, candidates=())) is None
            assert await drain(reply) == goods.made.nar

    run(main())
