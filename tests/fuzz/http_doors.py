"""What the doors by HTTP read of strangers: targets, and headers."""

from __future__ import annotations

from kapla.http.admin.asking import is_of_this_machine, names_of, was_asked_by_a_page
from kapla.http.door.headers import names_tag, of_block, tag_of
from kapla.http.door.routes import BlockOf, Malformed, NoPath, methods_of, parse_target
from kapla.http.settings import parse_admin, parse_http
from kapla.http.wire.cid import format_cid
from kapla.http.wire.n2r import format_n2r

__all__ = ["http_places", "http_targets"]


def http_targets(data: bytes) -> None:
    """A target and a header, as aiohttp hands them on."""
    target, _, header = data.decode("utf-8", "surrogateescape").partition("\n")
    try:
        route = parse_target(target, header)
    except (Malformed, NoPath) as error:
        assert "\n" not in str(error)
        return
    assert route.methods == methods_of(target)
    if isinstance(route, BlockOf):
        assert all("\n" not in value and "\r" not in value for value in of_block(route).values())
        names_tag(header, tag_of(route))
        assert parse_target(format_n2r(route.reference)) == BlockOf(route.reference)
        cid = format_cid(route.reference)
        assert parse_target(f"/ipfs/{cid}?format=raw") == BlockOf(route.reference, cid)


def http_places(data: bytes) -> None:
    """Settings, and who may ask there."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_http, parse_admin):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)
    names = names_of("127.0.0.1", 9080)
    if is_of_this_machine([text], names):
        assert text.strip().lower() in names
    was_asked_by_a_page(text, text, text)
