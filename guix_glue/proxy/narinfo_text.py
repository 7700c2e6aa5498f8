"""What a proxy says of an item: another server's narinfo, with one nar, which is the proxy's. Pure.

The nar is plain, since the client is near, and its URL says which it is. All else stays: what is
signed, and lines of ERIS, signed or not. A narinfo whose URLs are signed is left as it is: its nar
is where it always was.
"""

from __future__ import annotations

from guix_glue.formats.narinfo import Narinfo, NarUrl
from guix_glue.proxy.routes import nar_url
from guix_glue.sources.vouching import Vouched
from guix_glue.upstream.passing_on import has_signed_urls, own_hints, passed_on

__all__ = ["is_offered", "proxied_text"]


def is_offered(vouched: Vouched) -> bool:
    """Whether anybody names anything that the item could be got from."""
    return any(
        map(_names_a_source, (vouched.narinfo, *(one.narinfo for one in vouched.candidates)))
    )


def proxied_text(narinfo: Narinfo) -> bytes:
    """The narinfo for clients of the proxy."""
    if has_signed_urls(narinfo):
        return narinfo.text.encode()
    item = narinfo.item
    hint, deltas = own_hints(narinfo)
    url = NarUrl(nar_url(item), "none", item.nar_size)
    return passed_on(narinfo, [url], hint=hint, hint_deltas=deltas)


def _names_a_source(narinfo: Narinfo) -> bool:
    hints = (narinfo.signed_urn, narinfo.hint_urn, narinfo.signed_deltas, narinfo.hint_deltas)
    return bool(narinfo.urls) or any(hints)
