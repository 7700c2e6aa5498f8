"""File trees as ERIS content: ERIS-FS, version 1, and packed trees (`docs/formats.md`).

```python
capability = await eris_fs.put_tree(store, "photos")
tree = await eris_fs.load_tree(store, capability)
await eris_fs.get_tree(store, tree, "copy")

packed = await eris_fs.put_packed_tree(store, "photos")    # read by the same functions
```
"""

from typing import TYPE_CHECKING

from eris.lazy import reexport

if TYPE_CHECKING:
    from eris_fs.batch import SizeRule
    from eris_fs.contents import read_files
    from eris_fs.errors import (
        FileChanged,
        InvalidManifest,
        InvalidPack,
        IsADirectory,
        IsASymlink,
        NotADirectory,
        NotFound,
        NotUtf8,
        PathError,
        TargetExists,
        TreeError,
        TreeTooLarge,
        UnsafePath,
        UnsupportedEntry,
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
    from eris_fs.progress import Progress
    from eris_fs.reader import ContentReader, EntryInfo, Kind, TreeReader
    from eris_fs.references import FoundReferences, ReferenceWalk
    from eris_fs.remove import remove_at, remove_tree
    from eris_fs.restore import Restorer
    from eris_fs.scan import OpenFile, TreeSize, measure_tree, scan_tree
    from eris_fs.stamp import Stamp, settled_status
    from eris_fs.survey import Survey, survey_content, survey_tree
    from eris_fs.tree import get_tree, load_tree, put_manifest, put_tree, read_tree
    from eris_fs.walk import FoundBlock, contents_of, walk_contents
else:
    # Loaded when it is used: a command shows its help without.
    __getattr__ = reexport(
        __name__,
        {
            "batch": ("SizeRule",),
            "contents": ("read_files",),
            "errors": (
                "FileChanged",
                "InvalidManifest",
                "InvalidPack",
                "IsADirectory",
                "IsASymlink",
                "NotADirectory",
                "NotFound",
                "NotUtf8",
                "PathError",
                "TargetExists",
                "TreeError",
                "TreeTooLarge",
                "UnsafePath",
                "UnsupportedEntry",
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
            "progress": ("Progress",),
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
                "TreeSize",
                "measure_tree",
                "scan_tree",
            ),
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
    "MAGIC",
    "MAX_LEVEL",
    "ContentCache",
    "ContentReader",
    "EmptyDirectory",
    "Entry",
    "EntryInfo",
    "Exclude",
    "FileChanged",
    "FileEntry",
    "FilePiece",
    "FoundBlock",
    "FoundReferences",
    "InvalidManifest",
    "InvalidPack",
    "InvalidPattern",
    "IsADirectory",
    "IsASymlink",
    "Kind",
    "KnownContents",
    "Limits",
    "ManifestReader",
    "NotADirectory",
    "NotFound",
    "NotUtf8",
    "OpenFile",
    "Pack",
    "PackedFile",
    "PackedTree",
    "Path",
    "PathError",
    "Pattern",
    "Patterns",
    "Progress",
    "ReferenceWalk",
    "RegularFile",
    "Restorer",
    "SizeRule",
    "Stamp",
    "Survey",
    "Symlink",
    "TargetExists",
    "Tree",
    "TreeError",
    "TreeReader",
    "TreeSize",
    "TreeTooLarge",
    "UnsafePath",
    "UnsupportedEntry",
    "choose_by_cost",
    "contents_of",
    "fetch_files",
    "format_manifest",
    "get_tree",
    "load_tree",
    "looks_like_tree",
    "measure_tree",
    "packs_of",
    "parse_pattern",
    "parse_patterns",
    "printable",
    "put_manifest",
    "put_packed_tree",
    "put_tree",
    "read_files",
    "read_pack",
    "read_tree",
    "remove_at",
    "remove_tree",
    "scan_tree",
    "settled_status",
    "show_path",
    "survey_content",
    "survey_tree",
    "walk_contents",
    "writer_name",
]


def __dir__() -> list[str]:
    return __all__
