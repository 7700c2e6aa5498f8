"""Paths within a tree, as arguments: how they are read, and what is said of those not there."""

from __future__ import annotations

import os

import eris_fs
from kapla.cli.common import CommandError

__all__ = ["no_such_path", "tree_path"]


def tree_path(text: str) -> eris_fs.Path:
    """Read an argument: bytes that are no UTF-8 stand in paths of packed trees in the same way."""
    return eris_fs.path_of(os.fsencode(text).decode("utf-8", "surrogateescape"))


def no_such_path(tree: eris_fs.Tree, path: eris_fs.Path) -> CommandError:
    """What to say of a path that is not in the tree: also what may have been meant."""
    near = [eris_fs.show_path(one) for one in eris_fs.nearest(tree, path)]
    meant = f"; is {' or '.join(near)} meant?" if near else ""
    return CommandError(f"{eris_fs.show_path(path)} is not in the tree{meant}")
