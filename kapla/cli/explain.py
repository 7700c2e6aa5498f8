"""`kapla explain`: the blocks of a content, by size and level, and where they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

import eris_fs
from eris.capability import ReadCapability
from eris.errors import BlockNotFound, StoreError, StoreRefused
from eris.model import BlockSize, Reference
from eris_fs.model import printable
from kapla.amounts import blocks_text, bytes_text
from kapla.cli.common import (
    CommandError,
    ExitCode,
    Store,
    connect,
    progress,
    read_capability,
    run,
    store_option,
    urn_argument,
)
from kapla.cli.store import missing_root
from kapla.cli.told import told
from kapla.reference_set import ReferenceSet

if TYPE_CHECKING:
    from kapla.pins import PinSummary

__all__ = ["command"]

_HERE, _PEERS, _MISSING = range(3)
_PLACES: Final = ("here", "peers", "missing")


@told(
    ("See what a content is made of, and what of it is here", "kapla explain @notes"),
    exits=(ExitCode.STORE, ExitCode.DAMAGED, ExitCode.REFUSED),
    means={ExitCode.MISSING: "the first block is missing"},
)
@click.command(name="explain", short_help="Show the blocks of a content, and where they are.")
@urn_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@store_option
def command(urn: str, as_json: bool, store_url: str | None) -> None:
    """Show the blocks of a content, or of a whole tree, by size, level and place.

    Each block counts once. Of what is here only the internal nodes are read. What lies under a
    node that nobody has cannot be known. Blocks may be missing; exit code 4 if the first one is.
    """
    capability = read_capability(urn)
    found = run(_explain(capability, store_url))
    if as_json:
        click.echo(json.dumps(found.facts()))
    else:
        for line in found.lines():
            click.echo(line)
    if found.complaint:
        raise CommandError(found.complaint, ExitCode.MISSING)


@dataclass(slots=True)
class _Found:
    """What a content is made of."""

    rows: dict[tuple[BlockSize, int], list[int]] = field(default_factory=dict)
    """By size and level how many are here, at peers and nowhere."""
    stores: dict[str, int] = field(default_factory=dict)
    """Of several stores how many blocks each is the first to have."""
    unknown: int = 0
    tree: eris_fs.Tree | None = None
    is_delta: bool = False
    pin: PinSummary | None = None
    complaint: str = ""

    def count(self, size: BlockSize, level: int, place: int) -> None:
        """One more block."""
        self.rows.setdefault((size, level), [0, 0, 0])[place] += 1

    def amount(self, *places: int) -> dict[str, int]:
        """How many there are in some places together, and their bytes."""
        counts = {key: sum(row[place] for place in places) for key, row in self.rows.items()}
        total = sum(size * count for (size, _), count in counts.items())
        return {"blocks": sum(counts.values()), "bytes": total}

    @property
    def ordered(self) -> list[tuple[tuple[BlockSize, int], list[int]]]:
        """The rows, from the roots down."""
        return sorted(self.rows.items(), key=lambda row: (-row[0][0], -row[0][1]))

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        pin = None if self.pin is None else {"name": self.pin.name, "shared": _shared(self.pin)}
        return {
            **self._kind(),
            "whole": not (self.unknown or self.amount(_MISSING)["blocks"]),
            "unknown_below": self.unknown,
            **self.amount(_HERE, _PEERS, _MISSING),
            **{name: self.amount(place) for place, name in enumerate(_PLACES)},
            "stores": self.stores,
            "pin": pin,
            "levels": [
                {
                    "block_size": int(size),
                    "level": level,
                    "blocks": sum(row),
                    **dict(zip(_PLACES, row, strict=True)),
                }
                for (size, level), row in self.ordered
            ],
        }

    def lines(self) -> list[str]:
        """For people."""
        lines = [_line("kind", "delta" if self.is_delta else _kind_text(self.tree))]
        lines.append(_line("in all", _amount_text(self.amount(_HERE, _PEERS, _MISSING))))
        for place, name in enumerate(_PLACES):
            amount = self.amount(place)
            if amount["blocks"] or place == _HERE:
                lines.append(_line(name, _amount_text(amount)))
        if len(self.stores) > 1:
            lines += [f"  {count:,} in {store}" for store, count in self.stores.items()]
        if self.pin is not None:
            lines.append(_line("pinned", _pin_text(self.pin)))
        if self.unknown:
            noun = "node is" if self.unknown == 1 else "nodes are"
            lines.append(f"{self.unknown:,} {noun} missing: what lies below is not known")
        return [*lines, "", *self._table()]

    def _kind(self) -> dict[str, Any]:
        return {"kind": "delta"} if self.is_delta else _kind(self.tree)

    def _table(self) -> list[str]:
        lines = [f"{'SIZE':<8}{'LEVEL':>5}{'BLOCKS':>12}{'HERE':>12}{'PEERS':>12}{'MISSING':>12}"]
        for (size, level), row in self.ordered:
            counts = "".join(f"{count:>12,}" for count in (sum(row), *row))
            lines.append(f"{size.label:<8}{level:>5}{counts}")
        return lines


async def _explain(capability: ReadCapability, store_url: str | None) -> _Found:
    found = _Found()
    async with connect(store_url) as store, connect(store_url) as here:
        for one in here.stores:
            one.stay_here()
        nodes = _Nodes(here, store)
        walk = eris_fs.ReferenceWalk(nodes)
        seen = ReferenceSet()
        with progress("Explaining") as shown:
            async with aclosing(walk.content(capability)) as batches:
                async for batch in batches:
                    new = [
                        (reference, size, level)
                        for (reference, size), level in zip(batch, batch.levels, strict=True)
                        if seen.add(reference)
                    ]
                    places = await _places(here, nodes, [one[0] for one in new], found)
                    for (_, size, level), place in zip(new, places, strict=True):
                        found.count(size, level, place)
                    shown.advance(sum(size for _, size, _ in new))
        found.unknown, found.tree, found.is_delta = walk.unknown, walk.tree, walk.is_delta
        found.pin = await _pin_of(store, capability)
        if found.amount(_MISSING)["blocks"] == found.amount(_HERE, _PEERS, _MISSING)["blocks"]:
            found.complaint = missing_root(store.urls)
    return found


class _Nodes:
    """Where nodes are read: what is not here comes from peers, and was not here before."""

    def __init__(self, here: Store, anywhere: Store) -> None:
        self.fetched: set[Reference] = set()
        self._here = here
        self._anywhere = anywhere

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block."""
        try:
            return await self._here.get(reference, block_size)
        except BlockNotFound:
            block = await self._anywhere.get(reference, block_size)
            self.fetched.add(reference)
            return block


