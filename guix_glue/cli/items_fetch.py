"""`kapla items fetch`: items out of blocks -> an archive, or the store of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from guix_glue.cli.items_options import GuixKey, eris_store_option, key_options
from guix_glue.cli.maps import map_option
from guix_glue.cli.option_types import parsed_nix_keys, parsed_servers
from guix_glue.cli.server_options import acl_option
from guix_glue.servers.url import Server
from kapla.cli.common import ExitCode, read_capability, run, summarized
from kapla.cli.store import timeout_option
from kapla.cli.told import told
from kapla.sizes import parse_size

if TYPE_CHECKING:
    from guix_glue.trust.nix_keys import NixPublicKey

__all__ = ["fetch"]


@told(
    ("Take all that a list names into this machine's store", "kapla items fetch --into-store URN"),
    (
        "The same from a stick, without a daemon",
        "kapla items fetch --into-store --eris-store-url file:///mnt/b URN",
    ),
    ("Make an archive", "kapla items fetch URN -o hello.export"),
    (
        "Fetch an item by its name, as servers tell of it",
        "kapla items fetch --upstream https://ci.guix.gnu.org -o out HASH-NAME",
    ),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="fetch", short_help="Fetch items into an archive, or into the store.")
@click.argument("wanted", metavar="URN|ITEM...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE|-",
    help="Write an archive, which guix archive --import and nix-store --import take; - for standard"
    " output. What is there of one that broke off, in FILE.part, is gone on with.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--into-store",
    is_flag=True,
    help="Import the items: those of /nix/store by nix-store --import, others by the Guix daemon.",
)
@click.option("--dry-run", is_flag=True, help="Tell which items would be fetched, and their sizes.")
@click.option(
    "--upstream",
    "servers",
    metavar="URL…",
    multiple=True,
    callback=parsed_servers,
    help="Ask these servers what an ITEM is, and what it refers to; and for nars of which there are"
    " no blocks.",
)
@map_option
@click.option(
    "--store-dir",
    metavar="DIR",
    help="Where an ITEM belongs. Default: where its path says, else the store of this machine.",
)
@acl_option("Keys of Guix whose signatures count")
@click.option(
    "--trusted-public-keys",
    "nix_keys",
    metavar="KEY…",
    multiple=True,
    callback=parsed_nix_keys,
    help="Keys of Nix whose signatures count, as NAME:BASE64, beside those of its nix.conf.",
)
@click.option(
    "--no-check-sigs",
    is_flag=True,
    help="Take what is said of items though nobody has signed it. For root only. The Guix daemon"
    " still wants archives that are signed.",
)
@key_options(
    "Sign archives with this machine's key of Guix where their list has no signature for them."
    " Default: with --into-store, if the key can be read."
)
@click.option(
    "--max-size",
    metavar="SIZE",
    help="Refuse items of more bytes together, as in 10GiB. Default: what the disk has free.",
)
@eris_store_option
@timeout_option
@summarized(sends=False, done="fetched")
def fetch(
    wanted: tuple[str, ...],
    output: str | None,
    force: bool,
    into_store: bool,
    dry_run: bool,
    servers: tuple[Server, ...],
    maps: tuple[str, ...],
    store_dir: str | None,
    acl: Path | None,
    nix_keys: tuple[NixPublicKey, ...],
    no_check_sigs: bool,
    guix_key: GuixKey,
    max_size: str | None,
    store_url: str | None,
) -> None:
    """Fetch items out of blocks, without a server: into an archive, or into the store.

    URN is that of a list, the last line of kapla items encode; also @NAME, @FILE or -. All items of
    the list are fetched, those that others refer to first. ITEM is a path in the store, HASH-NAME
    or a hash part, and wants --upstream; all that it refers to is fetched, too.

    Each item is compared with the hash that is signed before the next one is begun. With
    --into-store items that are there are passed over. Run again, it goes on where it broke off.
    """
    from guix_glue.cli.items_fetching import Fetching, How
    from guix_glue.local.environment import GuixEnvironment

    if into_store and output is not None:
        raise click.UsageError("--output and --into-store exclude each other.")
    if not (into_store or dry_run) and output is None:
        raise click.UsageError("Where to? --output FILE, --output - or --into-store.")
    if force and output in (None, "-"):
        raise click.UsageError("--force is for --output FILE.")
    if no_check_sigs and os.geteuid() != 0:
        raise click.UsageError("--no-check-sigs is for root: others name the keys that count.")
    urns = [one for one in wanted if _is_urn(one)]
    items = [one for one in wanted if not _is_urn(one)]
    if items and not servers:
        raise click.UsageError("An ITEM wants --upstream: somebody has to tell what it is.")
    if servers and not items:
        raise click.UsageError("--upstream is for an ITEM.")
    if not items and _is_given("maps"):
        raise click.UsageError("--map is for an ITEM.")
    if not items and store_dir is not None:
        raise click.UsageError("--store-dir is for an ITEM: a list says where its items belong.")
    if urns.count("-") > 1:
        raise click.UsageError("Standard input holds one URN.")
    how = How(
        tuple(read_capability(one) for one in urns),
        tuple(items),
        output,
        force,
        into_store,
        dry_run,
        servers,
        maps,
        store_dir,
        acl,
        nix_keys,
        not no_check_sigs,
        guix_key,
        _limit(max_size),
    )
    run(Fetching(how, GuixEnvironment.from_environ(os.environ)).run(store_url))


def _is_given(name: str) -> bool:
    """Whether an option is there, and not only the variable that stands in for it."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def _is_urn(text: str) -> bool:
    return text == "-" or text.startswith("@") or text.lower().startswith("urn:")


def _limit(max_size: str | None) -> int | None:
    try:
        return None if max_size is None else parse_size(max_size)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--max-size") from None
