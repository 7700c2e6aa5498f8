"""File trees as ERIS content: ERIS-FS, version 1.

```python
capability = await eris_fs.put_tree(store, "photos")
tree = await eris_fs.load_tree(store, capability)
await eris_fs.get_tree(store, tree, "copy")
```
"""

from eris_fs.errors import (
    FileChanged,
    InvalidManifest,
    TargetExists,
    TreeError,
    TreeTooLarge,
    UnsafePath,
    UnsupportedEntry,
)
from eris_fs.fetch import FilePiece, fetch_files
from eris_fs.known import ContentCache, KnownContents
from eris_fs.manifest import MAGIC, ManifestReader, format_manifest, looks_like_tree
from eris_fs.model import (
    EmptyDirectory,
    Entry,
    Limits,
    Path,
    RegularFile,
    Symlink,
    Tree,
    printable,
    show_path,
)
from eris_fs.restore import Restorer, remove_tree
from eris_fs.scan import OpenFile, TreeSize, measure_tree, scan_tree
from eris_fs.tree import Progress, get_tree, load_tree, put_manifest, put_tree, read_tree

__all__ = [
    "MAGIC",
    "ContentCache",
    "EmptyDirectory",
    "Entry",
    "FileChanged",
    "FilePiece",
    "InvalidManifest",
    "KnownContents",
    "Limits",
    "ManifestReader",
    "OpenFile",
    "Path",
    "Progress",
    "RegularFile",
    "Restorer",
    "Symlink",
    "TargetExists",
    "Tree",
    "TreeError",
    "TreeSize",
    "TreeTooLarge",
    "UnsafePath",
    "UnsupportedEntry",
    "fetch_files",
    "format_manifest",
    "get_tree",
    "load_tree",
    "looks_like_tree",
    "measure_tree",
    "printable",
    "put_manifest",
    "put_tree",
    "read_tree",
    "remove_tree",
    "scan_tree",
    "show_path",
]
