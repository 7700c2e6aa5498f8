"""Puts a publisher together out of its settings: source, cache, store and server."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import eris_fs
from eris.model import NULL_CONVERGENCE_SECRET
from eris.store import NullStore
from guix_glue.cli.advertising import advertised
from guix_glue.cli.item_pins import StorePins
from guix_glue.cli.publish_logs import Logs, LogSettings
from guix_glue.cli.store_failures import failure_of_store
from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.build_logs import BuildLogs
from guix_glue.local.environment import GuixEnvironment, NixEnvironment
from guix_glue.local.item_directory import DirectoryItems
from guix_glue.local.items import Items, open_nix_items, open_store_items
from guix_glue.local.known_hashes import KnownHashes
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.item_pins import MAP_KEY
from guix_glue.publish.local_source import LocalSource
from guix_glue.publish.mirror_source import MirrorSource
from guix_glue.publish.model import ErisTarget, PublishOptions
from guix_glue.publish.narinfos import NarinfoWriter, SigningKeys
from guix_glue.publish.pin_care import PinCare
from guix_glue.publish.published_map import PublishedMap
from guix_glue.publish.site import Site
from guix_glue.publish.tree_formats import TreeFormat
from guix_glue.servers.limits import NARINFO_AGE_S
from guix_glue.servers.proxies import Proxies
from guix_glue.servers.url import Server
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.requests import Requests
from guix_glue.serving.service import serve
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.servers import Upstream
from kapla import __version__
from kapla.cli.common import CommandError, ExitCode
from kapla.client import default_store_urls
from kapla.encode_cache import EncodeCache
from kapla.http.serving.connections import ConnectionLimits

if TYPE_CHECKING:
    from kapla.http.admin.place import AdminPlace
    from kapla.lan.service import Service

__all__ = ["Settings", "serve_items"]


_log = logging.getLogger(__name__)

_THREADS_TO_SERVE: Final = 32
_PREPARED_S: Final = 2.0
"""How long it may be looked what the cache has before anybody is served."""
# Reading, two packs being compressed, and a cache that is written to.
_THREADS_TO_ENCODE: Final = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """All options, read and checked; `eris` is None, empty for URNs only, or store URLs.

    `environment` is that of the store that is served. `keep_nars` is how many bytes of nars a
    mirror keeps; None if it keeps none.
    """

    publish: PublishOptions
    environment: GuixEnvironment | NixEnvironment
    cache: Path
    workers: int
    eris: str | None = field(repr=False)
    trees: TreeFormat
    map: bool
    items: Path | None
    upstream: tuple[Server, ...]
    max_unsigned_size: int
    keep_nars: int | None
    connections: ConnectionLimits
    logs: LogSettings


async def serve_items(
    settings: Settings,
    keys: SigningKeys,
    authorities: Authorities,
    sockets: list[socket.socket],
    service: Service | None = None,
    admin: AdminPlace | None = None,
) -> None:
    """Serve until a signal comes; `service` is what the local network is told of it.

    `admin`: where this machine is told how it is doing.

    Raises: CommandError, if the sockets cannot be listened at; PublishError.
    """
    _log.info("kapla publish %s: %s, cache %s", __version__, _what(settings), settings.cache)
    # Encoding takes threads for seconds: never those that replies wait for.
    threads = _THREADS_TO_SERVE + settings.workers * _THREADS_TO_ENCODE
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
    async with AsyncExitStack() as stack:
        logs = Logs(settings.logs, stack.enter_context(ExitStack()))
        directory = CacheDirectory(settings.cache)
        stack.callback(directory.close)
        eris = _eris_target(settings, directory, stack)
        source: LocalSource | MirrorSource
        if settings.upstream:
            upstream = Upstream(
                settings.upstream,
                authorities,
                settings.publish.store_dir,
                Proxies.from_environ(os.environ),
                age_s=settings.publish.ttl_s or NARINFO_AGE_S,
            )
            stack.push_async_callback(upstream.close)
            source = MirrorSource(
                directory,
                upstream,
                settings.publish,
                eris,
                workers=settings.workers,
                max_unsigned_size=settings.max_unsigned_size,
                baking_log=logs.baking,
                keep_nars=settings.keep_nars,
            )
        else:
            items = _items(settings, directory)
            stack.push_async_callback(items.close)
            source = LocalSource(
                items,
                None if settings.items else BuildLogs(settings.environment.log_dir),
                BakedCache(directory, promise_s=settings.publish.promise_s),
                NarinfoWriter(keys, for_nix=settings.publish.for_nix),
                settings.publish,
                eris,
                workers=settings.workers,
                baking_log=logs.baking,
            )
        stack.push_async_callback(source.close)
        await source.prepare(_PREPARED_S)
        await stack.enter_async_context(advertised(service))
        published_map = _map(settings, eris, source)
        if published_map is not None:
            await stack.enter_async_context(published_map.kept())
        site = Site(
            source,
            settings.publish,
            public_key=keys.public,
            eris=eris is not None,
            mirror=bool(settings.upstream),
            nix_key=None if keys.nix is None else str(keys.nix.public),
            published_map=published_map,
        )
        try:
            requests = None if admin is None else Requests(settings.publish.nar_path)
            server = HttpServer(site, settings.connections, logs.requests, requests)
            if admin is not None and requests is not None:
                await stack.enter_async_context(
                    _told_of(admin, source, server, requests, directory, eris is not None)
                )
            await serve(
                server,
                source,
                sockets,
                ttl_s=settings.publish.ttl_s,
                on_hangup=logs.reopen,
                care=_care(eris, source, published_map),
            )
        except OSError as error:
            raise CommandError(f"cannot listen: {error.strerror}", ExitCode.USAGE) from error


def _what(settings: Settings) -> str:
    """What is served; no URL, which may have a password."""
    if settings.upstream:
        count = len(settings.upstream)
        return "a mirror of one server" if count == 1 else f"a mirror of {count} servers"
    return f"items in {settings.items or settings.publish.store_dir}"


def _told_of(
    admin: AdminPlace,
    source: LocalSource | MirrorSource,
    server: HttpServer,
    requests: Requests,
    directory: CacheDirectory,
    with_urns: bool,
) -> AbstractAsyncContextManager[None]:
    """What tells this machine of the publisher: loaded only where it is to."""
    from guix_glue.cli.publish_admin import admin_door
    from guix_glue.cli.publish_facts import PublishSubject

    subject = PublishSubject(source, server, requests, directory.path, with_urns=with_urns)
    return admin_door(admin, subject, directory)


def _items(settings: Settings, directory: CacheDirectory) -> Items:
    store_dir = settings.publish.store_dir
    if settings.items is not None:
        known = KnownHashes(directory.path / "hashes", directory.write)
        items = DirectoryItems(str(settings.items), store_dir, known)
        items.begin()
        return items
    if isinstance(settings.environment, NixEnvironment):
        return open_nix_items(settings.environment)
    return open_store_items(settings.environment)


def _eris_target(
    settings: Settings, directory: CacheDirectory, stack: AsyncExitStack
) -> ErisTarget | None:
    """The store, with what spares encoding again for it; it need not be there yet."""
    if settings.eris is None:
        return None
    trees = settings.trees
    if not settings.eris:
        return ErisTarget(NullStore(), None, trees)
    cache = EncodeCache(
        directory.path / "encode.sqlite", secret=NULL_CONVERGENCE_SECRET, variant=trees.variant
    )
    stack.callback(cache.close)
    pins = StorePins(default_store_urls(settings.eris), _identity(directory))
    stack.push_async_callback(pins.close)
    return ErisTarget(
        NullStore(),
        hashlib.sha256(settings.eris.encode()).hexdigest()[:32],
        trees,
        lambda store: eris_fs.KnownContents(cache, store),
        pins,
        failure_of_store,
    )


def _identity(directory: CacheDirectory) -> str:
    """What tells this publisher from others on the same store, without saying where it is.

    One that begins anew in the same place finds the pins of the one before, and releases them.
    """
    where = f"{socket.gethostname()}\0".encode() + os.fsencode(directory.path.parent)
    return hashlib.sha256(where).hexdigest()[:8]


def _map(
    settings: Settings, eris: ErisTarget | None, source: LocalSource | MirrorSource
) -> PublishedMap | None:
    if not settings.map or eris is None or eris.pins is None:
        return None
    return PublishedMap(source, eris, eris.pins, settings.publish.store_dir)


def _care(
    eris: ErisTarget | None,
    source: LocalSource | MirrorSource,
    published_map: PublishedMap | None,
) -> PinCare | None:
    if eris is None or eris.pins is None:
        return None
    besides = frozenset() if published_map is None else frozenset({MAP_KEY})
    return PinCare(eris.pins, source, eris.explain, besides=besides)
