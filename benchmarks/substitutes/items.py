"""Items to be published: trees from a fixed seed, and the releases before them.

Nine files of ten are text, of words and phrases some of which are far more common than others; the
rest is records without order, as in programs. The older release has another line in the middle of
each file that changed; those that did not change are the same files, by hard link.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from guix_glue.formats import nixbase32

__all__ = ["Changes", "Item", "item_path", "make_item", "make_older"]

Changes = Literal["scattered", "side by side"]
"""Where the files that change are: anywhere, or one after the other in the order of names."""

_PER_DIRECTORY: Final = 40
_CHANGED: Final = 0.1
_BINARY: Final = 0.1
_WORDS: Final = 20_000
_PHRASES: Final = 10_000
_RECORDS: Final = 50_000


@dataclass(frozen=True, slots=True)
class Item:
    """A store item as it lies in the directory of a publisher, and what it is called here."""

    label: str
    path: Path
    files: int
    size: int

    @property
    def hash_part(self) -> str:
        """What its narinfo is asked for with."""
        return self.path.name[:32]

    def store_path(self, store_dir: str) -> str:
        """What the Guix daemon calls it."""
        return f"{store_dir}/{self.path.name}"


def item_path(directory: Path, name: str) -> Path:
    """Where an item of this name lies; its hash part says nothing of what is in it."""
    digest = hashlib.sha256(name.encode()).digest()[:20]
    return directory / f"{nixbase32.encode(digest)}-{name}"


class _Author:
    """Writes contents that compress as sources and programs do."""

    def __init__(self, seed: str) -> None:
        self.source = random.Random(seed)
        letters = string.ascii_lowercase + "aeiou"
        words = [
            "".join(self.source.choices(letters, k=self.source.randint(2, 9)))
            + self.source.choice((" ", " ", " ", "_", "(", ".", "\n    "))
            for _ in range(_WORDS)
        ]
        phrases = [
            "".join(self.source.choices(words, k=self.source.randint(2, 5)))
            for _ in range(_PHRASES)
        ]
        # A phrase for each two words, each with the common ones first.
        mixed = itertools.chain.from_iterable(zip(words[::2], words[1::2], phrases, strict=True))
        self._text = [one.encode() for one in mixed]
        self._records = [self.source.randbytes(self.source.randint(3, 16)) for _ in range(_RECORDS)]
        self._frequent = list(itertools.accumulate(1 / (n + 10) for n in range(_RECORDS)))

    def text(self, size: int) -> bytes:
        return self._chosen(self._text, size)

    def records(self, size: int) -> bytes:
        return self._chosen(self._records, size)

    def _chosen(self, pieces: Sequence[bytes], size: int) -> bytes:
        weights = self._frequent[: len(pieces)]
        found = bytearray()
        while len(found) < size:
            some = (size - len(found)) // 8 + 1
            found += b"".join(self.source.choices(pieces, cum_weights=weights, k=some))
        return bytes(found[:size])


def make_item(directory: Path, label: str, files: int, size: int) -> Item:
    """Make an item of so many files and bytes; half of them are below two fifths of the mean."""
    author = _Author(label)
    shares = [author.source.lognormvariate(0, 1.3) for _ in range(files)]
    whole = sum(shares)
    path = item_path(directory, label.replace(" ", "-").replace(",", ""))
    for number, share in enumerate(shares):
        binary = author.source.random() < _BINARY
        length = max(1, round(size * share / whole))
        content = author.records(length) if binary else author.text(length)
        file = path / f"{number // _PER_DIRECTORY:03}" / f"{number:05}.{'so' if binary else 'scm'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return Item(label, path, files, size)


def make_older(item: Item, changes: Changes) -> Item:
    """Make the release before an item, from which a tenth of the files changed."""
    author = _Author(f"{item.label}, {changes}")
    count = round(item.files * _CHANGED)
    first = item.files // 3
    chosen = range(first, first + count)
    changed = (
        set(chosen)
        if changes == "side by side"
        else set(author.source.sample(range(item.files), count))
    )
    path = item_path(item.path.parent, f"{item.path.name[33:]}-{changes.replace(' ', '-')}")
    for file in item.path.rglob("*.*"):
        older = path / file.relative_to(item.path)
        older.parent.mkdir(parents=True, exist_ok=True)
        if int(file.stem) in changed:
            older.write_bytes(_edited(file.read_bytes(), author))
        else:
            os.link(file, older)
    return Item(f"{item.label}, {changes}", path, item.files, item.size)


def _edited(content: bytes, author: _Author) -> bytes:
    """Another line in the middle, or what fits."""
    middle = len(content) // 2
    line = author.text(min(80, len(content) - middle))
    return content[:middle] + line + content[middle + len(line) :]
