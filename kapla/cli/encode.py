"""`kapla encode`: files, trees or standard input -> URN."""

from __future__ import annotations

import click

import eris_fs
from eris.model import ConvergenceSecret
from kapla.cli.common import ExitCode, run, store_option, summarized
from kapla.cli.encoding import How, encode_sources
from kapla.cli.making import making
from kapla.cli.noting import Noting, note_options
from kapla.cli.pinned import pin_options, read_pinning
from kapla.cli.secret import read_secret
from kapla.cli.selecting import SelectingOptions, selecting_options
from kapla.cli.sources import Sources
from kapla.cli.told import told

__all__ = ["command"]

_BLOCK_SIZES = ("auto", "1KiB", "32KiB", "cost")


@told(
    ("Store a directory, and call it notes", "kapla encode --name notes notes"),
    (
        "Store it compressed, without what can be built anew",
        "kapla encode --packed --exclude '*.o' project",
    ),
    (
        "Store a new version, and what leads to it from the last one",
        "kapla encode --packed --name notes --base @notes notes",
    ),
    (
        "Store what another program writes, and keep its URN in a file",
        "tar c notes | kapla encode --out notes.urn -",
    ),
    ("Learn the URN alone", "kapla encode --no-store notes.txt"),
    exits=(ExitCode.STORE, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="encode", short_help="Encode a file or a tree; print its URN.")
@click.argument("paths", metavar="PATH...|-", nargs=-1, required=True)
@click.option(
    "--block-size",
    type=click.Choice(_BLOCK_SIZES, case_sensitive=False),
    metavar="|".join(_BLOCK_SIZES),
    help="auto: 1 KiB for content below 16 KiB, else 32 KiB. cost: 32 KiB where it takes little"
    " more than 1 KiB. Of a tree: for every file and the index. Default: auto, with --packed cost.",
)
@click.option(
    "--packed",
    is_flag=True,
    help="Encode a packed tree: compressed, so fewer bytes and blocks; only kapla reads it.",
)
@click.option(
    "--level",
    type=click.INT,
    metavar="N",
    help="How hard to compress a packed tree: 1 is fast, 19 is small, the default is 9.",
)
@click.option(
    "--base",
    metavar="DIR|URN",
    help="With --packed: also make a delta, which leads from this tree to the new one; its URN is"
    " the second line. Whoever has the base has far less to fetch.",
)
@click.option("--unique", is_flag=True, help="Encrypt so that equal content gets another URN.")
@click.option(
    "--convergence-secret",
    "secret_file",
    metavar="FILE",
    help="Only those who have the 32 bytes in FILE get the same URN for the same content.",
)
@selecting_options(skip=True)
@note_options
@click.option("--no-store", is_flag=True, help="Only compute the URN; needs no daemon.")
@click.option("--no-cache", is_flag=True, help="Encode and send also what is stored already.")
@pin_options
@store_option
@summarized(sends=True, done="encoded")
def command(
    paths: tuple[str, ...],
    block_size: str | None,
    packed: bool,
    level: int | None,
    base: str | None,
    unique: bool,
    secret_file: str | None,
    selecting: SelectingOptions,
    no_store: bool,
    no_cache: bool,
    noting: Noting,
    no_pin: bool,
    lend: bool,
    store_url: str | None,
) -> int:
    """Encode a file, a directory tree or standard input (-) into the store; print its URN.

    Whoever has the URN can read the content. Standard input and a single file become plain content,
    a directory becomes an ERIS-FS tree, and with --packed a file or a directory becomes a packed
    tree. Several paths become one tree, in which each has its own name.

    With --base a delta is stored too, from an older tree to the new one: `kapla decode` makes the
    new one out of both. It is noted as NAME.delta, if there is a --name, and goes to FILE.delta, if
    there is --out FILE.
    """
    sources = Sources.of(paths)
    if packed and sources.is_stream:
        raise click.UsageError("--packed is for files and directories, not for standard input.")
    if packed and block_size not in (None, "cost"):
        raise click.UsageError(
            "A packed tree has blocks by cost: --block-size does not go with it."
        )
    if level is not None and not packed:
        raise click.UsageError("--level is for --packed.")
    # What tells the highest is loaded for packed trees only.
    if level is not None and not 1 <= level <= eris_fs.MAX_LEVEL:
        raise click.BadParameter(f"1 to {eris_fs.MAX_LEVEL}", param_hint="'--level'")
    if base is not None and not packed:
        raise click.UsageError("--base is for --packed: a delta stands beside a packed tree.")
    if base is not None and no_store:
        raise click.UsageError("--base wants a store: a delta is made of what is stored.")
    if unique and secret_file is not None:
        raise click.UsageError("--unique and --convergence-secret exclude each other.")
    secret = ConvergenceSecret.null()
    if unique:
        secret = ConvergenceSecret.unique()
    elif secret_file is not None:
        secret = read_secret(secret_file)
    if packed:
        level = eris_fs.DEFAULT_LEVEL if level is None else level
    cached = not (unique or no_store or no_cache)
    selected = selecting.of(sources, store_url)
    pinning = read_pinning(no_pin, lend, no_store=no_store)
    how = How(block_size or "auto", level, secret, cached, selected, noting.measured)
    # Before the work: of unique content nothing but the URN would lead to it.
    write = noting.output()
    # Before the new version has the name that the old one is called by.
    delta = None if base is None else making(base, noting, secret, pinning, store_url)
    capability = run(encode_sources(sources, how, no_store, pinning, noting, store_url))
    selected.say()
    # Before it is written, which may fail: then it can still be found.
    noting.note(
        capability,
        sources.description,
        is_tree=packed or sources.is_tree,
        is_partial=selected.is_incomplete,
    )
    write(capability.to_urn())
    if delta is not None:
        delta.make(capability, sources.description)
    noting.let_go_of_old_versions()
    return ExitCode.INCOMPLETE if selected.is_incomplete else 0
