"""Trees to test with: made up, laid out on disk, and read back independently of `eris_fs`."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from eris import BlockSize, Key, ReadCapability, Reference, ReferenceKeyPair
from eris.crypto import encrypt_node

# One to five bytes a letter, what terminals and shells dislike, both Unicode forms of é.
_LETTERS = st.one_of(
    st.sampled_from("ab.- \n\x1b\\*éé\u0301ß日😀"),
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"),
)
names = st.text(_LETTERS, min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 255
)
targets = st.one_of(
    st.sampled_from(["/", "..", "../../etc/passwd", "/nowhere/at/all", ".", "a"]),
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60
    ),
)
sizes = st.sampled_from([0, 1, 2, 1023, 1024, 1025, 16383, 16384, 32767, 32768, 32769, 300_000])


@dataclass(frozen=True)
class File:
    """A file on disk."""

    content: bytes
    executable: bool = False


@dataclass(frozen=True)
class Link:
    """A symlink on disk."""

    target: str


Node = File | Link | dict[str, "Node"]
"""What a path leads to on disk; a dict is a directory."""

files = st.builds(
    lambda size, seed, executable: File((seed * (size // 4 + 1))[:size], executable),
    sizes,
    st.binary(min_size=4, max_size=4),
    st.booleans(),
)
nodes: st.SearchStrategy[Node] = st.recursive(
    st.one_of(files, st.builds(Link, targets)),
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
directories: st.SearchStrategy[Node] = st.dictionaries(names, nodes, max_size=5)


def lay_out(node: Node, where: Path) -> None:
    """Create a node on disk, the entries of a directory in the order of the dict."""
    match node:
        case File(content, executable):
            where.write_bytes(content)
            where.chmod(0o755 if executable else 0o644)
        case Link(target):
            os.symlink(target, where)
        case dict():
            where.mkdir()
            for name, inner in node.items():
                lay_out(inner, where / name)


def read_back(where: Path) -> Node:
    """Read from disk what `lay_out` would create."""
    mode = where.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Link(os.readlink(where))
    if stat.S_ISDIR(mode):
        return {name: read_back(where / name) for name in os.listdir(where)}
    return File(where.read_bytes(), bool(mode & stat.S_IXUSR))


def bomb(level: int) -> tuple[ReadCapability, list[bytes]]:
    """Make content of 1024 times 16 to the `level` bytes out of `level` + 1 blocks.

    It has no end: what stands there is no padding. Nobody will see.
    """
    block_size = BlockSize.SMALL
    reference, key, block = encrypt_node(bytes(block_size), 0)
    blocks = [block]
    for height in range(1, level + 1):
        pairs = (reference + key) * block_size.arity
        reference, key, block = encrypt_node(pairs, height)
        blocks.append(block)
    root = ReferenceKeyPair(Reference(reference), Key(key))
    return ReadCapability(block_size, level, root), blocks


def capability(number: int = 0) -> ReadCapability:
    """Make up a capability; no block belongs to it."""
    return ReadCapability.from_bytes(bytes([10, 0]) + number.to_bytes(64, "big"))
