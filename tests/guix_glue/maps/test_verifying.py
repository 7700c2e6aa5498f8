"""A map compared with what a witness says, and with signed narinfos."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from guix_glue.formats.item_map import entry_of
from guix_glue.maps.verifying import Judged, Verdict, judge_all, signed_urn
from guix_glue.servers.url import parse_server
from guix_glue.trust.acl import Acl
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.servers import Upstream
from tests.guix_glue.fetch.fakes import running_server
from tests.guix_glue.fetch.support import SAMPLES, STORE, make_item, narinfo_of, plain_url
from tests.guix_glue.maps.entries import a_urn, hash_parts

ACL = Acl.parse((SAMPLES / "keys/acl").read_bytes())


def test_verdicts() -> None:
    same, other, unknown = hash_parts(3)
    said = {same: a_urn(1), other: a_urn(9)}

    async def witness(hash_part: str) -> str | None:
        return said.get(hash_part)

    async def run() -> list[Judged]:
        entries = [entry_of(same, a_urn(1)), entry_of(other, a_urn(2)), entry_of(unknown, a_urn(3))]
        return [judged async for judged in judge_all(entries, witness)]

    assert {one.hash_part: one.verdict for one in asyncio.run(run())} == {
        same: Verdict.CONFIRMED,
        other: Verdict.DIFFERS,
        unknown: Verdict.UNKNOWN,
    }


def test_only_what_is_signed_counts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    signed, hinted, unsigned = (make_item(tmp_path / "file", f"{one}-app") for one in hash_parts(3))

    async def ask(url: str) -> list[str | None]:
        upstream = Upstream([parse_server(url)], Authorities(ACL), STORE)
        witness = signed_urn(upstream)
        try:
            return [await witness(one) for one in [*hash_parts(3), "0" * 32]]
        finally:
            await upstream.close()

    with running_server() as server:
        for made, text in (
            (signed, narinfo_of(signed, [plain_url(signed)], urn=a_urn(1))),
            (hinted, narinfo_of(hinted, [plain_url(hinted)], hint=a_urn(2))),
            (unsigned, narinfo_of(unsigned, [plain_url(unsigned)], urn=a_urn(3), key=None)),
        ):
            server.files[f"/{made.item.hash_part}.narinfo"] = text
        assert asyncio.run(ask(server.url)) == [a_urn(1), None, None, None]


def test_whoever_stops_early_leaves_nothing_behind() -> None:
    async def run() -> None:
        cancelled = 0

        async def witness(hash_part: str) -> str | None:
            nonlocal cancelled
            if hash_part == hash_parts(1)[0]:
                return None
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
                raise
            return None

        entries = [entry_of(one, a_urn()) for one in hash_parts(5)]
        async with aclosing(judge_all(entries, witness)) as found:
            async for judged in found:
                assert judged.verdict is Verdict.UNKNOWN
                break
        assert cancelled == 4

    asyncio.run(run())


def test_what_a_witness_raises_is_raised() -> None:
    async def witness(hash_part: str) -> str | None:
        raise OSError("ill")

    async def run() -> None:
        async for _ in judge_all([entry_of("0" * 32, a_urn())], witness):
            pass

    with pytest.raises(OSError, match="ill"):
        asyncio.run(run())
