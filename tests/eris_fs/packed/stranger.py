"""A decoder written from docs/formats.md alone, on cbor2, zstandard and eris; it checks nothing."""

from __future__ import annotations

import cbor2
import zstandard

from eris import MemoryStore, ReadCapability, get_content


async def unpack(store: MemoryStore, urn: str) -> dict[bytes, tuple[str, bytes]]:
    """Read a packed tree: for each path its kind (f, x, l, d), and its content or target."""
    tag = cbor2.loads(await get_content(store, ReadCapability.from_urn(urn)))
    assert tag.tag == 0x65726974 and tag.value[0] == "kapla-packed-1"
    rest = zstandard.decompress(tag.value[1])
    sections = []
    while rest:
        length = int.from_bytes(rest[:8], "little")
        sections.append(rest[8 : 8 + length])
        rest = rest[8 + length :]
    _, sizes, stored_sizes, capabilities, kinds, numbers, paths, targets = sections
    stream = b""
    for size, stored_size in zip(column(sizes), column(stored_sizes), strict=True):
        stored = b""
        while len(stored) < stored_size:
            piece = ReadCapability.from_bytes(capabilities[:66])
            stored, capabilities = stored + await get_content(store, piece), capabilities[66:]
        stream += stored if stored_size == size else zstandard.decompress(stored)
    tree: dict[bytes, tuple[str, bytes]] = {}
    contents: list[bytes] = []
    number, target, at = iter(column(numbers)), iter(targets.split(b"\0")), 0
    for kind, path in zip(kinds, paths.split(b"\0")[:-1], strict=True):
        if kind in (0, 1):
            size = next(number)
            contents.append(stream[at : at + size])
            at += size
            tree[path] = "fx"[kind], contents[-1]
        elif kind in (4, 5):
            tree[path] = "fx"[kind - 4], contents[next(number)]
        else:
            tree[path] = ("l", next(target)) if kind == 2 else ("d", b"")
    return tree


def column(data: bytes) -> list[int]:
    count = len(data) // 8
    return [int.from_bytes(data[place::count], "little") for place in range(count)]
