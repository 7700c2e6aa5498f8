"""`kapla encode`: file, tree or standard input -> URN."""

from __future__ import annotations

import os
import stat
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import BinaryIO

import click

import eris_fs
from eris.capability import ReadCapability
from eris.model import BlockSize, ConvergenceSecret
from eris.store import BlockFinder, BlockWriter, NullStore
from eris.transfer import put_content
from kapla.cli.common import (
    CommandError,
    ExitCode,
    Store,
    connect,
    progress,
    run,
    shows_progress,
    standard_input,
    store_option,
    summarized,
)
from kapla.cli.exclude import exclude_options, explained, read_patterns
from kapla.cli.noting import Measured, Noting, note_options
from kapla.cli.pinned import Pinning, Room, pin_options, pinned, read_pinning
from kapla.cli.secret import read_secret
from kapla.cli.source import check_source, content_of, open_source, size_of
from kapla.cli.told import told
from kapla.encode_cache import EncodeCache, default_cache_path

__all__ = ["command"]

_BLOCK_SIZES = ("auto", "1KiB", "32KiB", "cost")


@told(
    ("Store a directory, and call it notes", "kapla encode --name notes notes"),
    (
        "Store it compressed, without what can be built anew",
        "kapla encode --packed --exclude '*.o' project",
    ),
    (
        "Store what another program writes, and keep its URN in a file",
        "tar c notes | kapla encode --out notes.urn -",
    ),
    ("Learn the URN alone", "kapla encode --no-store notes.txt"),
    exits=(ExitCode.STORE, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="encode", short_help="Encode a file or a tree; print its URN.")
@click.argument("path", metavar="PATH|-")
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
    type=click.IntRange(1, eris_fs.MAX_LEVEL),
    metavar="N",
    help="How hard to compress a packed tree: 1 is fast, the default is 19.",
)
@click.option("--unique", is_flag=True, help="Encrypt so that equal content gets another URN.")
@click.option(
    "--convergence-secret",
    "secret_file",
    metavar="FILE",
    help="Only those who have the 32 bytes in FILE get the same URN for the same content.",
)
@exclude_options
@note_options
@click.option("--no-store", is_flag=True, help="Only compute the URN; needs no daemon.")
@click.option("--no-cache", is_flag=True, help="Encode and send also what is stored already.")
@pin_options
@store_option
@summarized(sends=True)
def command(
    path: str,
    block_size: str | None,
    packed: bool,
    level: int | None,
    unique: bool,
    secret_file: str | None,
    exclude: tuple[str, ...],
    exclude_files: tuple[str, ...],
    no_store: bool,
    no_cache: bool,
    noting: Noting,
    no_pin: bool,
    lend: bool,
    store_url: str | None,
) -> None:
    """Encode a file, a directory tree or standard input (-) into the store; print its URN.

    Whoever has the URN can read the content. Standard input and a single file become plain content,
    a directory becomes an ERIS-FS tree, and with --packed a file or a directory becomes a packed
    tree.
    """
    if packed and path == "-":
        raise click.UsageError("--packed is for files and directories, not for standard input.")
    if packed and block_size not in (None, "cost"):
        raise click.UsageError(
            "A packed tree has blocks by cost: --block-size does not go with it."
        )
    if level is not None and not packed:
        raise click.UsageError("--level is for --packed.")
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
    if not path:
        raise click.UsageError("PATH is empty.")
    patterns = read_patterns(exclude, exclude_files, path)
    check_source(path)
    is_tree = path != "-" and os.path.isdir(path)
    if patterns is not None and not is_tree:
        raise click.UsageError("--exclude and --exclude-from are for directories.")
    pinning = read_pinning(no_pin, lend, no_store=no_store)
    how = _How(block_size or "auto", level, secret, cached, patterns, noting.measured)
    # Before the work: of unique content nothing but the URN would lead to it.
    write = noting.output()
    capability = run(_encode(path, how, no_store, pinning, noting, store_url))
    # Before it is written, which may fail: then it can still be found.
    noting.note(capability, path, is_tree=packed or is_tree)
    write(capability.to_urn())
    noting.let_go_of_old_versions()


@dataclass(frozen=True, slots=True)
class _How:
    """How contents are to be encoded."""

    rule: str
    level: int | None
    """Of a packed tree; None for other trees and plain content."""
    secret: ConvergenceSecret
    cached: bool
    exclude: eris_fs.Patterns | None
    measured: Measured

    @property
    def block_size(self) -> BlockSize | eris_fs.SizeRule | None:
        """The block size, or the rule for it, in the words of the libraries."""
        fixed = {size.label: size for size in BlockSize}
        return eris_fs.choose_by_cost if self.rule == "cost" else fixed.get(self.rule)

    @property
    def variant(self) -> str:
        """What else an encoding depends on, beside contents and secret: for the cache."""
        if self.level is None:
            return self.rule
        return f"kapla-packed-1, {eris_fs.writer_name(self.level)}"


