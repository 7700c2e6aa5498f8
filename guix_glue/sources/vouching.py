"""Which narinfos an item may be fetched by: those that are authorized, and those that say the same.

An item is fetched only on the word of a narinfo that an authorized key signed. A server whose own
narinfo is not signed, or by a key that nobody authorized, may still bring the bytes, if it names
the same path, hash, references and size: what it brings is compared with the signed hash. Its ERIS
URN is then no more than a hint. Pure: bytes in, judgement out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from guix_glue.errors import GuixError, InvalidNarinfo, SignatureRejected
from guix_glue.formats.narinfo import Narinfo, parse_narinfo
from guix_glue.formats.store_path import hash_part_of
from guix_glue.model import StoreItem
from guix_glue.servers.url import Server
from guix_glue.trust.authorities import Authorities

__all__ = [
    "Candidate",
    "Rejected",
    "Vouched",
    "find_vouched",
    "read_candidates",
    "says_the_same",
]

Rejected = Callable[[Server, str, GuixError], None]
"""Is called with a server, a path, and why its narinfo is not used."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one server says of an item."""

    server: Server
    narinfo: Narinfo


@dataclass(frozen=True, slots=True)
class Vouched:
    """An authorized narinfo, and all candidates that say the same, in the order of the servers."""

    narinfo: Narinfo
    candidates: tuple[Candidate, ...]

    @property
    def item(self) -> StoreItem:
        """What may be told of the item: what is signed, and its size."""
        item = self.narinfo.item
        return item if "Deriver" in self.narinfo.signed_fields else replace(item, deriver=None)

    @property
    def size_is_signed(self) -> bool:
        """Whether the size of the nar is vouched for too; stock Guix does not ask for it."""
        return "NarSize" in self.narinfo.signed_fields


def read_candidates(
    path: str,
    store_dir: str,
    found: Sequence[tuple[Server, Mapping[str, bytes]]],
    rejected: Rejected,
) -> list[Candidate]:
    """Parse what servers answered (by hash part) of a path, in their order.

    A candidate names the very path.
    """
    result = []
    for server, texts in found:
        text = texts.get(hash_part_of(path))
        if text is None:
            continue
        try:
            narinfo = parse_narinfo(text, store_dir=store_dir)
        except InvalidNarinfo as error:
            rejected(server, path, error)
            continue
        if narinfo.item.path == path:
            result.append(Candidate(server, narinfo))
        else:
            rejected(server, path, InvalidNarinfo("it is another item's", field="StorePath"))
    return result


def find_vouched(
    candidates: Sequence[Candidate], authorities: Authorities, rejected: Rejected
) -> Iterator[Vouched]:
    """The ways in which an item may be fetched, best first; signatures are checked one by one.

    The first is what the daemon is told about the item. Others are of use only while they agree
    with it on the references: a later server may have built the item with another result.
    """
    left = list(candidates)
    first: Narinfo | None = None
    while left:
        judged = left[0]
        left = left[1:]
        narinfo = judged.narinfo
        if first is not None and narinfo.item.references != first.item.references:
            continue
        try:
            believed = authorities.believed(narinfo)
        except SignatureRejected as error:
            rejected(judged.server, narinfo.item.path, error)
            continue
        first = first or narinfo
        same = [one for one in candidates if says_the_same(one.narinfo, narinfo)]
        left = [one for one in left if one not in same]
        as_believed = Candidate(judged.server, believed)
        yield Vouched(believed, tuple(as_believed if one is judged else one for one in same))


def says_the_same(one: Narinfo, other: Narinfo) -> bool:
    """Whether what two servers say of an item leads to the same bytes."""
    return (
        one.item.path == other.item.path
        and one.item.nar_hash == other.item.nar_hash
        and one.item.nar_size == other.item.nar_size
        and one.item.references == other.item.references
    )
