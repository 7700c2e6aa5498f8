"""Roots for the garbage collector, of items that are to stay as long as they are given away.

A directory of symlinks below `gcroots`, where both Guix and Nix look for whatever leads into their
store. Plain synchronous code, for a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from guix_glue.seed.errors import SeedError

__all__ = ["PinnedRoots", "roots_directory"]

_NAME: Final = "kapla-seed"


def roots_directory(state_dir: str) -> Path:
    """Where the roots are, of a Guix or Nix that keeps its things in `state_dir`."""
    return Path(state_dir, "gcroots", _NAME)


class PinnedRoots:
    """The roots of items of the store at `store_dir`."""

    def __init__(self, state_dir: str, store_dir: str) -> None:
        self._directory = roots_directory(state_dir)
        self._store_dir = store_dir

    def keep(self, items: Iterable[str]) -> None:
        """Have a root for each of these items, by their full paths, and no other.

        Raises: SeedError, if they cannot be made.
        """
        wanted = {os.path.basename(item): item for item in items}
        try:
            self._directory.mkdir(mode=0o755, exist_ok=True)
            there = set(os.listdir(self._directory))
            for name in wanted.keys() - there:
                with suppress(FileExistsError):
                    os.symlink(wanted[name], self._directory / name)
            for name in there - wanted.keys():
                self._remove(name)
        except OSError as error:
            raise SeedError(
                f"no roots can be made in {self._directory}: {error.strerror}; root makes that"
                " directory, and gives it to the user of the seed"
            ) from error

    def _remove(self, name: str) -> None:
        path = self._directory / name
        # What somebody else has put there is not ours.
        if path.is_symlink() and os.readlink(path) == f"{self._store_dir}/{name}":
            path.unlink()
