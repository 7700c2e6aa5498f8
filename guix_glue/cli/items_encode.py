"""`kapla items encode`: items of this machine's store -> trees in a store of blocks, and a list."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

import eris_fs
from guix_glue.cli.items_options import (
    NIX_STORE,
    GuixKey,
    eris_store_option,
    key_options,
    store_directory,
)
from guix_glue.cli.option_types import parsed_servers
from guix_glue.servers.url import Server
from kapla.cli.common import ExitCode, run, summarized
from kapla.cli.noting import Noting, note_options
from kapla.cli.pinned import pin_options, read_pinning
from kapla.cli.store import say, timeout_option
from kapla.cli.told import told

if TYPE_CHECKING:
    from guix_glue.closures.recording import Recorder
    from guix_glue.local.environment import GuixEnvironment
    from guix_glue.publish.tree_formats import TreeFormat

__all__ = ["encode"]


@told(
    (
        "Put an item, and all it refers to, into the store of blocks",
        "kapla items encode --closure /gnu/store/…-hello-2.12.1",
    ),
    (
        "Put an item onto a stick",
        "kapla items encode --eris-store-url file:///mnt/b /gnu/store/…-hello",
    ),
    ("Learn the URNs alone", "kapla items encode --no-store --closure ~/.guix-profile"),
    exits=(ExitCode.STORE, ExitCode.DAMAGED, ExitCode.REFUSED, ExitCode.INCOMPLETE),
    means={
        ExitCode.DAMAGED: "an item is not what the store says it is; the others are encoded",
        ExitCode.INCOMPLETE: "done, but without items that could not be read",
    },
)
@click.command(name="encode", short_help="Encode items; print their URNs, and that of a list.")
@click.argument("items", metavar="ITEM...", nargs=-1, required=True)
@click.option("--closure", is_flag=True, help="Encode all they refer to as well.")
@click.option(
    "--items",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False, exists=True),
    help="Take the items from this directory, as kapla publish --items does, without any Guix.",
)
@click.option(
    "--store-dir",
    metavar="DIR",
    help="The store of the items. Default: where their paths lead, else the one that is here: that"
    " of Guix, or with --nix-key alone that of Nix.",
)
@click.option(
    "--eris-format",
    type=click.Choice(["packed", "standard"]),
    help="packed, the default: far fewer bytes and blocks. standard: ERIS-FS as specified. As of"
    " kapla publish, so that URNs are the same.",
)
@click.option(
    "--eris-level",
    type=click.IntRange(1, eris_fs.MAX_LEVEL),
    help="How hard to compress packed trees: 1 is fast, the default is 19.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Items that are encoded at once. Default: one for each processor.",
)
@key_options(
    "Sign what the list says of items with this machine's key of Guix. Default: if it can be read."
)
@click.option(
    "--nix-key", type=click.Path(path_type=Path), help="Sign for Nix with this secret key."
)
@click.option(
    "--upstream",
    "servers",
    metavar="URL…",
    multiple=True,
    callback=parsed_servers,
    help="Ask these servers for signatures of the items, which then go along; they learn the names."
    " For a machine without a key.",
)
@click.option(
    "--acl",
    type=click.Path(path_type=Path),
    help="Keys of Guix whose signatures go along, beside keys of nix.conf. Default: /etc/guix/acl.",
)
@note_options
@click.option("--no-store", is_flag=True, help="Only compute the URNs; needs no daemon.")
@click.option("--no-cache", is_flag=True, help="Encode and send also what is stored already.")
@pin_options
@eris_store_option
@timeout_option
@summarized(sends=True, done="encoded")
def encode(
    items: tuple[str, ...],
    closure: bool,
    directory: str | None,
    store_dir: str | None,
    eris_format: str | None,
    eris_level: int | None,
    jobs: int | None,
    guix_key: GuixKey,
    nix_key: Path | None,
    servers: tuple[Server, ...],
    acl: Path | None,
    noting: Noting,
    no_store: bool,
    no_cache: bool,
    no_pin: bool,
    lend: bool,
    store_url: str | None,
) -> int:
    """Encode items of this machine's store into a store of blocks, each as a tree of its own.

    ITEM is a path in the store, HASH-NAME, a hash part, or a path that leads to an item, as a
    profile does. A line ITEM URN is printed for each, those that are referred to first. The last
    line is the URN of a list, which is all that kapla items fetch needs.

    The files of each item are compared with its hash. One that was altered is not encoded.
    """
    from guix_glue.cli.items_encoding import Encoding, How
    from guix_glue.cli.served_store import store_to_serve
    from guix_glue.local.environment import GuixEnvironment

    if acl is not None and not servers:
        raise click.UsageError("--acl is for --upstream.")
    environment = GuixEnvironment.from_environ(os.environ)
    for_nix = nix_key is not None and not guix_key.is_named
    given = store_directory(store_dir, items, os.environ)
    store = None
    if directory is None:
        store = store_to_serve(os.environ, given, for_nix=for_nix)
        given = store.store_dir
    where = given or (NIX_STORE if for_nix else environment.store_dir)
    how = How(
        closure,
        directory,
        store,
        where,
        _tree_format(eris_format, eris_level),
        jobs or len(os.sched_getaffinity(0)),
        not (no_store or no_cache),
        servers,
        acl,
    )
    pinning = read_pinning(no_pin, lend, no_store=no_store)
    recorder = _recorder(guix_key, nix_key, environment, for_nix=for_nix or where == NIX_STORE)
    if not recorder.signs and not servers:
        say("not signed: whoever fetches by this list has to be told to do without")
    # Before the work, which would be for nothing.
    write = noting.output()
    work = Encoding(items, how, environment, recorder, noting)
    capability = run(work.run(no_store, pinning, store_url))
    noting.note(capability, f"{len(work.records)} items of {where}", is_tree=False)
    write(capability.to_urn())
    noting.let_go_of_old_versions()
    return work.code


def _tree_format(name: str | None, level: int | None) -> TreeFormat:
    from guix_glue.publish.tree_formats import DEFAULT_LEVEL, PackedTrees, StandardTrees

    if name == "standard":
        if level is not None:
            raise click.UsageError("--eris-level is for packed trees.")
        return StandardTrees()
    return PackedTrees(level or DEFAULT_LEVEL)


def _recorder(
    guix_key: GuixKey, nix_key: Path | None, environment: GuixEnvironment, *, for_nix: bool
) -> Recorder:
    from guix_glue.closures.recording import Recorder
    from guix_glue.publish.key_files import read_nix_key

    nix = None if nix_key is None else read_nix_key(nix_key, guix_key.host).nix
    guix = None if for_nix and not guix_key.is_named else guix_key.read(environment)
    return Recorder(guix_key.host, guix, nix)
