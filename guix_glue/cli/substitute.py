"""`kapla substitute`: the substituter that the Guix daemon runs, as root.

One process answers the queries of one client, another brings the items of one build, so that it has
to be there quickly: what only some of them need is loaded when it is needed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import click

from eris.errors import StoreUnavailable
from eris.threads import settle
from guix_glue.cli.maps import map_option, open_hints
from guix_glue.cli.starter import tell_starter
from guix_glue.fetch.settings import DEFAULT_SETTINGS, DEFAULT_TIMEOUTS, FetchSettings, Timeouts
from kapla.cli.common import CommandError, ExitCode, run
from kapla.cli.told import told

if TYPE_CHECKING:
    from guix_glue.fetch.options import DaemonOptions
    from guix_glue.fetch.traces import Messages
    from guix_glue.kept.public_notes import PublicNotes
    from guix_glue.servers.url import Server
    from kapla.cli.common import Store

__all__ = ["command"]

_TRUST_HINTS: Final = "KAPLA_TRUST_HINTS"
_DISCOVER: Final = "KAPLA_DISCOVER_SERVERS"

Mode = Literal["query", "substitute"]


@told(
    (
        "Ask by hand which items are available",
        "echo have /gnu/store/… | kapla substitute --query --reply-fd 1",
    ),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="substitute", short_help="Fetch substitutes, for the Guix daemon.")
@click.option("--query", "mode", flag_value="query", help="Answer which items are available.")
@click.option("--substitute", "mode", flag_value="substitute", help="Bring items.")
@click.option(
    "--eris-store-url",
    "store_urls",
    metavar="URL",
    multiple=True,
    help="A store with blocks; several are tried in order. Default: $ERIS_STORE_URL, else the local"
    " daemon's socket, if it is there. none: no store, HTTP only.",
)
@click.option(
    "--substitute-urls",
    metavar="URLS",
    help="Substitute servers, separated by spaces, instead of those that the Guix daemon names.",
)
@click.option(
    "--discover/--no-discover",
    default=None,
    help="Ask servers of the local network, too: those that guix discover has found, if the Guix"
    " daemon runs it, else those that are found in a moment. Who announces one learns which items"
    " are wanted. Also: $KAPLA_DISCOVER_SERVERS=1. Default: as the Guix daemon says.",
)
@click.option(
    "--trust-hints",
    is_flag=True,
    help="Try ERIS URNs that are not signed, too. Whatever comes is compared with the signed hash."
    " Also: $KAPLA_TRUST_HINTS=1.",
)
@map_option
@click.option(
    "--eris-timeout",
    type=click.FloatRange(min=0.1),
    default=DEFAULT_SETTINGS.eris_stall_s,
    show_default=True,
    metavar="SECONDS",
    help="Give up a store that brings no block for so long, and use HTTP. Of several stores each"
    " has its share of this.",
)
@click.option(
    "--server-timeout",
    type=click.FloatRange(min=0.1),
    default=DEFAULT_TIMEOUTS.answer_s,
    show_default=True,
    metavar="SECONDS",
    help="Give up a server that answers nothing for so long when asked for narinfos. It has twice"
    " this for all answers, and as much again for each 200 items.",
)
@click.option(
    "--nar-timeout",
    type=click.FloatRange(min=0.1),
    default=DEFAULT_SETTINGS.nar_stall_s,
    show_default=True,
    metavar="SECONDS",
    help="Give up a server that sends nothing of a nar for so long.",
)
@click.option(
    "--min-rate",
    type=click.IntRange(min=0),
    default=DEFAULT_SETTINGS.min_rate,
    show_default=True,
    metavar="BYTES",
    help="Give up a store, or a server that sends a nar, if less comes in a second, on average over"
    " its time-out. 0: never for that.",
)
@click.option(
    "--max-unsigned-size",
    type=click.IntRange(min=1),
    default=DEFAULT_SETTINGS.max_unsigned_size,
    show_default=True,
    metavar="BYTES",
    help="The largest nar to take when nobody signed its size.",
)
@click.option(
    "--narinfo-cache",
    metavar="DIR",
    help="Where to keep what servers say of items, for the next process; none: nowhere. Default:"
    " $KAPLA_NARINFO_CACHE, else kapla/narinfos below $XDG_CACHE_HOME, or /var/cache for root and"
    " ~/.cache for others.",
)
@click.option(
    "--reply-fd",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="The descriptor for replies; 1, standard output, is good for trying by hand.",
)
def command(
    mode: Mode | None,
    store_urls: tuple[str, ...],
    substitute_urls: str | None,
    discover: bool | None,
    trust_hints: bool,
    maps: tuple[str, ...],
    eris_timeout: float,
    server_timeout: float,
    nar_timeout: float,
    min_rate: int,
    max_unsigned_size: int,
    narinfo_cache: str | None,
    reply_fd: int,
) -> None:
    """Fetch substitutes for the Guix daemon, out of ERIS blocks where they are, else over HTTP.

    The daemon runs this; it speaks on standard input and descriptor 4.
    """
    if mode is None:
        raise click.UsageError("one of --query and --substitute is needed")
    from guix_glue.fetch.options import parse_options

    options = parse_options(os.environ.get("_NIX_OPTIONS", ""))
    if substitute_urls is not None:
        options = options.with_urls(substitute_urls)
    settings = FetchSettings(
        eris_stall_s=eris_timeout,
        nar_stall_s=nar_timeout,
        min_rate=min_rate,
        max_unsigned_size=max_unsigned_size,
        trust_hints=trust_hints,
    )
    _check_descriptor(reply_fd)
    run(
        _run(
            mode,
            options,
            settings,
            store_urls,
            maps,
            discover,
            server_timeout,
            narinfo_cache,
            reply_fd,
        )
    )


async def _run(
    mode: Mode,
    options: DaemonOptions,
    settings: FetchSettings,
    store_urls: Sequence[str],
    maps: Sequence[str],
    discover: bool | None,
    server_timeout_s: float,
    narinfo_cache: str | None,
    reply_fd: int,
) -> None:
    from guix_glue.cli.places_and_keys import read_places
    from guix_glue.cli.stores import open_stores
    from guix_glue.fetch.lookup import Lookup
    from guix_glue.fetch.narinfo_cache import NarinfoCache
    from guix_glue.fetch.session import Policy, Session, run_session
    from guix_glue.fetch.traces import Messages
    from guix_glue.servers.proxies import Proxies

    messages = Messages(_show, extended=options.extended_trace, columns=options.terminal_columns)
    if os.environ.get("GUIX_ALLOW_UNAUTHENTICATED_SUBSTITUTES"):
        messages.warn("GUIX_ALLOW_UNAUTHENTICATED_SUBSTITUTES is ignored: signatures are checked")
    hints_wanted = _wanted(_TRUST_HINTS, "hints are not followed", messages)
    settings = replace(settings, trust_hints=settings.trust_hints or bool(hints_wanted))
    if discover is None:
        discover = _wanted(_DISCOVER, "the local network is not searched", messages)
    store = open_stores(store_urls, messages.warn, settings.eris_stall_s)
    where, acl = read_places(messages)
    policy = Policy(where.store_dir, acl, store is not None, settings)
    timeouts = Timeouts(answer_s=server_timeout_s, total_s=2 * server_timeout_s)
    proxies = Proxies.from_environ(os.environ)
    cache = _cache_directory(narinfo_cache, messages)
    servers = _servers(options, messages)
    async with AsyncExitStack() as stack:
        if discover is not False and (discover or options.discover):
            from guix_glue.cli.neighbours import with_nearby_servers

            servers = await with_nearby_servers(
                servers, options, search=bool(discover), cache=cache, messages=messages, stack=stack
            )
        lookup = Lookup(
            servers,
            messages,
            timeouts,
            proxies=proxies,
            cache=None if cache is None else NarinfoCache(cache),
            announce=mode == "query",
        )
        stack.callback(lookup.close)
        if store is not None:
            await stack.enter_async_context(store)
        session: Session
        if mode == "query":
            from guix_glue.fetch.query import QuerySession

            session = QuerySession(policy, lookup, messages)
        else:
            from guix_glue.fetch.fetcher import Fetcher
            from guix_glue.fetch.places import Places
            from guix_glue.fetch.substitution import SubstituteSession
            from guix_glue.local.installed import InstalledItems
            from kapla.origins import HERE, bytes_by_place

            _check_installed("aiohttp")
            if store is not None:
                greeting = asyncio.create_task(_greet(store))
                stack.push_async_callback(settle, greeting)
                stack.callback(greeting.cancel)
            places = None
            if store is not None:
                places = Places(partial(bytes_by_place, store.stores), HERE)
            hints = await stack.enter_async_context(open_hints(maps, store, proxies, messages.warn))
            fetcher = Fetcher(store, messages, settings, proxies, places, hints)
            stack.push_async_callback(fetcher.close)
            session = SubstituteSession(
                policy,
                lookup,
                messages,
                fetcher,
                deduplicate=options.deduplicate,
                installed=InstalledItems(where.database_dir, where.store_dir),
                public=_public_items(),
            )
        tell_starter(os.environ)
        await run_session(session, lambda data: _write_all(reply_fd, data))


async def _greet(store: Store) -> None:
    """Connect while the first narinfo is fetched: over a long link each takes a while."""
    # Whoever asks it for a block will be told.
    with suppress(StoreUnavailable):
        await store.connect()


def _check_installed(package: str) -> None:
    """What is loaded only when it is needed: without it another program had better begin."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise CommandError(f"the Python package {package} is not installed")


