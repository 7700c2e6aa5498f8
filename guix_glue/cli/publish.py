"""`kapla publish`: the substitute server's command line."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

import click

from eris.allocator import give_back_what_is_large
from guix_glue.cli.advertising import service_of
from guix_glue.cli.eris_options import eris_options, eris_settings
from guix_glue.cli.option_types import bound_admin, parsed, parsed_servers
from guix_glue.cli.publish_keys import keys_to_sign_with
from guix_glue.cli.publish_logs import configure_log, log_options, log_settings
from guix_glue.cli.publisher import Settings, serve_items
from guix_glue.cli.served_store import store_to_serve
from guix_glue.cli.server_options import (
    acl_option,
    admin_option,
    max_connections_option,
    max_unsigned_size_option,
    nix_keys_option,
    port_option,
    user_option,
)
from guix_glue.errors import GuixError
from guix_glue.formats.compression import CompressionChoice, parse_choice
from guix_glue.kept.directory import make_cache_directory
from guix_glue.local.authorities import read_authorities
from guix_glue.local.environment import GuixEnvironment, NixEnvironment
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.narinfos import SigningKeys
from guix_glue.publish.routes import parse_nar_path
from guix_glue.servers.limits import MAX_UNSIGNED_SIZE
from guix_glue.servers.url import Server
from guix_glue.serving.descriptors import allow_descriptors
from guix_glue.serving.durations import parse_duration
from guix_glue.serving.listening import activated_sockets, bind_sockets
from guix_glue.serving.privileges import drop_privileges, find_user
from guix_glue.trust.authorities import Authorities
from guix_glue.trust.nix_keys import NixPublicKey
from kapla.cli.outcome import ExitCode
from kapla.cli.told import told
from kapla.http.serving.connections import ConnectionLimits
from kapla.sizes import parse_size

__all__ = ["command"]

_log = logging.getLogger(__name__)

_DEFAULT_CACHE: Final = Path("/var/cache/kapla/publish")
_DEFAULT_COMPRESSION: Final = "gzip:3"
_KEEP_NARS_MAX: Final = 20 * 1024**3
_NIX_STORE: Final = "/nix/store"


def _parsed_all(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[CompressionChoice, ...]:
    try:
        # A choice given twice is one.
        choices = tuple(dict.fromkeys(map(parse_choice, values)))
    except (ValueError, GuixError) as error:
        raise click.BadParameter(str(error), context, parameter) from None
    methods = [choice.method.value for choice in choices]
    for method in methods:
        if methods.count(method) > 1:
            raise click.BadParameter(
                f"{method} is given with two levels, but a nar has one URL for each method",
                context,
                parameter,
            )
    return choices


@told(
    ("Publish the items of this machine, with URNs", "kapla publish --user guix --eris"),
    (
        "Put them into a store, with deltas from up to five earlier items of each",
        "kapla publish --user guix --eris coap+unix:///run/eris.sock --deltas 5",
    ),
    ("Publish the store of Nix", "kapla publish --nix-key nix-key -C zstd:9 --eris"),
    ("Be a mirror", "kapla publish --upstream https://ci.guix.gnu.org --keep-nars"),
    exits=ExitCode,
)
@click.command(name="publish", short_help="Publish store items as substitutes, with URNs.")
@port_option(8080)
@click.option("--listen", metavar="HOST", help="Where to listen. Default: all interfaces.")
@click.option(
    "--advertise",
    is_flag=True,
    help="Announce the server on the local network, as guix publish does.",
)
@user_option
@click.option(
    "--public-key", type=click.Path(path_type=Path), help="Default: /etc/guix/signing-key.pub."
)
@click.option(
    "--private-key", type=click.Path(path_type=Path), help="Default: /etc/guix/signing-key.sec."
)
@click.option(
    "--nix-key",
    type=click.Path(path_type=Path),
    help="Sign for Nix with this secret key, beside what is signed already; for Guix only if its"
    " keys are given too.",
)
@click.option(
    "-C",
    "--compression",
    "compressions",
    metavar="METHOD[:LEVEL]",
    multiple=True,
    default=(_DEFAULT_COMPRESSION,),
    show_default=True,
    callback=_parsed_all,
    help="gzip, lzip, zstd or none; may be given several times. Level 0 is none.",
)
@click.option(
    "-c",
    "--cache",
    type=click.Path(path_type=Path),
    default=_DEFAULT_CACHE,
    show_default=True,
    help="Where what was baked is kept, for this server alone.",
)
@click.option(
    "--cache-bypass-threshold",
    metavar="SIZE",
    callback=parsed(parse_size),
    help="Offer items whose nar is smaller than SIZE, as 10M, at once, and others only once they"
    " are baked: until then they are not found. Default: all at once.",
)
@click.option(
    "--ttl",
    metavar="T",
    callback=parsed(parse_duration),
    help="How long clients may keep a narinfo, and what has left the store is kept here: a number"
    " and s, h, d, w, m or y. m are MONTHS of 30 days; there are no minutes.",
)
@click.option(
    "--negative-ttl",
    metavar="T",
    callback=parsed(parse_duration),
    help="How long clients may remember that something is not there; as --ttl.",
)
@click.option(
    "--priority",
    type=click.IntRange(0, 2**31 - 1),
    default=100,
    show_default=True,
    help="How soon Nix asks here, among other servers: the lowest first. cache.nixos.org has 40.",
)
@click.option(
    "--nar-path",
    metavar="PATH",
    default="nar",
    show_default=True,
    callback=parsed(parse_nar_path),
    help="The path below which nars are.",
)
@eris_options
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="Items that are baked at once. Default: one for each processor.",
)
@max_connections_option()
@admin_option(9081)
@log_options
@click.option(
    "--upstream",
    metavar="URL…",
    multiple=True,
    callback=parsed_servers,
    help="Be a mirror of these servers, instead of publishing what is here. A user and a password"
    " in a URL go to that server alone.",
)
@acl_option("Keys whose signatures a mirror takes")
@nix_keys_option("Keys of Nix whose signatures a mirror takes")
@max_unsigned_size_option("The largest nar that a mirror fetches")
@click.option(
    "--keep-nars",
    is_flag=True,
    help="As a mirror, pass nars on, and keep them in the cache: checked, and served when the"
    " servers are gone. Unused ones go after --ttl.",
)
@click.option(
    "--keep-nars-max",
    metavar="SIZE",
    callback=parsed(parse_size),
    help="How much to keep, as 500M or 2TiB; what was not used for longest goes first. Default:"
    " 20 GiB.",
)
@click.option(
    "--items",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Publish the items in this directory, without any Guix; items.toml in it may name their"
    " references and derivers.",
)
@click.option(
    "--store-dir",
    metavar="DIR",
    help="Which store to serve, /gnu/store or /nix/store. Default: the one that there is; of both"
    " that of Guix, or with --nix-key alone that of Nix. With --items: where these belong.",
)
@click.pass_context
def command(
    context: click.Context,
    /,
    port: int,
    listen: str | None,
    advertise: bool,
    user: str | None,
    public_key: Path | None,
    private_key: Path | None,
    nix_key: Path | None,
    acl: Path | None,
    nix_keys: tuple[NixPublicKey, ...],
    admin: str | None,
    **options: Any,
) -> None:
    """Publish store items over HTTP, as substitutes, with their ERIS URNs.

    Takes the place of guix publish, and serves the store of Nix as well. Keys are read as root,
    then --user is who serves. A narinfo lists the plain nar at once; compressed nars and the URN
    are made in the background and kept in the cache, and then listed too.
    """
    # Until it is handled: see `serve`.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    environment = GuixEnvironment.from_environ(os.environ)
    settings = _settings(
        environment,
        nix_key is not None,
        nix_key is not None and public_key is None and private_key is None,
        **options,
    )
    configure_log(settings.logs, debug=bool(context.find_root().params.get("debug")))
    become = None if user is None else find_user(user)
    keys = SigningKeys(socket.gethostname())
    authorities = Authorities()
    if nix_keys and not settings.upstream:
        raise click.UsageError("--trusted-public-keys is for --upstream.")
    if settings.upstream:
        acl = acl or Path(environment.config_dir, "acl")
        authorities = read_authorities(acl, nix_keys, os.environ)
    else:
        serves_nix = isinstance(settings.environment, NixEnvironment)
        keys = keys_to_sign_with(
            environment.config_dir, public_key, private_key, nix_key, serves_nix=serves_nix
        )
        if serves_nix and advertise:
            raise click.UsageError("--advertise tells users of Guix: the store served is Nix's.")
    sockets = activated_sockets(os.environ) or bind_sockets(listen, port)
    told_at = None if admin is None else bound_admin(admin)
    service = service_of(sockets, socket.gethostname()) if advertise else None
    if advertise and service is None:
        raise click.UsageError("--advertise: the server listens where no other machine reaches it.")
    owner = None if become is None else (become.pw_uid, become.pw_gid)
    make_cache_directory(settings.cache, owner)
    if become is not None:
        drop_privileges(become)
    elif os.geteuid() == 0:
        _log.warning("Running as root; --user names somebody with fewer rights")
    allow_descriptors(settings.connections.connections)
    give_back_what_is_large()
    # Threads that bake take turns with the event loop in less than Python's usual 5 ms.
    sys.setswitchinterval(0.0005)
    asyncio.run(serve_items(settings, keys, authorities, sockets, service, told_at))


def _settings(
    environment: GuixEnvironment,
    for_nix: bool,
    for_nix_alone: bool,
    *,
    compressions: tuple[CompressionChoice, ...],
    cache: Path,
    cache_bypass_threshold: int | None,
    ttl: int | None,
    negative_ttl: int | None,
    priority: int,
    nar_path: tuple[str, ...],
    workers: int | None,
    max_connections: int,
    upstream: tuple[Server, ...],
    max_unsigned_size: int | None,
    keep_nars: bool,
    keep_nars_max: int | None,
    items: Path | None,
    store_dir: str | None,
    eris: str | None,
    eris_format: str | None,
    eris_level: int | None,
    deltas: int | None,
    wants_map: bool | None,
    **logs: Any,
) -> Settings:
    if upstream and items is not None:
        raise click.UsageError("--upstream and --items exclude each other.")
    if max_unsigned_size is not None and not upstream:
        raise click.UsageError("--max-unsigned-size is for --upstream.")
    if cache_bypass_threshold is not None and upstream:
        raise click.UsageError("--cache-bypass-threshold is for items of this machine.")
    if keep_nars and not upstream:
        raise click.UsageError("--keep-nars is for --upstream.")
    if keep_nars_max is not None and not keep_nars:
        raise click.UsageError("--keep-nars-max is for --keep-nars.")
    of_eris = eris_settings(
        eris=eris,
        eris_format=eris_format,
        eris_level=eris_level,
        deltas=deltas,
        wants_map=wants_map,
    )
    if store_dir is not None and (not store_dir.startswith("/") or store_dir.endswith("/")):
        raise click.BadParameter("an absolute path is expected", param_hint="--store-dir")
    served: GuixEnvironment | NixEnvironment = environment
    if not upstream and items is None:
        served = store_to_serve(os.environ, store_dir, for_nix=for_nix_alone)
        store_dir = served.store_dir
    store_dir = store_dir or (_NIX_STORE if for_nix else environment.store_dir)
    for_nix = for_nix or isinstance(served, NixEnvironment)
    return Settings(
        PublishOptions(
            store_dir,
            compressions,
            nar_path=nar_path,
            ttl_s=ttl,
            negative_ttl_s=negative_ttl,
            mass_query=for_nix,
            for_nix=for_nix,
            priority=priority,
            deltas=of_eris.deltas,
            bypass_below=cache_bypass_threshold,
        ),
        served,
        cache.absolute(),
        workers or len(os.sched_getaffinity(0)),
        of_eris.store,
        of_eris.trees,
        bool(upstream) if of_eris.map is None else of_eris.map,
        items,
        upstream,
        max_unsigned_size or MAX_UNSIGNED_SIZE,
        _room(keep_nars_max) if keep_nars else None,
        ConnectionLimits(max_connections),
        log_settings(**logs),
    )


def _room(keep_nars_max: int | None) -> int:
    return _KEEP_NARS_MAX if keep_nars_max is None else keep_nars_max
