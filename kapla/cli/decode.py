"""`kapla decode`: URN -> file or tree."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

import click

import eris_fs
from eris.capability import ReadCapability
from eris.transfer import content_length, stream_content
from kapla.cli.common import (
    CommandError,
    Progress,
    Store,
    connect,
    progress,
    read_capability,
    run,
    standard_output,
    store_option,
    urn_argument,
)
from kapla.cli.content import load_tree, names_tree
from kapla.cli.target import Target
from kapla.config import parse_size

__all__ = ["command"]

# Written to disk at once: few enough system calls, little enough memory.
_WRITE_SIZE = 1024 * 1024


@click.command(name="decode")
@urn_argument
@click.argument("out", metavar="OUT|-")
@click.option("--force", is_flag=True, help="Replace OUT if it exists, at once and only when done.")
@click.option("--raw", is_flag=True, help="Write the bytes of the content even if it is a tree.")
@click.option(
    "--max-size",
    metavar="SIZE",
    help="Refuse content of more bytes, as in 10GiB. A short URN can stand for any amount."
    " Default: what the disk has free.",
)
@store_option
def command(
    urn: str, out: str, force: bool, raw: bool, max_size: str | None, store_url: str | None
) -> None:
    """Decode the content of a URN into OUT: a file or a tree, whichever it is; - for stdout.

    URN may also be @FILE or -, to read it from a file or from standard input. OUT appears only when
    it is complete and verified.
    """
    capability = read_capability(urn)
    target = None if out == "-" else Target(out, force=force)
    limit = None
    if max_size is not None:
        try:
            limit = parse_size(max_size)
        except ValueError as error:
            raise click.UsageError(f"--max-size: {error}") from None
    elif target is not None:
        limit = target.free_bytes()
    run(_decode(capability, out, target, raw, limit, store_url))


async def _decode(
    capability: ReadCapability,
    out: str,
    target: Target | None,
    raw: bool,
    limit: int | None,
    store_url: str | None,
) -> None:
    async with connect(store_url) as store:
        if not raw and await names_tree(store, capability):
            if target is None:
                raise CommandError("this is a tree, which cannot go to standard output", 2)
            tree = await load_tree(store, capability)
            with target.prepare() as path, progress(f"Decoding {out}") as shown:
                await eris_fs.get_tree(store, tree, path, max_size=limit, progress=shown.reach)
            return
        length = await content_length(store, capability)
        if limit is not None and length > limit:
            raise CommandError(
                f"the content has {length:,} bytes, and {limit:,} are free or allowed: see"
                " --max-size",
                7,
            )
        with progress(f"Decoding {out}", length) as shown:
            if target is None:
                output = standard_output()
                await _write(store, capability, output, shown)
                output.flush()
                return
            with target.prepare() as path, _create(path) as file:
                await _write(store, capability, file, shown)


def _create(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    return os.fdopen(descriptor, "wb", buffering=_WRITE_SIZE)


async def _write(store: Store, capability: ReadCapability, file: BinaryIO, shown: Progress) -> None:
    async with aclosing(stream_content(store, capability)) as pieces:
        async for piece in pieces:
            file.write(piece)
            shown.advance(len(piece))
