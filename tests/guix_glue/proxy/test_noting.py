"""What goes through a proxy by a signed narinfo of a public server is noted; nothing else is."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from eris.capability import ReadCapability
from guix_glue.kept.directory import CacheDirectory, make_open_directory
from guix_glue.kept.public_items import item_mark
from guix_glue.kept.public_notes import PublicNotes
from guix_glue.local.user_caches import PROXY_CACHE, proxied_items_file
from guix_glue.proxy.nars import Nars
from guix_glue.proxy.noting import Noting
from guix_glue.proxy.settings import NarSettings
from guix_glue.servers.url import parse_server
from guix_glue.sources.vouching import Vouched
from guix_glue.trust.acl import Acl
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.servers import Upstream
from tests.guix_glue.fetch.bringing import ACL
from tests.guix_glue.fetch.fakes import FakeServer
from tests.guix_glue.fetch.support import STORE
from tests.guix_glue.proxy.support import PATIENT, STREAMING, Goods, offer, run, take, vouch

PUBLIC = "http://cache.example.org"


def said_by(url: str, vouched: Vouched) -> Vouched:
    """The same, as if another server had said it first."""
    first = replace(vouched.candidates[0], server=parse_server(url))
    return Vouched(vouched.narinfo, (first, *vouched.candidates))


def notes_after(
    directory: Path,
    goods: Goods,
    vouched: Vouched,
    *,
    acl: Acl = ACL,
    settings: NarSettings = PATIENT,
    times: int = 1,
) -> PublicNotes:
    """What is noted once a nar was taken as often as that."""
    notes = PublicNotes(proxied_items_file(str(directory)))

    async def main() -> None:
        async with AsyncExitStack() as stack:
            upstream = Upstream((), Authorities(acl), STORE)
            stack.push_async_callback(upstream.close)
            cache = CacheDirectory(directory)
            stack.callback(cache.close)
            noting = Noting(notes, Authorities(acl))
            nars = Nars(goods.blocks, upstream, cache, settings=settings, noting=noting)
            stack.push_async_callback(nars.close)
            for _ in range(times):
                assert await take(nars, vouched) == goods.made.nar

    run(main())
    return notes


@pytest.mark.parametrize("settings", [PATIENT, STREAMING], ids=["whole", "as it comes"])
@pytest.mark.parametrize("is_signed", [True, False])
def test_with_the_urn_by_which_it_came(
    goods: Goods, server: FakeServer, tmp_path: Path, is_signed: bool, settings: NarSettings
) -> None:
    """A hint, too: what it leads to was compared with what is signed."""
    if is_signed:
        offered = offer(server, goods.made, urn=goods.packed)
    else:
        offered = offer(server, goods.made, hint=goods.packed)
    vouched = said_by(PUBLIC, vouch(offered))
    notes = notes_after(tmp_path, goods, vouched, settings=settings, times=2)
    mark = item_mark(goods.made.item.hash_part, goods.made.item.nar_hash)
    assert notes.items.read() == {mark}
    assert notes.urns.read_all() == {mark: ReadCapability.from_urn(goods.packed).to_bytes()}
    # Once, however often it was asked for.
    assert Path(proxied_items_file(str(tmp_path))).stat().st_size == len(mark)


def test_what_came_by_http_is_noted_without_a_wrong_hint(
    goods: Goods, server: FakeServer, tmp_path: Path
) -> None:
    vouched = said_by(PUBLIC, vouch(offer(server, goods.made, hint=goods.other_urn)))
    notes = notes_after(tmp_path, goods, vouched)
    assert len(notes.items.read()) == 1
    assert notes.urns.read_all() == {}


@pytest.mark.parametrize(
    "url", ["http://user:secret@cache.example.org", "http://cache.lan", "http://10.1.2.3"]
)
def test_not_what_only_some_can_have(
    goods: Goods, server: FakeServer, tmp_path: Path, url: str
) -> None:
    notes = notes_after(tmp_path, goods, said_by(url, vouch(offer(server, goods.made))))
    assert notes.items.read() == frozenset()


def test_not_what_nobody_signed_whose_word_counts(
    goods: Goods, server: FakeServer, tmp_path: Path
) -> None:
    vouched = said_by(PUBLIC, vouch(offer(server, goods.made)))
    assert notes_after(tmp_path, goods, vouched, acl=Acl()).items.read() == frozenset()


def test_others_can_read_it_and_a_seed_looks_there(tmp_path: Path) -> None:
    place = Path(proxied_items_file(str(tmp_path)))
    make_open_directory(place.parent)
    make_open_directory(place.parent)
    assert place.parent.stat().st_mode & 0o777 == 0o755
    assert proxied_items_file(PROXY_CACHE) == "/var/cache/kapla/proxy/public/items"
