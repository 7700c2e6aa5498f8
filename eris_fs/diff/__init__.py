"""What differs between two trees, and which blocks one has that the other has not."""

from eris_fs.diff.compare import Change, Content, Sort, compare
from eris_fs.diff.contents import settle, settle_by_size
from eris_fs.diff.cost import Amount, References, new_blocks

__all__ = [
    "Amount",
    "Change",
    "Content",
    "References",
    "Sort",
    "compare",
    "new_blocks",
    "settle",
    "settle_by_size",
]