def _check_descriptor(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        raise CommandError(
            f"descriptor {descriptor}, for replies, is not open: the Guix daemon runs this command;"
            " to try it by hand, add --reply-fd 1",
            ExitCode.USAGE,
        ) from None


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _show(data: bytes) -> None:
    """Write a message, at once: the daemon passes on what it reads as it comes."""
    try:
        os.write(2, data)
    except OSError:
        # Nobody reads it. What we are here for is on another descriptor.
        return


def _servers(options: DaemonOptions, messages: Messages) -> list[Server]:
    from guix_glue.servers.url import InvalidServer, parse_server

    servers: dict[Server, None] = {}
    for number, url in enumerate(options.substitute_urls or (), 1):
        try:
            servers[parse_server(url)] = None
        except InvalidServer as error:
            messages.warn(f"substitute URL {number} is left out: {error}")
    if options.urls_left_out:
        messages.warn(
            f"{options.urls_left_out} more substitute URLs are left out: they are too many"
        )
    return list(servers)


def _cache_directory(given: str | None, messages: Messages) -> str | None:
    from guix_glue.fetch.narinfo_cache import narinfo_cache_directory

    try:
        return narinfo_cache_directory(given, os.environ)
    except ValueError as error:
        messages.warn(f"narinfos are not kept: {error}")
        return None


def _public_items() -> PublicNotes | None:
    """Where to note what everybody may have, for `kapla seed`."""
    from guix_glue.kept.public_notes import PublicNotes
    from guix_glue.local.user_caches import public_items_file

    file = public_items_file(os.environ)
    return None if file is None else PublicNotes(file)


def _wanted(variable: str, otherwise: str, messages: Messages) -> bool | None:
    """What the environment says. What makes no sense must not end a query: it is no."""
    said = os.environ.get(variable)
    try:
        return click.BOOL(said) if said else None
    except click.BadParameter:
        messages.warn(f"{otherwise}: {variable} is neither 1 nor 0")
        return False
