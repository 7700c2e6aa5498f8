"""Whether a publisher bakes deltas, and what does; that is only loaded if it does.

Deltas need a store that keeps blocks, and packed trees: who reads others knows of no deltas.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from guix_glue.local.items import Items
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.tree_formats import PackedTrees
from guix_glue.publish.trees import EncodeTree
from guix_glue.serving.journal import Journal
from guix_glue.upstream.kept_narinfos import MirrorCache

if TYPE_CHECKING:
    from guix_glue.publish.delta_baking import DeltaBakery

__all__ = ["deltas_of_items"]


def deltas_of_items(
    options: PublishOptions,
    encode: EncodeTree | None,
    cache: BakedCache | MirrorCache,
    items: Items | None,
    ready: Callable[[], Awaitable[None]],
    directory: Path,
    baking_log: Journal | None,
) -> DeltaBakery | None:
    """What bakes deltas; None if there are to be none.

    `cache` has the records, and `items` tells where items lie, None if they do nowhere; `ready`
    returns when nothing else is to be baked; `directory` is that of the cache.
    """
    if not options.deltas or encode is None or encode.destination.store_id is None:
        return None
    trees, store_id = encode.target.trees, encode.destination.store_id
    if not isinstance(trees, PackedTrees):
        return None
    from guix_glue.publish.baking_log import DeltaNotes
    from guix_glue.publish.delta_baking import DeltaBakery
    from guix_glue.publish.deltas import EncodeDelta
    from guix_glue.publish.item_trees import ItemTrees

    return DeltaBakery(
        ItemTrees(cache, items, store_id),
        EncodeDelta(encode.target, encode.watch, level=trees.level),
        ready,
        directory,
        count=options.deltas,
        notes=DeltaNotes(baking_log),
    )
