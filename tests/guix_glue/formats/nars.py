"""Nars put together string by string, with no help of what is tested."""

from __future__ import annotations

import lzma
import zlib
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import zstandard

from guix_glue.formats.nar import Data, Directory, File, NarEvent, NarPath, Symlink
from guix_glue.formats.narinfo import parse_narinfo
from tests.guix_glue.samples import SAMPLES

__all__ = ["Link", "Node", "Plain", "events_of", "joined", "nar", "row", "sample_nars", "string"]


@dataclass(frozen=True)
class Plain:
    content: bytes
    executable: bool = False


@dataclass(frozen=True)
class Link:
    target: bytes


Node = Plain | Link | dict[bytes, "Node"]


def string(content: bytes) -> bytes:
    padding = bytes(8 - len(content) % 8) if len(content) % 8 else b""
    return len(content).to_bytes(8, "little") + content + padding


def row(*strings: bytes) -> bytes:
    return b"".join(map(string, strings))


def nar(node: Node) -> bytes:
    return string(b"nix-archive-1") + _node(node)


def _node(node: Node) -> bytes:
    match node:
        case Plain(content, executable):
            marks = (b"executable", b"") if executable else ()
            return row(b"(", b"type", b"regular", *marks, b"contents", content, b")")
        case Link(target):
            return row(b"(", b"type", b"symlink", b"target", target, b")")
        case _:
            entries = b"".join(
                row(b"entry", b"(", b"name", name, b"node") + _node(node[name]) + string(b")")
                for name in sorted(node)
            )
            return row(b"(", b"type", b"directory") + entries + string(b")")


def events_of(node: Node, path: NarPath = ()) -> list[NarEvent]:
    match node:
        case Plain(content, executable):
            file = File(path, len(content), executable)
            return [file, Data(content)] if content else [file]
        case Link(target):
            return [Symlink(path, target)]
        case _:
            below = [events_of(node[name], (*path, name)) for name in sorted(node)]
            return [Directory(path), *chain.from_iterable(below)]


def joined(events: list[NarEvent]) -> list[NarEvent]:
    """Put pieces of contents that follow each other together."""
    result: list[NarEvent] = []
    for event in events:
        if isinstance(event, Data) and result and isinstance(result[-1], Data):
            result[-1] = Data(b"".join((result[-1].content, event.content)))
        else:
            result.append(Data(bytes(event.content)) if isinstance(event, Data) else event)
    return result


def sample_nars() -> dict[str, tuple[bytes, bytes]]:
    """All captured nars by file name, with the hashes of their narinfos."""
    hashes = {}
    for path in SAMPLES.glob("narinfo/*/*.narinfo"):
        if path.parent.name != "variants-fed-to-stock-guix":
            item = parse_narinfo(path.read_bytes(), store_dir="/gnu/store").item
            hashes[item.base_name] = item.nar_hash
    found = {
        path.name: (_unpack(path), hashes[path.name.partition(".nar")[0]])
        for path in sorted(SAMPLES.glob("nar/*.nar*"))
    }
    for path in sorted(SAMPLES.glob("nix-2.8/*.narinfo")):
        narinfo = parse_narinfo(path.read_bytes(), store_dir="/nix/store")
        content = _unpack(SAMPLES / "nix-2.8" / narinfo.urls[0].url)
        found[narinfo.item.name] = (content, narinfo.item.nar_hash)
    return found


def _unpack(path: Path) -> bytes:
    content = path.read_bytes()
    match path.suffix:
        case ".gz":
            return zlib.decompress(content, 31)
        case ".zst":
            return zstandard.ZstdDecompressor().decompressobj().decompress(content)
        case ".lz":
            # A header of 6 bytes and a trailer of 20 around LZMA with a dictionary of any size.
            codec = lzma.LZMADecompressor(
                lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 25}]
            )
            return codec.decompress(content[6:-20])
        case _:
            return content
