"""From a request to a reply. No socket: the shell around it sends what comes out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, assert_never

from guix_glue.errors import StillHashing
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.pages import cache_info, landing_page
from guix_glue.publish.published_map import PublishedMap
from guix_glue.publish.routes import (
    BuildLog,
    CacheInfo,
    FixedFile,
    Landing,
    ListingOf,
    MapOf,
    MapUrn,
    NarinfoOf,
    NarOf,
    Route,
    SigningKey,
    parse_path,
)
from guix_glue.publish.source import Source
from guix_glue.serving.answering import Frame, text_reply
from guix_glue.serving.reply import HTML_TYPE, TEXT_TYPE, Reply, Request

__all__ = ["Site"]

_log = logging.getLogger(__name__)

_HASHING_AGE_S: Final = 10
"""How long it may not be known whether there is something; told no age, clients wait longer."""


class Site:
    """Answers requests out of a source."""

    def __init__(
        self,
        source: Source,
        options: PublishOptions,
        *,
        public_key: bytes | None,
        eris: bool,
        mirror: bool = False,
        nix_key: str | None = None,
        published_map: PublishedMap | None = None,
    ) -> None:
        """`public_key` is what /signing-key.pub gives, `nix_key` what `nix.conf` is to name."""
        self._source = source
        self._map = published_map
        self._options = options
        self._public_key = public_key
        self._frame = Frame(_log)
        is_of_guix = nix_key is None or public_key != f"{nix_key}\n".encode()
        self._landing = landing_page(
            options.store_dir,
            public_key if is_of_guix else None,
            nix_key,
            for_guix=mirror or (is_of_guix and public_key is not None) or not options.for_nix,
            for_nix=options.for_nix,
            eris=eris,
            mirror=mirror,
        )
        self._cache_info = cache_info(
            options.store_dir, mass_query=options.mass_query, priority=options.priority
        )

    async def answer(self, request: Request) -> Reply:
        """The reply to a request, whatever it is. Never raises but for a cancellation."""
        refused = self._frame.refused(request)
        if refused is not None:
            return refused
        route = parse_path(request.path, self._options.nar_path)
        reply = None if route is None else await self._frame.answered(self._told(request, route))
        return self._not_found(request.path, route) if reply is None else reply

    def expect(self, paths: Sequence[str]) -> None:
        """Requests for these paths have come in, and will be answered one by one."""
        routes = (parse_path(path, self._options.nar_path) for path in paths)
        self._source.expect([route.hash_part for route in routes if isinstance(route, NarinfoOf)])

    async def _told(self, request: Request, route: Route) -> Reply | None:
        try:
            return await self._answer(route)
        except StillHashing:
            return text_reply(404, f"Not known yet: {request.path}", _HASHING_AGE_S)

    async def _answer(self, route: Route) -> Reply | None:
        match route:
            case NarinfoOf(hash_part):
                return await self._source.narinfo(hash_part)
            case ListingOf(hash_part):
                return await self._source.listing(hash_part)
            case NarOf(base_name, method):
                return await self._source.nar(base_name, method)
            case FixedFile(name, sha256):
                return await self._source.fixed_file(name, sha256)
            case BuildLog(base_name):
                return await self._source.build_log(base_name)
            case CacheInfo():
                return Reply(200, TEXT_TYPE, self._cache_info)
            case SigningKey():
                key = self._public_key
                return None if key is None else Reply(200, TEXT_TYPE, key)
            case MapOf(hash_part):
                return self._urn(await self._source.urn(hash_part))
            case MapUrn():
                return self._urn(None if self._map is None else self._map.urn)
            case Landing():
                return Reply(200, HTML_TYPE, self._landing)
        assert_never(route)

    def _urn(self, urn: str | None) -> Reply | None:
        age_s = self._options.unbaked_age_s
        return None if urn is None else Reply(200, TEXT_TYPE, f"{urn}\n".encode(), age_s)

    def _not_found(self, path: str, route: Route | None) -> Reply:
        age_s = None
        if isinstance(route, NarinfoOf | ListingOf):
            age_s = self._options.negative_ttl_s
        elif isinstance(route, NarOf | MapOf | MapUrn):
            # It may only not be baked yet.
            age_s = self._options.unbaked_age_s
        return text_reply(404, f"Resource not found: {path}", age_s)
