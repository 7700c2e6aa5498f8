"""Lists of items, which travel beside their trees: a narinfo for each, references first. Pure.

A list is text. A head says what it is and whose store the items are of; then come the narinfos,
each with an empty line behind it, so that any reader of narinfos can read one. They have no URL,
and a line of their own: `Export-Signature`, what an archive of that item is signed with
(`formats/export.py`). A narinfo says in `ERIS` where the tree of its item is.

Nothing that is read here is believed: a list may be anybody's. `docs/formats.md` has the bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from guix_glue.errors import InvalidItemList, InvalidNarinfo
from guix_glue.formats.narinfo import DEFAULT_NARINFO_LIMITS, Narinfo, parse_narinfo
from guix_glue.model import StoreItem

__all__ = [
    "LIST_MAGIC",
    "MAX_LIST_ITEMS",
    "MAX_LIST_SIZE",
    "ItemList",
    "ListedItem",
    "export_signature_line",
    "format_item_list",
    "parse_item_list",
]

LIST_MAGIC: Final = b"Kapla-Items: "
"""How a list begins; its version follows."""

MAX_LIST_SIZE: Final = 128 * 1024 * 1024
"""Bytes of a list: room for some fifty thousand items, which is held in memory more than once."""
MAX_LIST_ITEMS: Final = 100_000
"""Items of a list. A whole system has one or two thousand."""

_VERSION: Final = b"1"
_LARGEST_HEAD: Final = 1024 * 1024
_EXPORT: Final = "Export-Signature: "
_LONGEST_SIGNATURE: Final = 8192


@dataclass(frozen=True, slots=True)
class ListedItem:
    """An item of a list: its narinfo, and what signs its archive, an s-expression in text."""

    narinfo: Narinfo
    export_signature: bytes | None = field(default=None, repr=False)

    @property
    def item(self) -> StoreItem:
        """What is said of it."""
        return self.narinfo.item


@dataclass(frozen=True, slots=True)
class ItemList:
    """A list: the store directory of its items, those that were asked for, and all of them.

    `wanted` are base names. Each item comes behind those of the list that it refers to.
    """

    store_dir: str
    wanted: tuple[str, ...]
    items: tuple[ListedItem, ...]


def export_signature_line(signature: bytes) -> bytes:
    """The line for a narinfo of a list that an archive's signature becomes."""
    return f"{_EXPORT}{base64.b64encode(signature).decode()}\n".encode()


def format_item_list(store_dir: str, wanted: Iterable[str], narinfos: Sequence[bytes]) -> bytes:
    """Write a list; the narinfos come in an order in which references come first.

    Raises: InvalidItemList, for one that nobody would read.
    """
    if len(narinfos) > MAX_LIST_ITEMS:
        raise InvalidItemList(f"it has {len(narinfos)} items, and may have {MAX_LIST_ITEMS}")
    head = [
        LIST_MAGIC + _VERSION,
        f"StoreDir: {store_dir}".encode(),
        f"Count: {len(narinfos)}".encode(),
        *(f"Wanted: {name}".encode() for name in wanted),
    ]
    text = b"".join((*(line + b"\n" for line in head), b"\n", *(one + b"\n" for one in narinfos)))
    if len(text) > MAX_LIST_SIZE:
        raise InvalidItemList(f"it has {len(text)} bytes, and may have {MAX_LIST_SIZE}")
    return text


def parse_item_list(text: bytes) -> ItemList:
    """Read a list. Raises: InvalidItemList."""
    if len(text) > MAX_LIST_SIZE:
        raise InvalidItemList(f"it has more than {MAX_LIST_SIZE} bytes")
    head, found, _ = text[:_LARGEST_HEAD].partition(b"\n\n")
    if not head.startswith(LIST_MAGIC):
        raise InvalidItemList("this content is no list of items")
    version = head[len(LIST_MAGIC) :].partition(b"\n")[0]
    if version != _VERSION:
        raise InvalidItemList("it is of a version that this kapla does not know")
    if not found:
        raise InvalidItemList(f"its head has no end, or more than {_LARGEST_HEAD} bytes")
    fields = _read_head(head)
    store_dir = _one(fields, "StoreDir")
    if not store_dir.startswith("/") or store_dir != store_dir.rstrip("/"):
        raise InvalidItemList("its store directory is no absolute path")
    items = tuple(_read_items(text[len(head) + 2 :], store_dir))
    if _one(fields, "Count") != str(len(items)):
        raise InvalidItemList(f"it has {len(items)} items, which is not what its head says")
    names = _check_order(items)
    wanted = tuple(dict.fromkeys(fields.get("Wanted", ())))
    for name in wanted:
        if name not in names:
            raise InvalidItemList("an item that was asked for is not in it")
    return ItemList(store_dir, wanted, items)


def _read_head(head: bytes) -> dict[str, list[str]]:
    """The lines of the head, by their names; names that are not known are for later versions."""
    fields: dict[str, list[str]] = {}
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise InvalidItemList("its head is no plain text") from None
    for line in lines:
        name, colon, value = line.partition(": ")
        if not colon or not line.isprintable():
            raise InvalidItemList("a line of its head is none")
        fields.setdefault(name, []).append(value)
    return fields


def _one(fields: dict[str, list[str]], name: str) -> str:
    found = fields.get(name, [])
    if len(found) != 1:
        raise InvalidItemList(f"its head has no {name}, or more than one")
    return found[0]


def _read_items(text: bytes, store_dir: str) -> Iterable[ListedItem]:
    start = count = 0
    while start < len(text):
        end = text.find(b"\n\n", start, start + DEFAULT_NARINFO_LIMITS.size + 2)
        if end < 0:
            raise InvalidItemList("an item of it is cut off, or too large")
        count += 1
        if count > MAX_LIST_ITEMS:
            raise InvalidItemList(f"it has more than {MAX_LIST_ITEMS} items")
        yield _read_item(text[start : end + 1], store_dir, count)
        start = end + 2


def _read_item(text: bytes, store_dir: str, number: int) -> ListedItem:
    try:
        narinfo = parse_narinfo(text, store_dir=store_dir)
    except InvalidNarinfo as error:
        raise InvalidItemList(f"item {number} of it: {error}") from error
    found = [line for line in narinfo.text.split("\n") if line.startswith(_EXPORT)]
    if not found:
        return ListedItem(narinfo)
    try:
        signature = base64.b64decode(found[0][len(_EXPORT) :], validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if not 0 < len(signature) <= _LONGEST_SIGNATURE:
        raise InvalidItemList(f"item {number} of it: its signature for an archive is none")
    return ListedItem(narinfo, signature)


def _check_order(items: Sequence[ListedItem]) -> set[str]:
    """See that references come first, so that they go round nowhere; gives all names."""
    names = {listed.item.base_name for listed in items}
    if len(names) != len(items):
        raise InvalidItemList("an item stands in it twice")
    before: set[str] = set()
    for listed in items:
        before.add(listed.item.base_name)
        for reference in listed.item.references:
            if reference in names and reference not in before:
                raise InvalidItemList("an item of it comes before one that it refers to")
    return names
