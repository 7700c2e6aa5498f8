"""Packed trees: many files in few compressed contents. `docs/formats.md` is the specification."""

from eris_fs.packed.cost import choose_by_cost
from eris_fs.packed.decode import packs_of, read_pack, read_packed_files
from eris_fs.packed.encode import DEFAULT_LEVEL, MAX_LEVEL, put_packed_tree, writer_name
from eris_fs.packed.index import PackedIndexReader, format_index, looks_packed

__all__ = [
    "DEFAULT_LEVEL",
    "MAX_LEVEL",
    "PackedIndexReader",
    "choose_by_cost",
    "format_index",
    "looks_packed",
    "packs_of",
    "put_packed_tree",
    "read_pack",
    "read_packed_files",
    "writer_name",
]
