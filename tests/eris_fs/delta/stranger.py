"""A decoder written from docs/formats.md alone, on cbor2, zstd and hashlib; it checks no limits."""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from pathlib import Path

import cbor2
from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdDict

Entry = tuple[str, bytes]


def apply(content: bytes, base: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """Make the new tree; trees have for each path its kind (f, x, l, d), and content or target."""
    tag = cbor2.loads(content)
    assert tag.tag == 0x65726974 and tag.value[0] == "kapla-delta-1"
    body = tag.value[1]
    base_hash, new_hash = body[:32], body[32:64]
    entries, size, stream_size, index_size = (number(body, 64 + 8 * place) for place in range(4))
    base = in_order(base)
    assert base_hash == digest(outline(base))
    old = [one for kind, one in base.values() if kind in "fx"]
    at = 96 + index_size
    index = unpack(body[96:at], outline(base)[-(64 << 20) :])
    parts = []
    while index:
        length = number(index, 0)
        parts.append(index[8 : 8 + length])
        index = index[8 + length :]
    _, kinds, numbers, sizes, stored_sizes, counts, files, starts, rests, paths, targets = parts
    ranges = []
    following = 0
    for step, start, rest in zip(column(files), column(starts), column(rests), strict=True):
        file = (following + step) % (1 << 64)
        ranges.append(old[file][start : len(old[file]) - rest])
        following = file + 1
    stream = b""
    for made, stored_size, count in zip(
        column(sizes), column(stored_sizes), column(counts), strict=True
    ):
        stored, at = body[at : at + stored_size], at + stored_size
        before, ranges = b"".join(ranges[:count]), ranges[count:]
        stream += stored if stored_size == made else unpack(stored, before)
    assert (at, len(stream)) == (len(body), stream_size)
    tree: dict[bytes, Entry] = {}
    own: list[bytes] = []
    coming, target, following = iter(column(numbers)), iter(targets.split(b"\0")), 0
    for kind, path in zip(kinds, paths.split(b"\0")[:-1], strict=True):
        if kind in (0, 1):
            length = next(coming)
            own.append(stream[:length])
            stream = stream[length:]
            tree[path] = "fx"[kind], own[-1]
        elif kind in (4, 5):
            tree[path] = "fx"[kind - 4], own[next(coming)]
        elif kind in (6, 7):
            file = (following + next(coming)) % (1 << 64)
            following = file + 1
            tree[path] = "fx"[kind - 6], old[file]
        else:
            tree[path] = ("l", next(target)) if kind == 2 else ("d", b"")
    contents = [one for kind, one in tree.values() if kind in "fx"]
    assert (entries, size) == (len(tree), sum(map(len, contents)))
    assert list(tree) == list(in_order(tree))
    assert new_hash == digest(outline(tree) + b"".join(map(digest, contents)))
    return tree


def look(root: Path) -> dict[bytes, Entry]:
    """What is below a directory."""
    tree: dict[bytes, Entry] = {}
    top = os.fsencode(root)
    for way, directories, files in os.walk(top):
        if not directories and not files and way != top:
            tree[os.path.relpath(way, top)] = "d", b""
        for name in [*directories, *files]:
            where = os.path.join(way, name)
            if os.path.islink(where):
                tree[os.path.relpath(where, top)] = "l", os.readlink(where)
            elif name in files:
                is_program = os.stat(where).st_mode & stat.S_IXUSR
                with open(where, "rb") as file:
                    tree[os.path.relpath(where, top)] = "x" if is_program else "f", file.read()
    return tree


def outline(tree: dict[bytes, Entry]) -> bytes:
    """What a base is known by."""
    kinds = bytes("fxld".index(kind) for kind, _ in tree.values())
    sizes = [len(one).to_bytes(8, "little") for kind, one in tree.values() if kind in "fx"]
    by_rows = b"".join(bytes(size[place] for size in sizes) for place in range(8))
    paths = b"".join(path + b"\0" for path in tree)
    targets = b"".join(one + b"\0" for kind, one in tree.values() if kind == "l")
    parts = (kinds, by_rows, paths, targets)
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def in_order(tree: dict[bytes, Entry]) -> dict[bytes, Entry]:
    return {path: tree[path] for path in sorted(tree, key=lambda path: path.split(b"/"))}


def unpack(frame: bytes, prefix: bytes) -> bytes:
    before = ZstdDict(prefix, is_raw=True).as_prefix if len(prefix) >= 8 else None
    limits = {int(DecompressionParameter.window_log_max): 27}
    return ZstdDecompressor(zstd_dict=before, options=limits).decompress(frame)


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


def number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def column(data: bytes) -> list[int]:
    count = len(data) // 8
    return [int.from_bytes(data[place::count], "little") for place in range(count)]
