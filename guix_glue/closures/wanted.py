"""What is to be fetched: items that somebody vouches for, from lists and servers, as one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from guix_glue.closures.belief import Belief
from guix_glue.closures.order import in_order
from guix_glue.errors import InvalidItemList, NotVouchedFor, SignatureRejected
from guix_glue.formats.item_list import ItemList
from guix_glue.formats.narinfo import Narinfo
from guix_glue.model import StoreItem
from guix_glue.servers.url import Server

__all__ = ["Wanted", "dangling", "joined", "vouched_for"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An item to fetch: what counts of it, where its tree may be, and who may have its nar.

    `archive_signature` is what its list gives for an archive, an s-expression in text.
    """

    item: StoreItem
    urns: tuple[str, ...] = field(default=(), repr=False)
    archive_signature: bytes | None = field(default=None, repr=False)
    narinfo: Narinfo | None = None
    server: Server | None = None

    @classmethod
    def of(
        cls,
        item: StoreItem,
        narinfo: Narinfo,
        signature: bytes | None = None,
        server: Server | None = None,
    ) -> Wanted:
        """What a narinfo says of an item; `item` is as much of that as is believed."""
        urns = [narinfo.signed_urn, narinfo.hint_urn]
        if server is None:
            # A hint of a list is what was encoded with it; one that is signed may be another's.
            urns.reverse()
        # It covers the deriver, which is left out where nobody signed it.
        fits = item.deriver == narinfo.item.deriver
        return cls(
            item,
            tuple(dict.fromkeys(urn for urn in urns if urn)),
            signature if fits else None,
            narinfo,
            server,
        )


def vouched_for(items: ItemList, belief: Belief) -> list[Wanted]:
    """All items of a list. Raises: NotVouchedFor, if nobody vouches for some of them."""
    found: list[Wanted] = []
    refused: list[tuple[str, str]] = []
    for listed in items.items:
        try:
            item = belief.item(listed.narinfo)
        except SignatureRejected as error:
            refused.append((listed.item.base_name, error.reason))
        else:
            found.append(Wanted.of(item, listed.narinfo, listed.export_signature))
    if refused:
        name, reason = refused[0]
        raise NotVouchedFor(name, len(refused), len(items.items), reason)
    return found


def joined(parts: Iterable[Iterable[Wanted]]) -> list[Wanted]:
    """All of them, each once, references first; the first that names an item counts.

    Raises: InvalidItemList, if two say different things of an item, or are of different stores.
    """
    by_path: dict[str, Wanted] = {}
    for part in parts:
        for wanted in part:
            before = by_path.setdefault(wanted.item.path, wanted)
            if before.item.nar_hash != wanted.item.nar_hash:
                raise InvalidItemList(
                    f"{wanted.item.base_name} has one hash here and another there: fetch one after"
                    " the other"
                )
    if len({wanted.item.store_dir for wanted in by_path.values()}) > 1:
        raise InvalidItemList("the items belong to more than one store: fetch one after the other")
    return [by_path[item.path] for item in in_order(one.item for one in by_path.values())]


def dangling(wanted: Sequence[Wanted], valid: AbstractSet[str] = frozenset()) -> list[str]:
    """Base names of what the items refer to that is neither among them nor `valid`."""
    there = {one.item.base_name for one in wanted} | valid
    missing = (name for one in wanted for name in one.item.references if name not in there)
    return list(dict.fromkeys(missing))
