"""How the stream is cut into patches, and what of the base stands before each; pure.

Files that follow each other share a patch, with what each is like before all of them: together they
compress better. A large file is cut into pieces, each with the part of the base around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from eris_fs.delta.model import BaseRange

__all__ = ["PIECE_SIZE", "PREFIX_SIZE", "cut_stream", "whole_files"]

PIECE_SIZE: Final = 3 * 1024 * 1024
"""Bytes of stream in a patch, at most.

Together with the prefix this is what the tables of level 19 remember in full, 8 MiB: of more before
it the first bytes are forgotten, and only time and memory are lost.
"""

PREFIX_SIZE: Final = 5 * 1024 * 1024
"""Bytes of the base before a patch, at most."""


def cut_stream(
    sizes: Sequence[int],
    stream: Iterable[int],
    like: Mapping[int, int],
    base_sizes: Sequence[int],
) -> Iterator[list[BaseRange]]:
    """Cut files of the new tree, by number, into the pieces of patches, in order.

    `like` tells which file of the base each is like, if any. A patch has either several whole
    files, or a piece of one which is too large to stand with others, or whose like is.
    """
    gathered: list[BaseRange] = []
    before: set[int] = set()
    size = prefix_size = 0
    for file in stream:
        number = like.get(file)
        added = sizes[file]
        theirs = 0 if number is None else base_sizes[number]
        known = 0 if number in before else theirs
        if gathered and not _fits(size + added, prefix_size + known):
            yield gathered
            gathered, before, size, prefix_size, known = [], set(), 0, 0, theirs
        if not _fits(added, theirs):
            yield from _pieces(file, added)
            continue
        gathered.append(BaseRange(file, 0, added))
        size += added
        prefix_size += known
        if number is not None:
            before.add(number)
    if gathered:
        yield gathered


def _fits(size: int, prefix_size: int) -> bool:
    return size <= PIECE_SIZE and prefix_size <= PREFIX_SIZE


def whole_files(
    pieces: Iterable[BaseRange], like: Mapping[int, int], base_sizes: Sequence[int]
) -> list[BaseRange]:
    """What files of a patch are like, each once, in order."""
    numbers = dict.fromkeys(like[one.file] for one in pieces if one.file in like)
    return [BaseRange(number, 0, base_sizes[number]) for number in numbers]


def _pieces(file: int, size: int) -> Iterator[list[BaseRange]]:
    count = -(-size // PIECE_SIZE)
    for number in range(count):
        # Of equal size, so that the last is not a crumb.
        start, stop = number * size // count, (number + 1) * size // count
        yield [BaseRange(file, start, stop - start)]
