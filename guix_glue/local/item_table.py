"""`items.toml`: what a directory cannot say of the items in it, their references and derivers.

A table for each entry that has any, each key optional:

    ["hello-2.12"]
    references = ["glibc-2.39", "3s…-gcc-lib"]    # names of entries, or base names
    deriver = "9p…-hello-2.12.drv"                # a base name

An unknown key, a name that is neither an entry nor a base name, a value of another type: all are
errors that say where. Pure: text in, values out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from guix_glue.errors import InvalidItems, InvalidStorePath
from guix_glue.formats.store_path import check_base_name

__all__ = ["NOTHING_SAID", "EntryFacts", "parse_item_table"]

_KEYS: Final = ("references", "deriver")


@dataclass(frozen=True, slots=True)
class EntryFacts:
    """What the table says of an entry; each reference is the name of an entry or a base name."""

    references: tuple[str, ...] = ()
    deriver: str | None = None


NOTHING_SAID: Final = EntryFacts()


def parse_item_table(text: bytes, entries: AbstractSet[str]) -> dict[str, EntryFacts]:
    """Read the table of a directory with these entries.

    Raises: InvalidItems.
    """
    try:
        document = tomllib.loads(text.decode())
    # tomllib recurses: nesting that is too deep is no table either.
    except (ValueError, RecursionError) as error:
        raise InvalidItems(f"items.toml: {error}") from error
    return {name: _parse_entry(name, table, entries) for name, table in document.items()}


def _parse_entry(name: str, table: object, entries: AbstractSet[str]) -> EntryFacts:
    where = f"items.toml, [{name!r}]"
    if name not in entries:
        raise InvalidItems(f"{where}: there is no such entry")
    if not isinstance(table, dict):
        raise InvalidItems(f"{where}: not a table")
    for key in table:
        if key not in _KEYS:
            raise InvalidItems(f"{where}: unknown key {key!r}; known are {', '.join(_KEYS)}")
    references = table.get("references", [])
    if not isinstance(references, list):
        raise InvalidItems(f"{where}: references: not a list")
    return EntryFacts(
        tuple(_parse_reference(reference, entries, where) for reference in references),
        _parse_deriver(table["deriver"], where) if "deriver" in table else None,
    )


def _parse_reference(reference: object, entries: AbstractSet[str], where: str) -> str:
    if isinstance(reference, str) and reference in entries:
        return reference
    return _parse_base_name(reference, f"{where}: references: neither an entry nor a base name")


def _parse_deriver(deriver: object, where: str) -> str:
    problem = f"{where}: deriver: not the base name of a derivation"
    base_name = _parse_base_name(deriver, problem)
    if not base_name.endswith(".drv"):
        raise InvalidItems(f"{problem}: {base_name!r}")
    return base_name


def _parse_base_name(text: object, problem: str) -> str:
    if not isinstance(text, str):
        raise InvalidItems(f"{problem}: {text!r}")
    try:
        return check_base_name(text)
    except InvalidStorePath as error:
        raise InvalidItems(f"{problem}: {error}") from error
