"""Which items a map is to be made of: those that are named, those of a list, or all of a store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from kapla.cli.common import CommandError, ExitCode, standard_input

if TYPE_CHECKING:
    from guix_glue.maps.building import Item

__all__ = ["items_of_store", "items_wanted"]

_LARGEST_LIST: Final = 1024**3


def items_wanted(named: Sequence[str], list_file: str | None) -> Sequence[Item]:
    """The items that are named as arguments, and in a file (`-`: standard input), a line each.

    Without any, all valid items of this machine's store, the largest first, so that none of these
    keeps one processor busy at the end.
    Raises: CommandError, InvalidStorePath, DatabaseError, OSError.
    """
    if not named and list_file is None:
        return items_of_store()
    listed = [] if list_file is None else _lines(list_file)
    return list({item.hash_part: item for item in _items([*named, *listed])}.values())


def items_of_store() -> Sequence[Item]:
    """All valid items of this machine's store. Raises: DatabaseError, GuixError."""
    from guix_glue.formats.store_path import hash_part_of
    from guix_glue.local.environment import GuixEnvironment
    from guix_glue.local.store_db import StoreDatabase
    from guix_glue.maps.building import Item

    where = GuixEnvironment.from_environ(os.environ)
    found = StoreDatabase(where.database_dir, where.store_dir).items()
    items = [Item(hash_part_of(one.path), one.path, one.nar_size) for one in found]
    return sorted(items, key=lambda one: -one.size)


def _items(paths: Iterable[str]) -> Iterable[Item]:
    from guix_glue.formats.store_path import check_base_name, hash_part_of
    from guix_glue.maps.building import Item

    for path in paths:
        location = os.path.abspath(path)
        check_base_name(os.path.basename(location))
        if not os.path.lexists(location):
            raise CommandError(f"{path}: there is no such item", ExitCode.FILE)
        yield Item(hash_part_of(location), location)


def _lines(list_file: str) -> list[str]:
    if list_file == "-":
        data = standard_input().read(_LARGEST_LIST)
    else:
        from guix_glue.local.files import read_file

        data = read_file(list_file, _LARGEST_LIST)
    return [os.fsdecode(line.strip()) for line in data.splitlines() if line.strip()]
