"""Puts a seed together out of its settings: index, trees, who is asked, and the daemon."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Final

import click

from eris.threads import settle
from guix_glue.cli.seed_settings import SeedSettings, StoreOfItems
from guix_glue.cli.seed_store import SeedStore
from guix_glue.kept.directory import make_open_directory, make_private_directory
from guix_glue.local.authorities import read_authorities
from guix_glue.local.niceness import be_idle
from guix_glue.local.store_db import GUIX_LAYOUT, NIX_LAYOUT, StoreDatabase
from guix_glue.seed.asking import Asking, Known
from guix_glue.seed.consent import Consent, Verdict
from guix_glue.seed.errors import SeedError
from guix_glue.seed.index import SeedIndex
from guix_glue.seed.lending import Lending
from guix_glue.seed.packed_items import PackedItems
from guix_glue.seed.roots import PinnedRoots, roots_directory
from guix_glue.seed.seeder import Seeder
from guix_glue.seed.trees import DirectoryTrees, StoreTrees, Trees, has_log
from guix_glue.servers.proxies import Proxies
from guix_glue.serving.privileges import drop_privileges, find_user
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.servers import Upstream
from kapla import __version__
from kapla.client import default_store_urls
from kapla.seeding import SeedRefused, stay_connected
from kapla.service_manager import ServiceManager
from kapla.stopping import stop_event
from kapla.urls import StoreUrl, UnixEndpoint

__all__ = ["daemon_url", "explain", "prepare", "seed"]

_log = logging.getLogger(__name__)

# Two may wait for a pack, and others for less.
_SLOW_THREADS: Final = 4


def daemon_url(given: str | None) -> StoreUrl:
    """The daemon to give blocks to. Raises: InvalidUrl; SeedRefused, if it is no socket."""
    urls = [url for url in default_store_urls(given) if isinstance(url.endpoint, UnixEndpoint)]
    if not urls:
        raise SeedRefused(
            "a seed gives blocks to a daemon of this machine, as coap+unix:///run/eris.sock:"
            " --eris-store-url names it"
        )
    return urls[0]


def prepare(settings: SeedSettings) -> Authorities:
    """Read whose signatures count, make the directories, and become who is to run.

    Raises: PublishError; SeedError; click.UsageError.
    """
    become = None if settings.user is None else find_user(settings.user)
    # Which keys Guix trusts may be for root alone to read.
    authorized = _authorized(settings)
    owner = None if become is None else (become.pw_uid, become.pw_gid)
    try:
        make_private_directory(settings.index, owner)
        if owner is not None and settings.pin and settings.store is not None:
            make_open_directory(roots_directory(settings.store.state_dir), owner)
    except OSError as error:
        raise SeedError(f"cannot use {error.filename}: {error.strerror}") from error
    if become is not None:
        drop_privileges(become)
    return authorized


def explain(settings: SeedSettings, item: str) -> Verdict:
    """Why an item is given away, or not. Raises: GuixError."""
    if settings.store is None:
        raise click.UsageError("--explain is for the items of a store: add --store.")
    path = item.rstrip("/")
    if "/" not in path:
        path = f"{settings.store.store_dir}/{path}"
    known = _known(settings, _authorized(settings))
    return _store_trees(settings, settings.store, known).explain(path)


async def seed(settings: SeedSettings, authorized: Authorities, url: StoreUrl | None) -> bool:
    """Seed until a signal comes; without a URL only the index is brought up to date.

    `authorized`: whose signatures count.
    Returns whether that was done without failures. Raises: GuixError; SeedRefused.
    """
    async with AsyncExitStack() as stack:
        index = SeedIndex(settings.index)
        stack.callback(index.close)
        idle = ThreadPoolExecutor(1, "kapla-seed-index", initializer=be_idle)
        stack.callback(idle.shutdown)
        known = _known(settings, authorized)
        if settings.upstream:
            known.forget_others()
        sources: list[Trees] = []
        asking = None
        if settings.store is not None:
            sources.append(_store_trees(settings, settings.store, known))
            if settings.upstream:
                upstream = Upstream(
                    settings.upstream,
                    authorized,
                    settings.store.store_dir,
                    Proxies.from_environ(os.environ),
                )
                stack.push_async_callback(upstream.close)
                asking = Asking(upstream, known)
        if settings.directories:
            sources.append(DirectoryTrees(settings.directories))
        roots = None
        if settings.pin and settings.store is not None:
            roots = PinnedRoots(settings.store.state_dir, settings.store.store_dir)
        packed = lending = None
        if url is not None and settings.store is not None:
            store = SeedStore(url)
            stack.push_async_callback(store.close)
            packed, lending = PackedItems(index, store, known.urns), Lending(store)
        seeder = Seeder(index, sources, idle, asking, roots=roots, packed=packed, lending=lending)
        stack.callback(seeder.close)
        if url is None:
            return await seeder.once()
        workers = ThreadPoolExecutor(settings.threads, "kapla-seed")
        stack.callback(workers.shutdown)
        slow = ThreadPoolExecutor(_SLOW_THREADS, "kapla-seed-slow")
        # What was begun ends; all that waits would keep us for minutes.
        stack.callback(slow.shutdown, cancel_futures=True)
        _log.info("kapla seed %s: index %s", __version__, settings.index)

        async def connect() -> None:
            # Whoever asked before would be told that nothing is here.
            await seeder.has_looked.wait()
            await stay_connected(
                url,
                seeder.maker,
                workers,
                slow,
                at_once=settings.threads,
                on_change=seeder.set_connected,
            )

        await _serve(seeder, connect())
        return True


async def _serve(seeder: Seeder, connected: Coroutine[Any, Any, None]) -> None:
    """Give blocks until a signal comes, or what does it fails. Raises: SeedRefused."""
    stopping = stop_event()
    service_manager = ServiceManager()
    tasks = [
        asyncio.create_task(seeder.run()),
        asyncio.create_task(connected),
        asyncio.create_task(_wait_for(stopping)),
    ]
    service_manager.ready()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        service_manager.stopping()
        for task in tasks:
            task.cancel()
        await settle(*tasks)
    for task in done:
        task.result()


async def _wait_for(stopping: asyncio.Event) -> None:
    await stopping.wait()
    _log.info("Stopping")


def _authorized(settings: SeedSettings) -> Authorities:
    """Whose signatures count, if servers are asked. Raises: PublishError; click.UsageError."""
    if not settings.upstream:
        return Authorities()
    authorized = read_authorities(settings.acl, (), os.environ)
    if not authorized.has_keys:
        # Else nothing would be public, whatever they say.
        raise click.UsageError(
            f"{settings.acl} authorizes no key, so that nothing --upstream says could be believed:"
            " --acl names another list."
        )
    return authorized


def _known(settings: SeedSettings, authorized: Authorities) -> Known:
    """What is known of items; that one is not public is what these very servers and keys say."""
    keys = [*authorized.acl.keys, *authorized.nix_keys]
    who = [*sorted(server.url for server in settings.upstream), *sorted(map(repr, keys))]
    asked = hashlib.sha256("\n".join(who).encode()).hexdigest()[:12] if who else ""
    return Known(settings.public_items, settings.index, asked)


def _store_trees(settings: SeedSettings, store: StoreOfItems, known: Known) -> StoreTrees:
    layout = NIX_LAYOUT if store.is_nix else GUIX_LAYOUT
    database = StoreDatabase(store.database_dir, store.store_dir, layout)
    consent = Consent(
        settings.deny, settings.allow, has_log(store.log_dir), bool(settings.upstream)
    )
    return StoreTrees(database, store.store_dir, consent, known)
