"""Files and ranges of a base, read many in one call and a large one in several.

A call to the base costs a thread, whatever it reads; so small ranges go together, but not so many
that a cancellation would wait for long.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from eris_fs.delta.files import TreeFiles
from eris_fs.delta.model import BaseFile, BaseRange

__all__ = ["read_ranges", "read_steps", "whole_files"]

_STEP: Final = 1024 * 1024
_MOST_RANGES: Final = 1024


def whole_files(files: Iterable[BaseFile]) -> Iterator[BaseRange]:
    """The ranges that together are these files: large ones in steps, nothing of empty ones."""
    for file in files:
        for offset in range(0, file.size, _STEP):
            yield BaseRange(file.number, offset, min(_STEP, file.size - offset))


async def read_steps(base: TreeFiles, ranges: Iterable[BaseRange]) -> AsyncGenerator[bytes, None]:
    """Read ranges of at most 1 MiB in order, about 1 MiB a step."""
    step: list[BaseRange] = []
    size = 0
    for one in ranges:
        step.append(one)
        size += one.length
        if size >= _STEP or len(step) >= _MOST_RANGES:
            yield await base.read(step)
            step, size = [], 0
    if step:
        yield await base.read(step)


async def read_ranges(base: TreeFiles, ranges: Sequence[BaseRange]) -> bytes:
    """Read ranges of together at most 64 MiB, joined."""
    coming = iter(ranges)
    parts: list[bytes] = []
    while some := list(islice(coming, _MOST_RANGES)):
        parts.append(await base.read(some))
    return b"".join(parts)
