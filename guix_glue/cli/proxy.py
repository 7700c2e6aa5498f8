"""`kapla proxy`: the command line of the proxy."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from eris.allocator import give_back_what_is_large
from guix_glue.cli.maps import map_option
from guix_glue.cli.option_types import bound_admin, parsed, parsed_servers
from guix_glue.cli.proxying import ProxySettings, remarks_on, serve_proxy
from guix_glue.cli.publish_logs import (
    LogSettings,
    configure_log,
    log_settings,
    request_log_option,
)
from guix_glue.cli.server_options import (
    acl_option,
    admin_option,
    log_format_option,
    max_connections_option,
    max_unsigned_size_option,
    nix_keys_option,
    port_option,
    user_option,
)
from guix_glue.kept.directory import make_cache_directory, make_open_directory
from guix_glue.local.authorities import read_authorities
from guix_glue.local.environment import GuixEnvironment
from guix_glue.local.user_caches import PROXY_CACHE, proxied_items_file
from guix_glue.proxy.settings import DEFAULT_NAR_SETTINGS
from guix_glue.servers.url import Server
from guix_glue.serving.descriptors import allow_descriptors
from guix_glue.serving.listening import activated_sockets, bind_sockets
from guix_glue.serving.privileges import drop_privileges, find_user
from kapla.cli.outcome import ExitCode
from kapla.cli.told import told
from kapla.http.serving.connections import ConnectionLimits
from kapla.sizes import parse_size

if TYPE_CHECKING:
    from guix_glue.trust.nix_keys import NixPublicKey

__all__ = ["command"]

_log = logging.getLogger(__name__)

_DEFAULT_CACHE: Final = Path(PROXY_CACHE)
_DEFAULT_PORT: Final = 8085
_DEFAULT_PRIORITY: Final = 30


@told(
    (
        "Stand between the Guix daemon and its servers",
        "kapla proxy --user kapla-proxy --upstream https://ci.guix.gnu.org",
    ),
    (
        "The same for Nix, with two servers",
        "kapla proxy --upstream https://cache.nixos.org --upstream http://nas",
    ),
    (
        "Serve all machines of a network",
        "kapla proxy --listen 0.0.0.0 --upstream https://ci.guix.gnu.org",
    ),
    exits=ExitCode,
)
@click.command(name="proxy", short_help="Pass on substitutes, out of blocks where they are.")
@click.option(
    "--upstream",
    metavar="URL…",
    multiple=True,
    required=True,
    callback=parsed_servers,
    help="The servers to ask, all at once. A user and a password in a URL go to that server alone.",
)
@click.option(
    "--eris-store-url",
    "store_urls",
    metavar="URL",
    multiple=True,
    help="A store with blocks; several are tried in order. Default: $ERIS_STORE_URL, else the local"
    " daemon's socket. none: no store, HTTP only.",
)
@click.option(
    "--listen",
    metavar="HOST",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen. Whoever reaches it is served.",
)
@port_option(_DEFAULT_PORT)
@click.option(
    "-c",
    "--cache",
    type=click.Path(path_type=Path),
    default=_DEFAULT_CACHE,
    show_default=True,
    help="Where narinfos are kept, and nars on their way, for this proxy alone.",
)
@user_option
@acl_option("Keys of Guix whose signatures count")
@nix_keys_option("Keys of Nix whose signatures count")
@click.option(
    "--store-dir",
    metavar="DIR",
    help="The store that the servers are for. Default: what they say themselves.",
)
@click.option(
    "--priority",
    type=click.IntRange(0, 1_000_000),
    default=_DEFAULT_PRIORITY,
    show_default=True,
    help="What Nix is told: it asks those with lower numbers first; cache.nixos.org has 40.",
)
@click.option(
    "--no-hints",
    is_flag=True,
    help="Follow no URNs that are not signed. Otherwise they are, and nothing of what they lead to"
    " goes out before it was compared with the hash of the nar.",
)
@map_option
@click.option(
    "--spool-max",
    metavar="SIZE",
    callback=parsed(parse_size),
    help="Room on disk for what is compared before it goes out, as 500M or 2TiB; half of it for one"
    " nar at most. Larger ones come by HTTP. Default: 4 GiB.",
)
@max_unsigned_size_option("The largest nar to take")
@max_connections_option()
@admin_option(9082)
@request_log_option
@log_format_option("that log, and of what goes to standard error")
@click.pass_context
def command(
    context: click.Context,
    /,
    listen: str,
    port: int,
    cache: Path,
    user: str | None,
    acl: Path | None,
    nix_keys: tuple[NixPublicKey, ...],
    max_connections: int,
    admin: str | None,
    request_log: str | None,
    log_format: str,
    **options: Any,
) -> None:
    """Pass on other servers' substitutes to stock Guix and Nix, out of ERIS blocks where they are.

    Clients name it as their substitute server, and go on checking signatures by their own keys.
    What it believes itself is signed by keys that Guix or Nix trusts here.
    """
    # Until it is handled: see `serve`.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if options["no_hints"] and context.get_parameter_source("maps") is ParameterSource.DEFAULT:
        # Those of the environment are for whoever follows hints.
        options["maps"] = ()
    environment = GuixEnvironment.from_environ(os.environ)
    logs = log_settings(request_log=request_log, baking_log=None, log_format=log_format)
    configure_log(logs, debug=bool(context.find_root().params.get("debug")))
    settings = _settings(environment, cache, max_connections, logs, **options)
    become = None if user is None else find_user(user)
    authorities = read_authorities(acl or Path(environment.config_dir, "acl"), nix_keys, os.environ)
    sockets = activated_sockets(os.environ) or bind_sockets(listen, port)
    told_at = None if admin is None else bound_admin(admin)
    owner = None if become is None else (become.pw_uid, become.pw_gid)
    make_cache_directory(cache, owner)
    # Without it nothing is noted there: whoever gives items on asks servers instead.
    with suppress(OSError):
        make_open_directory(Path(proxied_items_file(str(cache))).parent, owner)
    if become is not None:
        drop_privileges(become)
    elif os.geteuid() == 0:
        _log.warning("Running as root; --user names somebody with fewer rights")
    for remark in remarks_on(authorities, sockets):
        _log.warning("%s", remark)
    allow_descriptors(max_connections)
    give_back_what_is_large()
    asyncio.run(serve_proxy(settings, authorities, sockets, told_at))


def _settings(
    environment: GuixEnvironment,
    cache: Path,
    max_connections: int,
    logs: LogSettings,
    *,
    upstream: tuple[Server, ...],
    store_urls: tuple[str, ...],
    store_dir: str | None,
    priority: int,
    no_hints: bool,
    maps: tuple[str, ...],
    spool_max: int | None,
    max_unsigned_size: int | None,
) -> ProxySettings:
    if no_hints and maps:
        raise click.UsageError(
            "--map and --no-hints exclude each other: what a map says is a hint."
        )
    if store_dir is not None and (not store_dir.startswith("/") or store_dir.endswith("/")):
        raise click.BadParameter("an absolute path is expected", param_hint="--store-dir")
    nars = replace(DEFAULT_NAR_SETTINGS, trust_hints=not no_hints)
    if spool_max is not None:
        nars = replace(nars, spool=spool_max, spooled=spool_max // 2)
    if max_unsigned_size is not None:
        nars = replace(nars, max_unsigned_size=max_unsigned_size)
    return ProxySettings(
        upstream,
        store_urls,
        maps,
        environment,
        cache.absolute(),
        store_dir,
        priority,
        nars,
        ConnectionLimits(max_connections),
        logs,
    )
