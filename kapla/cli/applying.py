"""What `kapla decode` does with a delta: the tree that it makes out of its base."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import NoReturn

import eris_fs
from eris.allocator import give_back_what_is_large
from eris.store import BlockReader
from kapla.cli.base import Base
from kapla.cli.common import CommandError, ExitCode, progress
from kapla.cli.target import Target

__all__ = ["apply_delta", "refuse_delta"]

_NAME_IT = (
    "this is a delta: name its base, the tree that it leads from, to kapla decode, with --base DIR"
    " or --base URN"
)


def refuse_delta(out: str, *, has_base: bool) -> NoReturn:
    """Say why a delta cannot be decoded in this way, and what to do. Raises: CommandError."""
    if not has_base:
        raise CommandError(_NAME_IT, ExitCode.USAGE)
    what = "standard output takes one file" if out == "-" else "--path is for trees"
    raise CommandError(
        f"this is a delta, which makes a whole tree, and {what}; --raw writes the delta itself",
        ExitCode.USAGE,
    )


async def apply_delta(
    store: BlockReader,
    pieces: AsyncIterator[bytes],
    base: Base,
    out: str,
    target: Target,
    limit: int | None,
) -> None:
    """Make the tree at `target`, whole or not at all; `pieces` are the bytes of the delta.

    Raises: CommandError, also for another base; BlockNotFound, ContentError, StoreError; TreeError;
    OSError.
    """
    from eris_fs.delta.apply import read_delta

    # Patches and what stands before them are large, and many.
    give_back_what_is_large()
    async with base.open(store) as files:
        try:
            delta = await read_delta(pieces, files)
        except eris_fs.OtherBase:
            raise CommandError(
                f"{base.shown} is not the tree that this delta leads from, or has changed since",
                ExitCode.FILE,
            ) from None
        except eris_fs.InvalidManifest as error:
            raise CommandError(
                f"this looks like a delta, but {error}; --raw decodes it as a file",
                ExitCode.DAMAGED,
            ) from error
        if limit is not None and delta.outline.size > limit:
            raise CommandError(
                f"the delta makes files of {delta.outline.size:,} bytes, and {limit:,} are free or"
                " allowed: see --max-size",
                ExitCode.FILE,
            )
        if () in delta.outline:
            target.check_for_a_file()
        async with target.prepare() as path:
            with progress(f"Decoding {out}") as shown:
                shown.expect(delta.outline.size)
                async with aclosing(delta.files()) as made:
                    await eris_fs.get_files(delta.outline, made, path, progress=shown.reach)
