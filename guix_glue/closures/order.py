"""All that items refer to, and an order in which references come first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final

from guix_glue.errors import InvalidFacts, InvalidItems
from guix_glue.formats.item_list import MAX_LIST_ITEMS
from guix_glue.formats.store_path import hash_part_of
from guix_glue.local.items import Items
from guix_glue.model import StoreItem

__all__ = ["closure_of", "in_order"]

_SHOWN: Final = 3


async def closure_of(items: Items, wanted: Sequence[StoreItem]) -> list[StoreItem]:
    """These items and all they refer to, directly or not, references first.

    Raises: InvalidItems, if one is not there, or if they are too many; InvalidFacts; GuixError, if
    that cannot be found out.
    """
    found = {item.base_name: item for item in wanted}
    waiting = list(wanted)
    while waiting:
        item = waiting.pop()
        for name in item.references:
            if name in found:
                continue
            reference = await items.find(hash_part_of(name))
            if reference is None or reference.base_name != name:
                raise InvalidItems(f"{item.base_name} refers to {name}, which is not here")
            found[name] = reference
            waiting.append(reference)
            if len(found) > MAX_LIST_ITEMS:
                raise InvalidItems(f"there are more than {MAX_LIST_ITEMS} items")
    return in_order(found.values())


def in_order(items: Iterable[StoreItem]) -> list[StoreItem]:
    """The items, each behind those of them that it refers to; always the same order.

    Raises: InvalidFacts, if references go round, which no store has.
    """
    by_name = {item.base_name: item for item in sorted(items, key=lambda item: item.base_name)}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for name, item in by_name.items():
        sorter.add(name, *(one for one in item.references if one != name and one in by_name))
    try:
        return [by_name[name] for name in sorter.static_order()]
    except CycleError as error:
        round_trip = error.args[1] if len(error.args) > 1 else []
        shown = ", ".join(round_trip[:_SHOWN])
        raise InvalidFacts(f"items refer to each other in a circle: {shown}") from None
