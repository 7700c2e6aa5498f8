"""Whether an item's files are those that were registered, and of which a public narinfo speaks.

What a store has may have been altered, by hand or by a failing disk; that was signed by nobody, and
may be for nobody else. So an item's nar is hashed once, before anything of it is noted.

Plain synchronous code, for a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from guix_glue.errors import UnsupportedItem
from guix_glue.local.archive import hash_steps
from guix_glue.seed.errors import NotSeeded

__all__ = ["is_registered"]


def is_registered(root: str, nar_hash: bytes, stopped: Callable[[], bool]) -> bool:
    """Read the item at `root` and compare it with its NarHash; False if it is `stopped` meanwhile.

    Raises: NotSeeded, if it is another, or changes; OSError.
    """
    try:
        digest = _hashed(root, stopped)
    except UnsupportedItem as error:
        raise NotSeeded(str(error)) from error
    if digest is not None and digest != nar_hash:
        raise NotSeeded(
            "its files are not those that were registered (their NarHash is another): guix gc"
            " --verify=contents, or nix-store --verify --check-contents, tells more"
        )
    return digest is not None


def _hashed(root: str, stopped: Callable[[], bool]) -> bytes | None:
    with closing(hash_steps(root)) as steps:
        while not stopped():
            try:
                next(steps)
            except StopIteration as done:
                digest, _ = done.value
                return bytes(digest)
    return None
