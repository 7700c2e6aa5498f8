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
from guix_glue.cli.publish_logs import configure_log, log_options, log_settings
from guix_glue.cli.publisher import Settings, serve_items
from guix_glue.errors import GuixError
from guix_glue.formats.compression import CompressionChoice, parse_choice
from guix_glue.kept.directory import make_cache_directory
from guix_glue.local.environment import GuixEnvironment
from guix_glue.publish.key_files import read_acl, read_guix_keys, read_nix_key
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.narinfos import SigningKeys
from guix_glue.publish.routes import parse_nar_path
from guix_glue.servers.limits import MAX_UNSIGNED_SIZE
from guix_glue.servers.url import Server
from guix_glue.serving.descriptors import allow_descriptors
from guix_glue.serving.durations import parse_duration
from guix_glue.serving.listening import activated_sockets, bind_sockets
from guix_glue.serving.privileges import drop_privileges, find_user
from guix_glue.trust.acl import Acl
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
    ("Be a mirror", "kapla publish --upstream https://ci.guix.gnu.org --keep-nars"),
    exits=ExitCode,
)
@click.command(name="publish", short_help="Publish store items as substitutes, with URNs.")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0 takes a free one, which the log names.",
)
@click.option("--listen", metavar="HOST", help="Where to listen. Default: all interfaces.")
@click.option(
    "--advertise",
    is_flag=True,
    help="Announce the server on the local network, as guix publish does.",
)
@click.option("-u", "--user", metavar="USER", help="Become this user once the keys are read.")
@click.option(
    "--public-key", type=click.Path(path_type=Path), help="Default: /etc/guix/signing-key.pub."
)
@click.option(
    "--private-key", type=click.Path(path_type=Path), help="Default: /etc/guix/signing-key.sec."
)
@click.option(
    "--nix-key",
    type=click.Path(path_type=Path),
    help="Sign for Nix with this secret key; for Guix only if its keys are given too. Needs"
    " --items: the store of Nix itself cannot be served yet.",
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
@click.option(
    "--max-connections",
    type=click.IntRange(min=1),
    default=ConnectionLimits().connections,
    show_default=True,
    help="Clients at once. One more takes the place of whoever takes least.",
)
@click.option(
    "--admin",
    metavar="PLACE",
    help="Tell this machine how it is doing by HTTP: a page, metrics, health. 127.0.0.1:9081, or"
    " unix:/PATH. Default: nowhere.",
)
@log_options
@click.option(
    "--upstream",
    metavar="URL…",
    multiple=True,
    callback=parsed_servers,
    help="Be a mirror of these servers, instead of publishing what is here. A user and a password"
    " in a URL go to that server alone.",
)
@click.option(
    "--acl",
    type=click.Path(path_type=Path),
    help="Keys whose signatures a mirror takes. Default: /etc/guix/acl.",
)
@click.option(
    "--max-unsigned-size",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="The largest nar that a mirror fetches when nobody signed its size. Default: 16 GiB.",
)
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
    help="Where items belong. Default: /gnu/store, or /nix/store with --nix-key.",
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
    admin: str | None,
    **options: Any,
) -> None:
    """Publish store items over HTTP, as substitutes, with their ERIS URNs.

    Takes the place of guix publish. Keys are read as root, then --user is who serves. A narinfo
    lists the plain nar at once; compressed nars and the URN are made in the background and kept in
    the cache, and then listed too.
    """
    # Until it is handled: see `serve`.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    environment = GuixEnvironment.from_environ(os.environ)
    settings = _settings(environment, nix_key is not None, **options)
    configure_log(settings.logs, debug=bool(context.find_root().params.get("debug")))
    become = None if user is None else find_user(user)
    keys = SigningKeys(socket.gethostname())
    authorized = Acl()
    if settings.upstream:
        authorized = read_acl(acl or Path(environment.config_dir, "acl"))
    else:
        keys = _read_keys(environment, public_key, private_key, nix_key)
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
    asyncio.run(serve_items(settings, keys, authorized, sockets, service, told_at))


def _settings(
    environment: GuixEnvironment,
    for_nix: bool,
    *,
    compressions: tuple[CompressionChoice, ...],
    cache: Path,
    cache_bypass_threshold: int | None,
    ttl: int | None,
    negative_ttl: int | None,
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
    if for_nix and not upstream and items is None:
        raise click.UsageError(
            "The store of Nix itself cannot be served yet: --items names a directory with what is"
            " to be served, as Nix has it in /nix/store or by any names."
        )
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
    store_dir = store_dir or (_NIX_STORE if for_nix else environment.store_dir)
    if not store_dir.startswith("/") or store_dir.endswith("/"):
        raise click.BadParameter("an absolute path is expected", param_hint="--store-dir")
    return Settings(
        PublishOptions(
            store_dir,
            compressions,
            nar_path=nar_path,
            ttl_s=ttl,
            negative_ttl_s=negative_ttl,
            mass_query=for_nix,
            for_nix=for_nix,
            deltas=of_eris.deltas,
            bypass_below=cache_bypass_threshold,
        ),
        environment,
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


def _read_keys(
    environment: GuixEnvironment,
    public_key: Path | None,
    private_key: Path | None,
    nix_key: Path | None,
) -> SigningKeys:
    """The keys to sign with; those of Guix unless only one of Nix is given."""
    host = socket.gethostname()
    nix = None if nix_key is None else read_nix_key(nix_key, host)
    if nix is not None and public_key is None and private_key is None:
        return nix
    config = Path(environment.config_dir)
    guix = read_guix_keys(
        public_key or config / "signing-key.pub", private_key or config / "signing-key.sec", host
    )
    return guix if nix is None else SigningKeys(host, guix.public, guix.guix, nix.nix)
