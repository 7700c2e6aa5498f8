"""What becomes of an item as ERIS content is not lost while its narinfo is fetched anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from guix_glue.formats.narinfo import parse_narinfo
from guix_glue.kept.delta_results import DeltaResult
from guix_glue.kept.directory import CacheDirectory
from guix_glue.kept.records import ErisResult
from guix_glue.servers.url import parse_server
from guix_glue.serving.clients import Client
from guix_glue.upstream.kept_narinfos import MirrorCache, Mirrored
from guix_glue.upstream.narinfos import MirrorNarinfos
from guix_glue.upstream.servers import Upstream, UpstreamNarinfo
from tests.guix_glue.fetch.support import make_item, narinfo_of, plain_url

SERVER = parse_server("http://x")
BAKED = ErisResult("any", "urn:eris:A", ("one",))
DELTA = DeltaResult(f"{'0' * 32}-a", "urn:eris:B", 1)


class Raced(MirrorCache):
    """Records to which a thread writes just before another one does."""

    meanwhile: Callable[[], None] | None = None

    def keep(self, mirrored: Mirrored) -> None:
        if self.meanwhile is not None:
            self.meanwhile()
        super().keep(mirrored)


@pytest.mark.parametrize("what", ["a delta", "no tree"])
def test_what_is_noted_meanwhile_counts(what: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    made = make_item(tmp_path / "file")
    part = made.item.hash_part
    narinfo = parse_narinfo(narinfo_of(made, (plain_url(made),)), store_dir="/gnu/store")

    class Answering:
        async def narinfo(self, hash_part: str) -> UpstreamNarinfo:
            return UpstreamNarinfo(SERVER, narinfo, 1000)

    async def main(cache: Raced) -> None:
        narinfos = MirrorNarinfos(cache, cast(Upstream, Answering()), absence_age_s=1)
        try:
            found = await narinfos.find(Client(), part)
        finally:
            await narinfos.close()
        assert found is not None
        assert found == cache.find(part)
        assert found.good_until > 0
        if what == "no tree":
            assert found.eris is None
        else:
            assert found.eris is not None
            assert found.eris.deltas.results == (DELTA,)

    with closing(CacheDirectory(tmp_path / "cache")) as directory:
        cache = Raced(directory, "/gnu/store")
        cache.keep(Mirrored(SERVER, narinfo, 0.0, BAKED))
        cache.meanwhile = (
            (lambda: cache.keep_delta(part, BAKED.urn, "one", DELTA))
            if what == "a delta"
            else (lambda: cache.withdraw_urn(part))
        )
        asyncio.run(main(cache))