async def _encode(
    path: str,
    how: _How,
    no_store: bool,
    pinning: Pinning,
    noting: Noting,
    store_url: str | None,
) -> ReadCapability:
    if no_store:
        return await _encode_into(NullStore(), path, how)

    async def encode(into: Store | Room) -> ReadCapability:
        capability = await _encode_into(into, path, how)
        if not isinstance(into, Room):
            await noting.before_pin()
        return capability

    async with connect(store_url) as store:
        capability = await pinned(
            store,
            encode,
            pinning,
            size=lambda room: _size(path, how, room),
            # A pipe has nothing a second time.
            may_repeat=path != "-" and (os.path.isdir(path) or os.path.isfile(path)),
        )
        await noting.note_store(store)
        return capability


def _size(path: str, how: _How, room: int) -> int | None:
    """How many bytes there are to encode; None where they cannot be counted, or need not be."""
    # What is wrong with them is said when they are read.
    with suppress(OSError, eris_fs.TreeError):
        if path == "-":
            return size_of(standard_input())
        if os.path.isdir(path):
            if _used_beside(path) <= room:
                return None
            root, packed = os.path.join(path, ""), how.level is not None
            return eris_fs.measure_tree(root, any_bytes=packed, exclude=how.exclude).size
        status = os.stat(path)
        return status.st_size if stat.S_ISREG(status.st_mode) else None
    return None


def _used_beside(path: str) -> int:
    """The bytes in use in a file system: as much as a tree in it can have, but for holes."""
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


async def _encode_into(store: Store | Room | NullStore, path: str, how: _How) -> ReadCapability:
    async with AsyncExitStack() as stack:
        if path == "-":
            file = standard_input()
            start = file.tell() if isinstance(store, Room) else 0
            capability = await _encode_file(store, file, "standard input", how)
            if isinstance(store, Room):
                file.seek(start)
            return capability
        if os.path.isdir(path) or how.level is not None:
            known = None
            place = default_cache_path()
            if how.cached and place is not None and not isinstance(store, NullStore):
                cache = EncodeCache(place, secret=how.secret, variant=how.variant)
                stack.callback(cache.close)
                known = eris_fs.KnownContents(cache, store)
            try:
                return await _encode_tree(store, path, how, known)
            except eris_fs.TreeError as error:
                if better := explained(error, path, packed=how.level is not None):
                    raise better from error
                raise
        with open_source(path) as file:
            before = eris_fs.settled_status(file.fileno())
            capability = await _encode_file(store, file, path, how)
            if stat.S_ISREG(before.st_mode):
                now = eris_fs.Stamp.of(os.fstat(file.fileno()))
                if change := eris_fs.Stamp.of(before).change(now):
                    raise eris_fs.FileChanged(path, change)
            return capability


async def _encode_file(store: BlockWriter, file: BinaryIO, name: str, how: _How) -> ReadCapability:
    size = size_of(file)
    block_size = how.block_size
    if block_size is not None and not isinstance(block_size, BlockSize):
        if size is None:
            raise CommandError(
                "--block-size cost wants to know how much comes: use a file", ExitCode.USAGE
            )
        block_size = block_size(size)
    with progress(f"Encoding {name}", size) as shown:
        shown = how.measured.beside(shown)
        return await put_content(
            store,
            content_of(file, shown),
            block_size=block_size,
            convergence_secret=how.secret,
            finder=_finder(store, how),
        )


def _finder(store: BlockWriter, how: _How) -> BlockFinder | None:
    """Who tells what need not be sent; a `Room` finds that out by itself."""
    if how.cached and isinstance(store, BlockFinder) and not isinstance(store, Room):
        return store
    return None


async def _encode_tree(
    store: BlockWriter, path: str, how: _How, known: eris_fs.KnownContents | None
) -> ReadCapability:
    # A tree never follows symlinks, but the one that the user names means what it leads to.
    root = os.path.join(path, "") if os.path.isdir(path) else os.path.realpath(path)
    # Looking through the tree twice costs little, but only a person asks how long it takes.
    total = None
    if shows_progress():
        packed = how.level is not None
        total = eris_fs.measure_tree(root, any_bytes=packed, exclude=how.exclude).size
    with progress(f"Encoding {path}", total) as shown:
        shown = how.measured.beside(shown)
        if how.level is not None:
            return await eris_fs.put_packed_tree(
                store,
                root,
                level=how.level,
                convergence_secret=how.secret,
                progress=shown.reach,
                known=known,
                exclude=how.exclude,
            )
        return await eris_fs.put_tree(
            store,
            root,
            block_size=how.block_size,
            convergence_secret=how.secret,
            progress=shown.reach,
            known=known,
            exclude=how.exclude,
        )
