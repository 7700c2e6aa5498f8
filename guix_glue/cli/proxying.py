"""Puts a proxy together out of its settings: servers, cache, store of blocks, and the door."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from guix_glue.cli.maps import open_hints
from guix_glue.cli.publish_logs import Logs, LogSettings
from guix_glue.cli.stores import open_stores
from guix_glue.kept.directory import CacheDirectory
from guix_glue.kept.public_notes import PublicNotes
from guix_glue.local.environment import GuixEnvironment
from guix_glue.local.installed import InstalledItems
from guix_glue.local.user_caches import proxied_items_file
from guix_glue.proxy.nars import Nars
from guix_glue.proxy.noting import Noting
from guix_glue.proxy.settings import NarSettings
from guix_glue.proxy.site import Site
from guix_glue.proxy.source import Parts, ProxySource
from guix_glue.servers.limits import ABSENCE_AGE_S
from guix_glue.servers.proxies import Proxies
from guix_glue.servers.url import Server
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.listening import is_for_this_machine
from guix_glue.serving.requests import Requests
from guix_glue.serving.service import serve
from guix_glue.sources.hints import Hints
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.cache_infos import CacheInfos, OtherStore
from guix_glue.upstream.kept_narinfos import MirrorCache
from guix_glue.upstream.narinfos import MirrorNarinfos
from guix_glue.upstream.servers import Choice, Upstream
from kapla import __version__
from kapla.cli.common import CommandError, ExitCode
from kapla.http.serving.connections import ConnectionLimits

if TYPE_CHECKING:
    from kapla.cli.common import Store
    from kapla.http.admin.place import AdminPlace

__all__ = ["ProxySettings", "remarks_on", "serve_proxy"]

_log = logging.getLogger(__name__)

_THREADS: Final = 40
"""Replies wait for these; nars that are unpacked take one each."""
_NARINFO_AGE_S: Final = 3600
"""How long a narinfo is good when its server does not say: what a server says may be another soon,
and asking again costs little."""
_KEPT_S: Final = 30 * 86_400
"""How long what is out of date is kept, for when no server answers: as long as Nix remembers it."""
_NIX_DATABASE: Final = "/nix/var/nix/db"


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """All options, read and checked."""

    upstream: tuple[Server, ...]
    store_urls: tuple[str, ...] = field(repr=False)
    maps: tuple[str, ...] = field(repr=False)
    environment: GuixEnvironment
    cache: Path
    store_dir: str | None
    priority: int
    nars: NarSettings
    connections: ConnectionLimits
    logs: LogSettings


async def serve_proxy(
    settings: ProxySettings,
    authorities: Authorities,
    sockets: Sequence[socket.socket],
    admin: AdminPlace | None = None,
) -> None:
    """Serve until a signal comes. `admin`: where this machine is told how it is doing.

    Raises: CommandError, if the sockets cannot be listened at; PublishError.
    """
    count = len(settings.upstream)
    servers = "one server" if count == 1 else f"{count} servers"
    _log.info("kapla proxy %s: of %s, cache %s", __version__, servers, settings.cache)
    threads = ThreadPoolExecutor(_THREADS)
    asyncio.get_running_loop().set_default_executor(threads)
    async with AsyncExitStack() as stack:
        logs = Logs(settings.logs, stack.enter_context(ExitStack()))
        directory = CacheDirectory(settings.cache)
        stack.callback(directory.close)
        store = open_stores(
            settings.store_urls,
            lambda text: _log.warning("%s", text),
            settings.nars.eris_stall_s,
            may_come_later=True,
        )
        if store is not None:
            await stack.enter_async_context(store)
        proxies = Proxies.from_environ(os.environ)
        maps = await stack.enter_async_context(
            open_hints(settings.maps, store, proxies, lambda text: _log.warning("%s", text))
        )
        hints = () if maps is None else (maps,)
        source = _source(settings, authorities, directory, store, hints, proxies, stack)
        stack.push_async_callback(source.close)
        requests = None if admin is None else Requests(("nar",))
        server = HttpServer(Site(source), settings.connections, logs.requests, requests)
        try:
            if admin is not None and requests is not None:
                # Loaded only where somebody is to be told.
                from guix_glue.cli.proxy_facts import ProxySubject
                from guix_glue.cli.publish_admin import admin_door

                subject = ProxySubject(source, server, requests, directory.path)
                await stack.enter_async_context(admin_door(admin, subject, directory, "proxy"))
            await serve(server, source, sockets, ttl_s=_KEPT_S, on_hangup=logs.reopen)
        except OSError as error:
            raise CommandError(f"cannot listen: {error.strerror}", ExitCode.USAGE) from error


def remarks_on(authorities: Authorities, sockets: Sequence[socket.socket]) -> Iterator[str]:
    """What whoever runs a proxy may not have meant."""
    if not authorities.has_keys:
        yield (
            "No key of Guix or Nix is trusted here: of several servers the first that has an item"
            " is taken at its word, for clients to check, and no URN counts as signed. --acl and"
            " --trusted-public-keys name keys"
        )
    if not all(map(is_for_this_machine, sockets)):
        yield (
            "Other machines can reach this proxy: whoever does is served, and has it ask the"
            " servers, and the store of blocks, on their behalf"
        )


def _source(
    settings: ProxySettings,
    authorities: Authorities,
    directory: CacheDirectory,
    store: Store | None,
    hints: Sequence[Hints],
    proxies: Proxies,
    stack: AsyncExitStack,
) -> ProxySource:
    """`hints`: whoever may know URNs beside the servers."""

    def make(store_dir: str) -> Parts:
        upstream = Upstream(
            settings.upstream,
            authorities,
            store_dir,
            proxies,
            age_s=_NARINFO_AGE_S,
            choice=Choice.FASTEST,
        )
        cache = MirrorCache(directory, store_dir, upstream.believed)
        narinfos = MirrorNarinfos(
            cache, upstream, absence_age_s=ABSENCE_AGE_S, settles=True, waits_for_disk=False
        )
        installed = InstalledItems(_database_dir(settings.environment, store_dir), store_dir)
        notes = PublicNotes(proxied_items_file(str(settings.cache)))
        noting = Noting(notes, authorities)
        nars = Nars(store, upstream, directory, installed, hints, settings.nars, noting)
        return Parts(upstream, cache, narinfos, nars)

    def leave_out(other: OtherStore) -> None:
        source.leave_out(other)

    infos = CacheInfos(
        directory,
        settings.upstream,
        proxies,
        age_s=_NARINFO_AGE_S,
        store_dir=settings.store_dir,
        default_dir=settings.environment.store_dir,
        left_out=leave_out,
    )
    stack.push_async_callback(infos.close)
    source = ProxySource(infos, make, priority=settings.priority)
    return source


def _database_dir(environment: GuixEnvironment, store_dir: str) -> str:
    """Where it is told which items of a store are valid."""
    return environment.database_dir if store_dir == environment.store_dir else _NIX_DATABASE
