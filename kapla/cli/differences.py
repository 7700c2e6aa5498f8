"""Differences of two trees, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import eris_fs
from eris_fs import Change, Sort
from kapla.amounts import blocks_text, bytes_text

__all__ = ["Differences"]

_MARKS: Final = {
    Sort.ADDED: "+",
    Sort.REMOVED: "-",
    Sort.CHANGED: "~",
    Sort.MODE: "x",
    Sort.RENAMED: ">",
    Sort.UNCERTAIN: "?",
}


@dataclass(slots=True)
class Differences:
    """What differs, with the sizes in bytes of what was and what is, by path."""

    changes: Sequence[Change]
    old_sizes: dict[eris_fs.Path, int]
    new_sizes: dict[eris_fs.Path, int]
    cost: eris_fs.Amount | None = None
    """The blocks that only the new tree has; None if that is not known."""

    def lines(self) -> Iterator[str]:
        """A line for each difference, and the sums."""
        sizes = [self._size_text(change) for change in self.changes]
        width = max(map(len, sizes), default=0)
        for change, size in zip(self.changes, sizes, strict=True):
            yield f"{_MARKS[change.sort]}  {size.rjust(width)}  {_what(change)}"
        if self.changes:
            yield ", ".join(self._sums())
        if any(change.sort is Sort.UNCERTAIN for change in self.changes):
            yield "?: in other packs than before, of the same size; --read compares the contents"
        if self.cost is not None and (self.changes or self.cost.blocks):
            amount = f"{blocks_text(self.cost.blocks)} ({bytes_text(self.cost.bytes)})"
            yield f"to have the new one: {amount} that the old one does not have"

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        facts: dict[str, Any] = {"changes": [self._facts(change) for change in self.changes]}
        facts |= {sort.value: len(self._of(sort)) for sort in Sort}
        facts["added_bytes"] = self._bytes(self._of(Sort.ADDED), self.new_sizes)
        facts["removed_bytes"] = self._bytes(self._of(Sort.REMOVED), self.old_sizes)
        facts["changed_bytes"] = self._bytes(self._of(Sort.CHANGED), self.new_sizes)
        facts["changed_bytes_before"] = self._bytes(self._of(Sort.CHANGED), self.old_sizes)
        facts["new_blocks"] = None if self.cost is None else self.cost.blocks
        facts["new_block_bytes"] = None if self.cost is None else self.cost.bytes
        return facts

    def _of(self, sort: Sort) -> list[Change]:
        return [change for change in self.changes if change.sort is sort]

    @staticmethod
    def _bytes(changes: Sequence[Change], sizes: dict[eris_fs.Path, int]) -> int:
        return sum(sizes.get(change.path, 0) for change in changes)

    def _sums(self) -> Iterator[str]:
        for sort in Sort:
            changes = self._of(sort)
            if not changes:
                continue
            text = f"{len(changes):,} {_WORDS[sort]}"
            before = self._bytes(changes, self.old_sizes)
            now = self._bytes(changes, self.new_sizes)
            if sort is Sort.ADDED:
                text += f" ({bytes_text(now)})"
            elif sort is Sort.REMOVED:
                text += f" ({bytes_text(before)})"
            elif sort is Sort.CHANGED:
                text += f" ({bytes_text(now)}, {_growth(before, now)})"
            yield text

    def _size_text(self, change: Change) -> str:
        before, now = self.old_sizes.get(change.path), self.new_sizes.get(change.path)
        if change.sort is Sort.CHANGED and before is not None and now is not None:
            return _from_to(before, now)
        size = before if now is None else now
        return "" if size is None else bytes_text(size)

    def _facts(self, change: Change) -> dict[str, Any]:
        facts: dict[str, Any] = {"change": change.sort.value, "path": list(change.path)}
        if change.before is not None:
            facts["from"] = list(change.before)
        if change.old is not None:
            size = self.old_sizes.get(change.before or change.path)
            facts["old"] = _entry_facts(change.old, size)
        if change.new is not None:
            facts["new"] = _entry_facts(change.new, self.new_sizes.get(change.path))
        return facts


_WORDS: Final = {
    Sort.ADDED: "added",
    Sort.REMOVED: "removed",
    Sort.CHANGED: "changed",
    Sort.MODE: "made executable or no longer so",
    Sort.RENAMED: "renamed",
    Sort.UNCERTAIN: "that may have changed",
}


def _from_to(before: int, now: int) -> str:
    """Two sizes, or the one and by how much it grew, if they look the same."""
    if bytes_text(before) != bytes_text(now) or before == now:
        return f"{bytes_text(before)} -> {bytes_text(now)}"
    return f"{bytes_text(now)} ({_growth(before, now)})"


def _growth(before: int, now: int) -> str:
    return f"{'+' if now >= before else '-'}{bytes_text(abs(now - before))}"


def _entry_facts(entry: eris_fs.Entry, size: int | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": _kind(entry)}
    if size is not None:
        facts["size"] = size
    if isinstance(entry, eris_fs.Symlink):
        facts["target"] = entry.target
    return facts


def _kind(entry: eris_fs.Entry) -> str:
    if isinstance(entry, eris_fs.Symlink):
        return "symlink"
    if isinstance(entry, eris_fs.EmptyDirectory):
        return "directory"
    return "executable" if entry.executable else "file"


def _what(change: Change) -> str:
    """The path, and what is not told by the mark alone."""
    text = eris_fs.show_path(change.path)
    if change.before is not None:
        text = f"{eris_fs.show_path(change.before)} -> {text}"
    elif isinstance(change.new or change.old, eris_fs.EmptyDirectory):
        text += "/"
    if change.changes_mode:
        assert change.new is not None
        return f"{text} ({'executable now' if _kind(change.new) != 'file' else 'not executable'})"
    if change.sort is Sort.CHANGED and change.old is not None and change.new is not None:
        before, now = _described(change.old), _described(change.new)
        return text if before == now else f"{text} ({now}, was {before})"
    return text


def _described(entry: eris_fs.Entry) -> str:
    if isinstance(entry, eris_fs.Symlink):
        return f"symlink to {eris_fs.printable(entry.target)}"
    return "empty directory" if isinstance(entry, eris_fs.EmptyDirectory) else "file"
