"""File trees as ERIS content: ERIS-FS, version 1, and packed trees (`docs/formats.md`).

```python
capability = await eris_fs.put_tree(store, "photos")
tree = await eris_fs.load_tree(store, capability)
await eris_fs.get_tree(store, tree, "copy")

packed = await eris_fs.put_packed_tree(store, "photos")    # read by the same functions
```

A delta (`open_delta`) makes a tree out of another one that is there.
"""

from typing import TYPE_CHECKING

from eris.lazy import reexport

if TYPE_CHECKING:
    from eris_fs.batch import SizeRule
    from eris_fs.contents import read_files
    from eris_fs.delta.apply import Delta, open_delta
    from eris_fs.delta.directory import DirectoryFiles
    from eris_fs.delta.encode import PutDelta, put_delta
    from eris_fs.delta.files import TreeFiles
    from eris_fs.delta.stored import StoredFiles
    from eris_fs.diff import (
        Amount,
        Change,
        Sort,
        compare,
        new_blocks,
        settle,
        settle_by_size,
    )
    from eris_fs.errors import (
        DeltaTooLarge,
        FileChanged,
        InvalidManifest,
        InvalidPack,
        InvalidPatch,
        IsADirectory,
        IsASymlink,
        NotADirectory,
        NotAFile,
        NotFound,
        NotUtf8,
        OtherBase,
        OtherListing,
        PathError,
        TargetExists,
        TreeError,
        TreeTooLarge,
        Unreadable,
        UnsafePath,
        UnsupportedEntry,
        Vanished,
    )
    from eris_fs.exclude import (
        Exclude,
        InvalidPattern,
        Pattern,
        Patterns,
        parse_pattern,
        parse_patterns,
    )
    from eris_fs.fetch import FilePiece, fetch_files
    from eris_fs.known import ContentCache, KnownContents
    from eris_fs.large import PutFile, put_file
    from eris_fs.listing import entries_below, entries_in, is_directory, nearest, path_of
    from eris_fs.manifest import MAGIC, ManifestReader, format_manifest, looks_like_tree
    from eris_fs.model import (
        EmptyDirectory,
        Entry,
        FileEntry,
        Limits,
        Pack,
        PackedFile,
        PackedTree,
        Path,
        RegularFile,
        Symlink,
        Tree,
        printable,
        show_path,
    )
    from eris_fs.packed import (
        DEFAULT_LEVEL,
        MAX_LEVEL,
        choose_by_cost,
        packs_of,
        put_packed_tree,
        read_pack,
        writer_name,
    )
    from eris_fs.part import NothingMatches, Part, take_part
    from eris_fs.progress import Progress, Share, Whole
    from eris_fs.reader import ContentReader, EntryInfo, Kind, TreeReader
    from eris_fs.references import FoundReferences, ReferenceWalk
    from eris_fs.remove import remove_at, remove_tree
    from eris_fs.restore import Restorer
    from eris_fs.scan import OpenFile, Root, TreeSize, measure_tree, scan_tree
    from eris_fs.selection import EVERYTHING, Forbidden, ForbiddenFile, Selection
    from eris_fs.sizes import FoundSizes, find_sizes
    from eris_fs.sparse import SparseFile
    from eris_fs.stamp import Stamp, settled_status
    from eris_fs.survey import Survey, survey_content, survey_tree
    from eris_fs.tree import get_files, get_tree, load_tree, put_manifest, put_tree, read_tree
    from eris_fs.walk import FoundBlock, contents_of, walk_contents
