"""One reader of trees of both kinds, for many readers at once and out of order.

`TreeReader` is for trees, `ContentReader` for a content by itself.
"""

from eris_fs.reader.content import ContentReader
from eris_fs.reader.info import EntryInfo, Kind
from eris_fs.reader.tree import TreeReader

__all__ = ["ContentReader", "EntryInfo", "Kind", "TreeReader"]
