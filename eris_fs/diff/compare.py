"""Two trees, compared entry by entry, by what their indexes say; pure.

Files of ERIS-FS 1 have the same content if they have the same capability. A file of a packed tree
is a part of packs: in the same place of the same packs it is the same. In other packs it may still
be: then the index does not tell, unless the sizes do. That is said, and not guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum

from eris_fs.model import Entry, Pack, PackedFile, PackedTree, Path, RegularFile, Tree
from eris_fs.packed.plan import slices_of

__all__ = ["Change", "Content", "Sort", "compare"]


class Content(Enum):
    """Whether two files have the same content."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"
    """The indexes do not tell: whoever wants to know has to read both."""


class Sort(Enum):
    """What happened to an entry."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    """Another content, another target, or another kind of entry."""
    MODE = "mode"
    """The owner's x bit, and nothing else."""
    RENAMED = "renamed"
    UNCERTAIN = "uncertain"
    """It may be the same."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `before`: where a renamed file was."""

    sort: Sort
    path: Path
    old: Entry | None
    new: Entry | None
    before: Path | None = None

    @property
    def changes_mode(self) -> bool:
        """Whether a file is executable now and was not, or the reverse."""
        old, new = self.old, self.new
        if not isinstance(old, RegularFile | PackedFile):
            return False
        return isinstance(new, RegularFile | PackedFile) and old.executable != new.executable


def compare(old: Tree, new: Tree) -> list[Change]:
    """Tell what differs, in the order of the paths.

    A file that has gone from one path and come to another is one that was renamed: of several equal
    ones, to where it has the same name, else in the order of the paths.
    """
    identities = _Identities(old, new)
    changes: list[Change] = []
    added: list[Path] = []
    for path in sorted(new):
        before, now = old.get(path), new[path]
        if before is None:
            added.append(path)
        elif (sort := _sort(before, now, identities)) is not None:
            changes.append(Change(sort, path, before, now))
    removed = [path for path in sorted(old) if path not in new]
    renamed = _renames(old, new, removed, added, identities)
    gone = set(renamed.values())
    changes += [Change(Sort.RENAMED, to, old[at], new[to], at) for to, at in renamed.items()]
    changes += [Change(Sort.ADDED, at, None, new[at]) for at in added if at not in renamed]
    changes += [Change(Sort.REMOVED, at, old[at], None) for at in removed if at not in gone]
    return sorted(changes, key=lambda change: change.path)


def _same_content(old: Entry, new: Entry, identities: _Identities) -> Content:
    """Whether two files have the same content, as far as the indexes tell."""
    if identities.of_old(old) == identities.of_new(new):
        return Content.SAME
    if isinstance(old, PackedFile) and isinstance(new, PackedFile):
        return Content.UNKNOWN if old.size == new.size else Content.OTHER
    if isinstance(old, PackedFile) or isinstance(new, PackedFile):
        return Content.UNKNOWN
    return Content.OTHER


def _sort(old: Entry, new: Entry, identities: _Identities) -> Sort | None:
    """What happened to what is at one path; None for nothing."""
    files = RegularFile | PackedFile
    if not isinstance(old, files) or not isinstance(new, files):
        return None if old == new else Sort.CHANGED
    content = _same_content(old, new, identities)
    if content is Content.OTHER:
        return Sort.CHANGED
    if content is Content.UNKNOWN:
        return Sort.UNCERTAIN
    return None if old.executable == new.executable else Sort.MODE


class _Identities:
    """What stands for the content of files: equal for equal ones, if the trees are made alike."""

    def __init__(self, old: Tree, new: Tree) -> None:
        self._old: Sequence[Pack] = old.packs if isinstance(old, PackedTree) else ()
        self._new: Sequence[Pack] = new.packs if isinstance(new, PackedTree) else ()

    def of_old(self, entry: Entry) -> Hashable:
        """Of a file of the old tree; None of what is no file."""
        return self._of(self._old, entry)

    def of_new(self, entry: Entry) -> Hashable:
        """The same of the new one."""
        return self._of(self._new, entry)

    @staticmethod
    def _of(packs: Sequence[Pack], entry: Entry) -> Hashable:
        if isinstance(entry, RegularFile):
            return entry.capability
        if isinstance(entry, PackedFile):
            parts = slices_of(packs, entry)
            return tuple((packs[number].capabilities, at, end) for number, at, end in parts)
        return None


def _renames(
    old: Tree, new: Tree, removed: list[Path], added: list[Path], identities: _Identities
) -> dict[Path, Path]:
    """From where files were renamed, by where they are now."""
    gone: defaultdict[Hashable, list[Path]] = defaultdict(list)
    for path in removed:
        if identity := identities.of_old(old[path]):
            gone[identity].append(path)
    renamed: dict[Path, Path] = {}
    for is_strict in (True, False):
        for path in added:
            identity = identities.of_new(new[path])
            if path in renamed or not identity or identity not in gone:
                continue
            found = [one for one in gone[identity] if not is_strict or one[-1:] == path[-1:]]
            if found:
                renamed[path] = found[0]
                gone[identity].remove(found[0])
    return renamed