else:
    # Loaded when it is used: a command shows its help without.
    __getattr__ = reexport(
        __name__,
        {
            "batch": ("SizeRule",),
            "contents": ("read_files",),
            "delta.apply": ("Delta", "open_delta"),
            "delta.directory": ("DirectoryFiles",),
            "delta.encode": ("PutDelta", "put_delta"),
            "delta.files": ("TreeFiles",),
            "delta.stored": ("StoredFiles",),
            "diff": (
                "Amount",
                "Change",
                "Sort",
                "compare",
                "new_blocks",
                "settle",
                "settle_by_size",
            ),
            "errors": (
                "DeltaTooLarge",
                "FileChanged",
                "InvalidManifest",
                "InvalidPack",
                "InvalidPatch",
                "NotAFile",
                "IsADirectory",
                "IsASymlink",
                "NotADirectory",
                "NotFound",
                "NotUtf8",
                "OtherBase",
                "OtherListing",
                "PathError",
                "TargetExists",
                "TreeError",
                "TreeTooLarge",
                "Unreadable",
                "UnsafePath",
                "UnsupportedEntry",
                "Vanished",
            ),
            "exclude": (
                "Exclude",
                "InvalidPattern",
                "Pattern",
                "Patterns",
                "parse_pattern",
                "parse_patterns",
            ),
            "fetch": (
                "FilePiece",
                "fetch_files",
            ),
            "known": (
                "ContentCache",
                "KnownContents",
            ),
            "listing": (
                "entries_below",
                "entries_in",
                "is_directory",
                "nearest",
                "path_of",
            ),
            "large": (
                "PutFile",
                "put_file",
            ),
            "manifest": (
                "MAGIC",
                "ManifestReader",
                "format_manifest",
                "looks_like_tree",
            ),
            "model": (
                "EmptyDirectory",
                "Entry",
                "FileEntry",
                "Limits",
                "Pack",
                "PackedFile",
                "PackedTree",
                "Path",
                "RegularFile",
                "Symlink",
                "Tree",
                "printable",
                "show_path",
            ),
            "packed": (
                "DEFAULT_LEVEL",
                "MAX_LEVEL",
                "choose_by_cost",
                "packs_of",
                "put_packed_tree",
                "read_pack",
                "writer_name",
            ),
            "progress": (
                "Progress",
                "Share",
                "Whole",
            ),
            "reader": (
                "ContentReader",
                "EntryInfo",
                "Kind",
                "TreeReader",
            ),
            "references": (
                "FoundReferences",
                "ReferenceWalk",
            ),
            "remove": (
                "remove_at",
                "remove_tree",
            ),
            "restore": ("Restorer",),
            "scan": (
                "OpenFile",
                "Root",
                "TreeSize",
                "measure_tree",
                "scan_tree",
            ),
            "part": (
                "NothingMatches",
                "Part",
                "take_part",
            ),
            "sizes": ("FoundSizes", "find_sizes"),
            "selection": (
                "EVERYTHING",
                "Forbidden",
                "ForbiddenFile",
                "Selection",
            ),
            "sparse": ("SparseFile",),
            "stamp": (
                "Stamp",
                "settled_status",
            ),
            "survey": (
                "Survey",
                "survey_content",
                "survey_tree",
            ),
            "tree": (
                "get_files",
                "get_tree",
                "load_tree",
                "put_manifest",
                "put_tree",
                "read_tree",
            ),
            "walk": (
                "FoundBlock",
                "contents_of",
                "walk_contents",
            ),
        },
    )

__all__ = [
    "DEFAULT_LEVEL",
    "EVERYTHING",
    "MAGIC",
    "MAX_LEVEL",
    "Amount",
    "Change",
    "ContentCache",
    "ContentReader",
    "Delta",
    "DeltaTooLarge",
    "DirectoryFiles",
    "EmptyDirectory",
    "Entry",
    "EntryInfo",
    "Exclude",
    "FileChanged",
    "FileEntry",
    "FilePiece",
    "Forbidden",
    "ForbiddenFile",
    "FoundBlock",
    "FoundReferences",
    "FoundSizes",
    "InvalidManifest",
    "InvalidPack",
    "InvalidPatch",
    "InvalidPattern",
    "IsADirectory",
    "IsASymlink",
    "Kind",
    "KnownContents",
    "Limits",
    "ManifestReader",
    "NotADirectory",
    "NotAFile",
    "NotFound",
    "NotUtf8",
    "NothingMatches",
    "OpenFile",
    "OtherBase",
    "OtherListing",
    "Pack",
    "PackedFile",
    "PackedTree",
    "Part",
    "Path",
    "PathError",
    "Pattern",
    "Patterns",
    "Progress",
    "PutDelta",
    "PutFile",
    "ReferenceWalk",
    "RegularFile",
    "Restorer",
    "Root",
    "Selection",
    "Share",
    "SizeRule",
    "Sort",
    "SparseFile",
    "Stamp",
    "StoredFiles",
    "Survey",
    "Symlink",
    "TargetExists",
    "Tree",
    "TreeError",
    "TreeFiles",
    "TreeReader",
    "TreeSize",
    "TreeTooLarge",
    "Unreadable",
    "UnsafePath",
    "UnsupportedEntry",
    "Vanished",
    "Whole",
    "choose_by_cost",
    "compare",
    "contents_of",
    "entries_below",
    "entries_in",
    "fetch_files",
    "find_sizes",
    "format_manifest",
    "get_files",
    "get_tree",
    "is_directory",
    "load_tree",
    "looks_like_tree",
    "measure_tree",
    "nearest",
    "new_blocks",
    "open_delta",
    "packs_of",
    "parse_pattern",
    "parse_patterns",
    "path_of",
    "printable",
    "put_delta",
    "put_file",
    "put_manifest",
    "put_packed_tree",
    "put_tree",
    "read_files",
    "read_pack",
    "read_tree",
    "remove_at",
    "remove_tree",
    "scan_tree",
    "settle",
    "settle_by_size",
    "settled_status",
    "show_path",
    "survey_content",
    "survey_tree",
    "take_part",
    "walk_contents",
    "writer_name",
]


def __dir__() -> list[str]:
    return __all__