async def _places(
    here: Store, nodes: _Nodes, references: Sequence[Reference], found: _Found
) -> list[int]:
    """Where each block is."""
    places = {one: _PEERS for one in references if one in nodes.fetched}
    for with_peers in (False, True):
        for store in here.stores:
            left = [one for one in references if one not in places]
            if not left or not store.url.allows("get"):
                continue
            try:
                answers = await store.find(left, with_peers=with_peers)
            except StoreRefused as error:
                raise CommandError(
                    f"{store.url} does not tell which blocks it has: {error}; kapla verify asks"
                    " for each",
                    ExitCode.REFUSED,
                ) from error
            there = [one for one, is_there in zip(left, answers, strict=True) if is_there]
            places.update(dict.fromkeys(there, _PEERS if with_peers else _HERE))
            if not with_peers:
                name = str(store.url)
                found.stores[name] = found.stores.get(name, 0) + len(there)
    return [places.get(one, _MISSING) for one in references]


async def _pin_of(store: Store, capability: ReadCapability) -> PinSummary | None:
    """The pin of this content, if we may see one."""
    from kapla.client import RemoteStore
    from kapla.pinning import Pins

    # It is told beside all else: a store without pins is nothing unusual.
    with suppress(StoreError):
        first = store.stores[0]
        if isinstance(first, RemoteStore):
            return await Pins(first).find(capability.root.reference)
    return None


def _shared(pin: PinSummary) -> dict[str, int]:
    """What other pins hold of it too."""
    return {
        "blocks": pin.small + pin.large - pin.own_small - pin.own_large,
        "bytes": pin.block_bytes - pin.own_block_bytes,
    }


def _pin_text(pin: PinSummary) -> str:
    """The name is said where somebody gave it."""
    from kapla.pins import default_name

    has_name = pin.root is None or pin.name != default_name(pin.root)
    name = f"as {printable(pin.name)}" if has_name else "yes"
    return f"{name}; shared with other pins: {_amount_text(_shared(pin))}"


def _kind(tree: eris_fs.Tree | None) -> dict[str, Any]:
    if tree is None:
        return {"kind": "file"}
    directories = {path[:depth] for path in tree for depth in range(1, len(path))}
    empty = sum(isinstance(entry, eris_fs.EmptyDirectory) for entry in tree.values())
    packed = isinstance(tree, eris_fs.PackedTree)
    return {
        "kind": "tree",
        "format": "kapla-packed-1" if packed else "eris-fs-1",
        "files": sum(isinstance(entry, eris_fs.FileEntry) for entry in tree.values()),
        "directories": len(directories) + empty,
        "symlinks": sum(isinstance(entry, eris_fs.Symlink) for entry in tree.values()),
    }


def _kind_text(tree: eris_fs.Tree | None) -> str:
    facts = _kind(tree)
    if tree is None:
        return "file"
    counts = ", ".join(
        f"{facts[name]:,} {name if facts[name] != 1 else one}"
        for name, one in (
            ("files", "file"),
            ("directories", "directory"),
            ("symlinks", "symlink"),
        )
    )
    return f"tree ({facts['format']}): {counts}"


def _amount_text(amount: dict[str, int]) -> str:
    return f"{blocks_text(amount['blocks'])}, {bytes_text(amount['bytes'])}"


def _line(name: str, text: str) -> str:
    return f"{name + ':':<10}{text}"
