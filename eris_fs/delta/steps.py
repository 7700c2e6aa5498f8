"""Files of a tree read in steps: many small ones in one, a large one in several; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from eris_fs.delta.model import BaseRange

__all__ = ["STEP", "steps"]

STEP: Final = 4 * 1024 * 1024
"""Bytes that are read at a time: a call costs little beside them, and they cost little memory."""

# Of files that are all but empty.
_MOST_RANGES: Final = 4096


def steps(sizes: Sequence[int], files: Iterable[int]) -> Iterator[list[BaseRange]]:
    """Cut files of these sizes, named by their numbers, into ranges to read together.

    Each step has at most `STEP` bytes; empty files are in none.
    """
    step: list[BaseRange] = []
    room = STEP
    for file in files:
        offset = 0
        while offset < sizes[file]:
            if not room or len(step) == _MOST_RANGES:
                yield step
                step, room = [], STEP
            length = min(room, sizes[file] - offset)
            step.append(BaseRange(file, offset, length))
            offset += length
            room -= length
    if step:
        yield step
