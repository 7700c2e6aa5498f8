"""`items.toml`: what a directory cannot say of the items in it, their references and derivers.

A table for each entry that has any, each key optional:

    ["hello-2.12"]
    references = ["glibc-2.39", "3s…-gcc-lib"]    # names of entries, or base names
    deriver = "9p…-hello-2.12.drv"                # a base name

What is wrong is wrong for its own entry: an unknown key, a name that is neither an entry nor a base
name, a value of another type, a table that is no TOML. Such an entry is left out, as it would be
published with less than was meant; all others are as their tables say. If it cannot be told which
entry some of the text is about, only those that have a table of their own are known. Pure: text in,
values out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from guix_glue.errors import InvalidItems, InvalidStorePath
from guix_glue.formats.store_path import check_base_name

__all__ = ["NOTHING_SAID", "EntryFacts", "ItemTable", "parse_item_table"]

_KEYS: Final = ("references", "deriver")
_TABLE_BEGINS: Final = re.compile(rb"^[ \t]*\[", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EntryFacts:
    """What the table says of an entry; each reference is the name of an entry or a base name."""

    references: tuple[str, ...] = ()
    deriver: str | None = None


NOTHING_SAID: Final = EntryFacts()


@dataclass(frozen=True, slots=True)
class ItemTable:
    """What is said of entries.

    `wrong` are those whose facts cannot be told. If the table is `doubtful`, nothing is known of
    those that are in neither. `remarks` say why, and what is said of no entry at all, a sentence
    each.
    """

    facts: Mapping[str, EntryFacts] = field(default_factory=dict)
    wrong: frozenset[str] = frozenset()
    doubtful: bool = False
    remarks: tuple[str, ...] = ()


def parse_item_table(text: bytes, entries: AbstractSet[str]) -> ItemTable:
    """Read the table of a directory with these entries.

    Raises: InvalidItems, if nothing of it can be understood.
    """
    reading = _Reading(entries)
    try:
        reading.take(_load(text))
    except InvalidItems as error:
        reading.remark(str(error))
        for section in _sections(text):
            reading.take_section(section)
        if reading.knows_nothing():
            raise
    return reading.result()


class _Reading:
    """What was understood so far."""

    def __init__(self, entries: AbstractSet[str]) -> None:
        self._entries = entries
        self._facts: dict[str, EntryFacts] = {}
        self._wrong: set[str] = set()
        self._doubtful = False
        self._remarks: list[str] = []

    def result(self) -> ItemTable:
        facts = {name: said for name, said in self._facts.items() if name not in self._wrong}
        return ItemTable(facts, frozenset(self._wrong), self._doubtful, tuple(self._remarks))

    def knows_nothing(self) -> bool:
        return self._doubtful and not self._facts

    def remark(self, text: str) -> None:
        self._remarks.append(text)

    def take(self, document: dict[str, Any]) -> None:
        for name, table in document.items():
            if name not in self._entries:
                self._take_stranger(name, table)
            elif name in self._facts or name in self._wrong:
                self._leave_out(name, "there are two tables of it")
            else:
                try:
                    self._facts[name] = _parse_entry(table, self._entries)
                except InvalidItems as error:
                    self._leave_out(name, str(error))

    def take_section(self, section: bytes) -> None:
        """One table of a text that is no TOML as a whole; or what stands before the first."""
        try:
            self.take(_load(section))
        except InvalidItems:
            document = _load_header(section)
            self._doubtful |= not document
            for name, table in document.items():
                if name in self._entries:
                    self._leave_out(name, "its table cannot be read")
                else:
                    self._take_stranger(name, table)

    def _take_stranger(self, name: str, table: object) -> None:
        """A table of what is no entry; it may have been meant for one, by a name without quotes."""
        meant = [path for path in _dotted(name, table) if path in self._entries]
        for path in meant:
            self._leave_out(path, f'its name has a dot and belongs in quotes: ["{path}"]')
        if not meant:
            self.remark(f"items.toml, [{name!r}]: there is no such entry")

    def _leave_out(self, name: str, reason: str) -> None:
        self._wrong.add(name)
        self.remark(f"items.toml, [{name!r}]: {reason}; the entry is left out")


def _load(text: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    # tomllib recurses: nesting that is too deep is no table either.
    except (ValueError, RecursionError) as error:
        raise InvalidItems(f"items.toml: {error}") from error


def _load_header(section: bytes) -> dict[str, Any]:
    """What the first line of a table says, of which the rest cannot be read; else nothing."""
    header, _, _ = section.lstrip(b" \t").partition(b"\n")
    if header.startswith(b"["):
        with suppress(InvalidItems):
            return _load(header)
    return {}


def _sections(text: bytes) -> Iterator[bytes]:
    """What stands before the first table of a text, and the tables, each with its header."""
    starts = [0, *(match.start() for match in _TABLE_BEGINS.finditer(text))]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield text[start:end]


def _dotted(name: str, table: object) -> Iterator[str]:
    """The names that tables within tables would have, joined by dots."""
    waiting = [(name, table)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{path}.{key}", inner) for key, inner in value.items()]
            if path != name:
                yield path


def _parse_entry(table: object, entries: AbstractSet[str]) -> EntryFacts:
    if not isinstance(table, dict):
        raise InvalidItems("not a table")
    for key in table:
        if key not in _KEYS:
            raise InvalidItems(f"unknown key {key!r}; known are {', '.join(_KEYS)}")
    references = table.get("references", [])
    if not isinstance(references, list):
        raise InvalidItems("references: not a list")
    return EntryFacts(
        tuple(_parse_reference(reference, entries) for reference in references),
        _parse_deriver(table["deriver"]) if "deriver" in table else None,
    )


def _parse_reference(reference: object, entries: AbstractSet[str]) -> str:
    if isinstance(reference, str) and reference in entries:
        return reference
    return _parse_base_name(reference, "references: neither an entry nor a base name")


def _parse_deriver(deriver: object) -> str:
    problem = "deriver: not the base name of a derivation"
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
