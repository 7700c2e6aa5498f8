"""Clients that pin, and what then must be pinned: see `tests.torture.clients`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eris.model import BlockSize, Reference
from kapla.pinning import Pins
from kapla.pins import PinSummary
from kapla.remote_store import RemoteStore
from kapla.urls import parse_store_url
from tests.torture.history import Fault
from tests.torture.things import block_of

if TYPE_CHECKING:
    from tests.torture.clients import Client

__all__ = ["PinBook", "list_pins", "pin_blocks", "release_pin"]


async def pin_blocks(client: Client) -> None:
    """Some new blocks and some older ones, under a pin; now and then it is given up."""
    random = client.random
    name = f"pin-{next(client.numbers)}"
    async with await Pins(client.store).open() as pin:
        numbers = [next(client.numbers) for _ in range(random.randrange(1, 30))]
        results = await asyncio.gather(
            *[client.store.put(*block_of(number)) for number in numbers], return_exceptions=True
        )
        kept = [number for number, result in zip(numbers, results, strict=True) if result is None]
        client.tell(put=kept)
        older = random.sample(client.put, min(len(client.put), random.randrange(20)))
        found = await pin.want([block_of(number)[0] for number in older])
        held = kept + [number for number, is_there in zip(older, found, strict=True) if is_there]
        if not held or random.random() < 0.2:
            return
        # What made room for others; it may come back before the pin is looked at.
        lacking = [number for number, is_there in zip(older, found, strict=True) if not is_there]
        # After an error, as on a full disk, a block may be there all the same.
        unsure = [number for number, result in zip(numbers, results, strict=True) if result]
        facts = {
            "name": name,
            "held": held,
            "lacking": lacking,
            "unsure": unsure,
            "lend": random.random() < 0.5,
        }
        client.tell(closing=facts)
        await pin.close(
            root=block_of(held[0])[0], name=name, lend=bool(facts["lend"]), incomplete=True
        )
        client.tell(closed=facts)
        client.pins.append(name)


async def release_pin(client: Client) -> None:
    """One of those that this client made."""
    if client.pins:
        name = client.pins.pop(client.random.randrange(len(client.pins)))
        client.tell(releasing=name)
        await Pins(client.store).release(name)
        client.tell(released=name)


async def list_pins(client: Client) -> None:
    """Those that this client made are among all that there are."""
    names = {summary.name async for summary in Pins(client.store).list()}
    if not names >= set(client.pins):
        client.tell(fault="a pin was closed and is not told of")


@dataclass(slots=True)
class PinBook:
    """The pins that there must be, and those of which nobody was told whether they are."""

    certain: dict[str, dict[str, Any]] = field(default_factory=dict)
    uncertain: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, facts: dict[str, Any]) -> None:
        """What a client told."""
        if "closing" in facts:
            self.uncertain[facts["closing"]["name"]] = facts["closing"]
        if "closed" in facts:
            name = facts["closed"]["name"]
            self.certain[name] = self.uncertain.pop(name)
        if "releasing" in facts and (pin := self.certain.pop(facts["releasing"], None)):
            self.uncertain[facts["releasing"]] = pin
        if "released" in facts:
            self.uncertain.pop(facts["released"], None)

    def blocks(self) -> dict[Reference, bytes]:
        """All that must be there."""
        numbers = {number for pin in self.certain.values() for number in pin["held"]}
        return dict(map(block_of, numbers))

    async def check(self, socket: Path) -> None:
        """Ask a daemon for all pins. Raises: Fault."""
        url = parse_store_url(f"coap+unix://{socket}")
        async with RemoteStore(url) as store:
            self._check([summary async for summary in Pins(store).list()])

    def _check(self, found: Iterable[PinSummary]) -> None:
        there = {summary.name: summary for summary in found}
        if missing := self.certain.keys() - there.keys():
            raise Fault(f"{len(missing)} pins that were closed are not there")
        if unknown := there.keys() - self.certain.keys() - self.uncertain.keys():
            raise Fault(f"there are pins that nobody closed: {', '.join(sorted(unknown))}")
        # Now it is known.
        self.certain |= {name: pin for name, pin in self.uncertain.items() if name in there}
        self.uncertain = {}
        for name, pin in self.certain.items():
            _check_pin(there[name], pin)


def _check_pin(found: PinSummary, pin: dict[str, Any]) -> None:
    held = _sizes(pin["held"])
    lacking = _sizes(set(pin["lacking"]) - set(pin["held"]))
    told = Counter({int(BlockSize.SMALL): found.small, int(BlockSize.LARGE): found.large})
    unsure = _sizes(pin["unsure"])
    came = told - held
    is_right = told >= held and came <= lacking + unsure and found.missing <= lacking.total()
    if not unsure:
        is_right &= found.missing == (lacking - came).total()
    if not is_right or (found.lend, found.keep) != (pin["lend"], True):
        raise Fault(f"of {found} is told, and it should have {held}, and lack {lacking}")


def _sizes(numbers: Iterable[int]) -> Counter[int]:
    """How many blocks of each size."""
    return Counter(map(len, dict(map(block_of, numbers)).values()))
