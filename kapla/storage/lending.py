"""Questions of those to whom only what is lent is there, apart from those of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eris.model import Reference
from kapla.storage.port import Reader

__all__ = ["Lent", "apart", "lent_blocks", "lent_names"]


class Lent(tuple[Reference, ...]):
    """References that are asked for by somebody to whom only lent blocks are there."""

    __slots__ = ()


_Batch = list[Sequence[Reference]]


def apart(
    others: Callable[[_Batch], list[object]],
    lent: Callable[[_Batch], list[object]],
    then: Callable[[], None],
) -> Callable[[_Batch], list[object]]:
    """A round that does what is asked for lent blocks by `lent`, and all else by `others`.

    `then` is called after the former, as the latter do it themselves.
    """

    def work(batch: _Batch) -> list[object]:
        are_lent = [isinstance(part, Lent) for part in batch]
        if not any(are_lent):
            return others(batch)
        theirs = [part for part, is_lent in zip(batch, are_lent, strict=True) if not is_lent]
        of_others = iter(others(theirs) if theirs else ())
        of_lent = iter(lent([part for part in batch if isinstance(part, Lent)]))
        then()
        return [next(of_lent if is_lent else of_others) for is_lent in are_lent]

    return work


def lent_blocks(reader: Reader, batch: _Batch) -> list[object]:
    """For each part the lent blocks, None for each that is not there or not lent."""
    found = reader.get_lent([name for part in batch for name in part])
    return [list(map(found.get, part)) for part in batch]


def lent_names(reader: Reader, batch: _Batch) -> list[object]:
    """For each part, which of the blocks are there and lent."""
    found = reader.find_lent([name for part in batch for name in part])
    return [[name in found for name in part] for part in batch]
