"""`kapla seed`: the command line of what gives away the files that are here, as blocks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from guix_glue.cli.option_types import parsed_servers
from guix_glue.cli.server_options import acl_option, log_format_option
from guix_glue.servers.url import Server
from kapla import log
from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.told import told

__all__ = ["command"]

_MOST_THREADS = 16


@told(
    (
        "Give away what this machine has of Guix, or of Nix",
        "kapla seed --upstream https://ci.guix.gnu.org",
    ),
    ("A directory", "kapla seed ~/Music"),
    ("Why an item is given away, or not", "kapla seed --explain /gnu/store/…"),
    ("How far it is", "kapla seed --status"),
    exits=(ExitCode.STORE, ExitCode.REFUSED, ExitCode.INCOMPLETE),
)
@click.command(name="seed", short_help="Give away files that are here, without a second copy.")
@click.argument(
    "directories",
    metavar="[DIR]…",
    nargs=-1,
    type=click.Path(path_type=Path),
)
@click.option(
    "--store",
    "store_dir",
    metavar="DIR",
    help="The store whose items are given away: /gnu/store or /nix/store. Default: whichever is"
    " here, unless a DIR is named.",
)
@click.option(
    "--upstream",
    metavar="URL…",
    multiple=True,
    callback=parsed_servers,
    help="Substitute servers to ask, once, about each item that was not fetched by kapla, nor made"
    " here: what they have is given away. Default: nobody is asked.",
)
@acl_option("Keys whose signatures count there")
@click.option(
    "--deny",
    metavar="PATTERN",
    multiple=True,
    help="Never give away, nor ask about, items of this name: a pattern as of a shell, for what"
    " stands behind the hash.",
)
@click.option(
    "--allow",
    metavar="PATTERN",
    multiple=True,
    help="Do not leave out items of this name only because settings usually have it, as *-etc and"
    " *-system.",
)
@click.option(
    "--pin",
    is_flag=True,
    help="Keep what is given away from being garbage-collected, by roots in the store's gcroots"
    " directory. Default: what is collected is no longer given away.",
)
@click.option(
    "--index",
    "index_dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to keep what is known of the files. Default: kapla/seed below $XDG_CACHE_HOME, or"
    " /var/cache for root and ~/.cache for others.",
)
@click.option(
    "--public-items",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Where kapla substitute or kapla proxy notes what it fetched by public narinfos. Default:"
    " /var/cache/kapla/public-items, /var/cache/kapla/proxy/public/items, and this user's own.",
)
@click.option(
    "--eris-store-url",
    "store_url",
    metavar="URL",
    help="The daemon to give blocks to, by its Unix socket. Default: the local one.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, _MOST_THREADS),
    help="How many make blocks at once. Default: one for each processor, 4 at most.",
)
@click.option("-u", "--user", metavar="USER", help="Become this user.")
@click.option("--once", is_flag=True, help="Bring the index up to date, and end.")
@click.option(
    "--explain", metavar="PATH", help="Tell whether an item is given away, and why; ask nobody."
)
@click.option("--status", is_flag=True, help="Tell how far the seed with this index is.")
@click.option("--json", "as_json", is_flag=True, help="With --status: JSON.")
@log_format_option("what goes to standard error")
@click.pass_context
def command(
    context: click.Context,
    /,
    directories: tuple[Path, ...],
    store_dir: str | None,
    upstream: tuple[Server, ...],
    acl: Path | None,
    deny: tuple[str, ...],
    allow: tuple[str, ...],
    pin: bool,
    index_dir: Path | None,
    public_items: tuple[Path, ...],
    store_url: str | None,
    threads: int | None,
    user: str | None,
    once: bool,
    explain: str | None,
    status: bool,
    as_json: bool,
    log_format: str,
) -> None:
    """Give blocks of the files that are here to whoever asks the daemon, without a second copy.

    Blocks are made again out of the files when they are asked for. Of a store only items are given
    away that everybody may have from a public server anyway: see --explain. A DIR that is named is
    given away as it is.
    """
    from guix_glue.cli.seed_settings import SeedSettings, seed_settings

    if as_json and not status:
        raise click.UsageError("--json is for --status.")
    if once + status + (explain is not None) > 1:
        raise click.UsageError("--once, --explain and --status are each for themselves.")
    if store_url is not None and (once or status or explain is not None):
        raise click.UsageError("--eris-store-url is for a seed that runs: no daemon is asked here.")
    settings: SeedSettings = seed_settings(
        directories=directories,
        store_dir=store_dir,
        upstream=upstream,
        acl=acl,
        deny=deny,
        allow=allow,
        pin=pin,
        index_dir=index_dir,
        public_items=public_items,
        threads=threads,
        user=user,
        environ=os.environ,
    )
    if status:
        _show_status(settings.index, as_json=as_json)
        return
    from guix_glue.cli import seeding

    if explain is not None:
        verdict = seeding.explain(settings, explain)
        click.echo(f"{verdict.say.value}: {verdict.reason}")
        return
    log.configure(
        "debug" if context.find_root().params.get("debug") else "info",
        "json" if log_format == "json" else "text",
    )
    url = None if once else seeding.daemon_url(store_url)
    authorized = seeding.prepare(settings)
    # Threads that read take turns with those that answer in less than Python's usual 5 ms.
    sys.setswitchinterval(0.0005)
    if not asyncio.run(seeding.seed(settings, authorized, url)):
        raise CommandError("not all trees could be read: the log says which", ExitCode.INCOMPLETE)


def _show_status(index: Path, *, as_json: bool) -> None:
    from guix_glue.cli.seed_status import read_status, status_lines

    status, is_running = read_status(index)
    if as_json:
        from dataclasses import asdict

        found: dict[str, Any] = {**asdict(status), "running": is_running}
        click.echo(json.dumps(found, indent=1))
    else:
        for line in status_lines(status, is_running=is_running):
            click.echo(line)
