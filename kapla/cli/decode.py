"""`kapla decode`: URN -> file or tree."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, Self

import click

import eris_fs
from eris.capability import ReadCapability
from eris.threads import settle
from eris.transfer import content_length, stream_content
from kapla.cli.applying import apply_delta, refuse_delta
from kapla.cli.base import Base, read_base
from kapla.cli.chosen import choose, path_option
from kapla.cli.common import (
    LARGEST_SHOWN,
    CommandError,
    ExitCode,
    Progress,
    Silent,
    Store,
    connect,
    progress,
    read_capability,
    run,
    standard_output,
    store_option,
    summarized,
    urn_argument,
)
from kapla.cli.content import Kind, kind_of_head, read_tree
from kapla.cli.summary import Summary, current_summary
from kapla.cli.target import Target
from kapla.cli.told import told
from kapla.sizes import parse_size

__all__ = ["command", "decode_into", "read_limit"]

# Written to disk at once: few enough system calls, little enough memory.
_WRITE_SIZE = 1024 * 1024


@told(
    ("Bring back what was stored under a name", "kapla decode @notes copy"),
    ("The version before the newest", "kapla decode @notes~1 older"),
    (
        "Make a newer version out of one that is here, and a delta",
        "kapla decode @notes.delta newer --base notes",
    ),
    ("Read a URN from a file, and go on with the content", "kapla decode @backup.urn - | tar x"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="decode", short_help="Decode the file or tree of a URN.")
@urn_argument
@click.argument("out", metavar="OUT|-")
@click.option("--force", is_flag=True, help="Replace OUT if it exists, at once and only when done.")
@path_option
@click.option(
    "--base",
    metavar="DIR|URN",
    help="The tree that a delta leads from: a directory or file here, or a URN. For deltas only.",
)
@click.option(
    "--raw", is_flag=True, help="Write the bytes of the content even if it is a tree or a delta."
)
@click.option(
    "--max-size",
    metavar="SIZE",
    help="Refuse content of more bytes, as in 10GiB. A short URN can stand for any amount."
    " Default: what the disk has free.",
)
@store_option
@summarized(sends=False, done="decoded")
def command(
    urn: str,
    out: str,
    force: bool,
    paths: tuple[str, ...],
    base: str | None,
    raw: bool,
    max_size: str | None,
    store_url: str | None,
) -> None:
    """Decode the content of a URN into OUT: a file or a tree, whichever it is; - for stdout.

    A delta becomes the tree that it makes out of its base, which --base names.

    URN may also be @NAME, for what the catalogue has under a name, or @FILE or -, to read it from a
    file or from standard input. OUT appears only when it is complete and verified.

    With --path OUT becomes a directory in which the chosen files have the paths that they have in
    the tree. One file that is named alone, without wildcards, becomes OUT itself, unless OUT ends
    with a slash.
    """
    if raw and paths:
        raise click.UsageError("--raw is for the whole content, --path for a part of a tree.")
    if raw and base is not None:
        raise click.UsageError("--raw writes a delta as it is, --base makes a tree out of it.")
    if urn == base == "-":
        raise click.UsageError("Standard input holds one URN, of the delta or of its base.")
    capability = read_capability(urn)
    found = None if base is None else read_base(base)
    if out == "-":
        # Before the work, which would be for nothing.
        standard_output()
    target = None if out == "-" else Target(out, force=force)
    limit = read_limit(max_size, target)
    run(decode_into(capability, out, target, paths, raw, limit, store_url, found))


def read_limit(max_size: str | None, target: Target | None) -> int | None:
    """How many bytes may be written: what `--max-size` says, else what is free."""
    if max_size is not None:
        try:
            return parse_size(max_size)
        except ValueError as error:
            raise click.UsageError(f"--max-size: {error}") from None
    return None if target is None else target.free_bytes()


async def decode_into(
    capability: ReadCapability,
    out: str,
    target: Target | None,
    paths: Sequence[str],
    raw: bool,
    limit: int | None,
    store_url: str | None,
    base: Base | None = None,
) -> None:
    """Decode into OUT, which is `target`, or standard output where there is none."""
    async with (
        connect(store_url, capability, *(base.contents if base else ())) as store,
        _Reading(store, capability) as reading,
    ):
        kind = Kind.FILE if raw else kind_of_head(await reading.head())
        if kind is Kind.DELTA:
            if base is None or target is None or paths:
                refuse_delta(out, has_base=base is not None)
            async with aclosing(reading.pieces(None)) as pieces:
                await apply_delta(store, pieces, base, out, target, limit)
            return
        if base is not None:
            raise CommandError(
                f"this is a {kind.name.lower()}, and --base is for deltas", ExitCode.USAGE
            )
        if kind is Kind.TREE:
            if target is None and not paths:
                raise CommandError(
                    "this is a tree, which cannot go to standard output; --path takes one file out"
                    " of it",
                    ExitCode.USAGE,
                )
            tree = await read_tree(reading.pieces(None))
            if paths:
                tree = _part(tree, paths, out)
            if target is None:
                await _write_out(store, tree, limit)
            else:
                if () in tree and paths:
                    target.check_for_a_file()
                await _restore(store, tree, out, target, limit)
            return
        if paths:
            raise CommandError("this is a file, and --path is for trees", ExitCode.USAGE)
        # Content on a terminal, and a line that is drawn over on the same, would be neither.
        is_seen = target is None and sys.stdout.isatty()
        with nullcontext(Silent()) if is_seen else progress(f"Decoding {out}") as shown:
            reading.when_length_is_known(shown.expect)
            if target is None:
                if limit is not None:
                    # What has gone to standard output cannot be taken back.
                    await reading.length
                output = standard_output()
                if summary := current_summary():
                    summary.withhold()
                await _write(reading.pieces(limit), output, shown)
                output.flush()
                return
            target.check_for_a_file()
            async with target.prepare() as path:
                with _create(path) as file:
                    await _write_sparse(reading.pieces(limit), file, shown)


def _part(tree: eris_fs.Tree, paths: Sequence[str], out: str) -> eris_fs.Tree:
    """What `--path` asks for, as the tree that OUT is to be."""
    chosen = choose(tree, paths)
    if chosen.named is not None and not out.endswith("/"):
        return chosen.as_one_entry()
    if out == "-":
        raise CommandError(
            f"--path chooses {len(chosen.tree):,} entries of the tree, and standard output takes"
            " one file",
            ExitCode.USAGE,
        )
    return chosen.tree


async def _write_out(store: Store, tree: eris_fs.Tree, limit: int | None) -> None:
    """Write the one file that this tree is to standard output."""
    entry = tree[()]
    if not isinstance(entry, eris_fs.FileEntry):
        raise CommandError("this is a symlink, which cannot go to standard output", ExitCode.USAGE)
    shown = current_summary() or Summary()
    shown.withhold()
    output = standard_output()
    async with aclosing(eris_fs.read_files(store, tree, [()])) as pieces:
        byte_count = 0
        async for piece in pieces:
            byte_count += len(piece.content)
            if limit is not None and byte_count > limit:
                raise CommandError(
                    f"the file has more than {limit:,} bytes: see --max-size", ExitCode.FILE
                )
            output.write(piece.content)
            shown.advance(len(piece.content))
    output.flush()


async def _restore(
    store: Store, tree: eris_fs.Tree, out: str, target: Target, limit: int | None
) -> None:
    async with target.prepare() as path:
        with progress(f"Decoding {out}") as shown:
            if isinstance(tree, eris_fs.PackedTree):
                files = (entry for entry in tree.values() if isinstance(entry, eris_fs.PackedFile))
                shown.expect(sum(file.size for file in files))
            try:
                await eris_fs.get_tree(store, tree, path, max_size=limit, progress=shown.reach)
            except eris_fs.TreeTooLarge as error:
                if limit is None or error.what != "bytes of files":
                    raise
                raise CommandError(
                    f"the files of the tree have more than {limit:,} bytes, which is all that"
                    " is free or allowed: see --max-size",
                    ExitCode.FILE,
                ) from error


class _Reading:
    """A content on its way: its first bytes, its length, all of it.

    Each look at a store costs a round trip for every level of the content. So it is read but once,
    whatever it turns out to be, and its length is looked for meanwhile.
    """

    def __init__(self, store: Store, capability: ReadCapability) -> None:
        self._stream = stream_content(store, capability)
        self._head: bytes | None = None
        self.length = asyncio.ensure_future(content_length(store, capability))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.length.cancel()
        await settle(self.length)
        await self._stream.aclose()

    async def head(self) -> bytes:
        """The first piece; nothing of an empty content."""
        if self._head is None:
            self._head = await anext(self._stream, b"")
        return self._head

    def when_length_is_known(self, use: Callable[[int], None]) -> None:
        """Have the length told once it is known, if ever."""

        def tell(length: asyncio.Future[int]) -> None:
            if not length.cancelled() and length.exception() is None:
                use(length.result())

        self.length.add_done_callback(tell)

    async def pieces(self, limit: int | None) -> AsyncGenerator[bytes, None]:
        """All pieces, the first one too; to be read once.

        Raises: CommandError for a content of more than `limit` bytes: as soon as its length is
        known, and at the latest before more than that have been given out.
        """
        byte_count = 0
        piece = await self.head()
        while piece:
            byte_count += len(piece)
            if self.length.done():
                # Which ends here, too, if the right edge of the content is missing.
                _check_size(self.length.result(), limit)
            if limit is not None and byte_count > limit:
                _check_size(await self.length, limit)
            yield piece
            piece = await anext(self._stream, b"")


def _check_size(length: int, limit: int | None) -> None:
    if limit is not None and length > limit:
        shown = f"{length:,}" if length < LARGEST_SHOWN else "more than 2^64"
        raise CommandError(
            f"the content has {shown} bytes, and {limit:,} are free or allowed: see --max-size",
            ExitCode.FILE,
        )


@contextmanager
def _create(path: Path) -> Iterator[eris_fs.SparseFile]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        yield eris_fs.SparseFile(descriptor)
    finally:
        os.close(descriptor)


async def _write_sparse(
    pieces: AsyncIterable[bytes], file: eris_fs.SparseFile, shown: Progress
) -> None:
    """Write a new file, of which zeros become holes."""
    waiting: list[bytes] = []
    size = 0
    async for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _WRITE_SIZE:
            file.write(b"".join(waiting))
            waiting, size = [], 0
        shown.advance(len(piece))
    file.write(b"".join(waiting))
    file.finish()


async def _write(pieces: AsyncIterable[bytes], file: BinaryIO, shown: Progress) -> None:
    async for piece in pieces:
        file.write(piece)
        shown.advance(len(piece))
