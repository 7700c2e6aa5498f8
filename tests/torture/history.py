"""What was asked of a store, step by step, and what may hold after a crash at any moment of it.

A step is one transaction: after a crash in it, it happened or it did not. So what a store holds
must be what it held after one of the steps, and not before the last step that was answered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from eris.model import BlockSize, Reference
from kapla.storage.pins import BEFORE_PINS

__all__ = ["Facts", "Fault", "History", "Pin", "Pins", "Window", "before_pins", "sized"]


class Fault(Exception):
    """Something was promised and does not hold."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What a pin should be."""

    root: Reference | None
    keep: bool
    lend: bool
    small: frozenset[Reference]
    large: frozenset[Reference]
    wanted: frozenset[Reference] = frozenset()
    is_loose: bool = False
    """It did not keep its blocks all the time, in a store with a cap: it may lack any of them."""

    def fits(self, found: Pin | None, *, is_evicting: bool) -> bool:
        """Whether this can be how the pin is found."""
        if found is None or not (is_evicting and (self.is_loose or not self.keep)):
            return found is not None and replace(self, is_loose=False) == found
        switches = (self.root, self.keep, self.lend)
        return switches == (found.root, found.keep, found.lend) and (
            self.blocks | self.wanted == found.blocks | found.wanted
        )

    @property
    def blocks(self) -> frozenset[Reference]:
        """All that it holds."""
        return self.small | self.large

    def with_arrived(self, blocks: dict[Reference, bytes]) -> Pin:
        """As it is once these have come."""
        arrived = self.wanted & blocks.keys()
        if not arrived:
            return self
        small, large = sized(blocks, arrived)
        return replace(
            self,
            small=self.small | small,
            large=self.large | large,
            wanted=self.wanted - arrived,
        )


Pins = dict[tuple[int, str], Pin]
"""By owner and name."""


def sized(
    blocks: Mapping[Reference, bytes], names: Iterable[Reference]
) -> tuple[frozenset[Reference], frozenset[Reference]]:
    """The names of the small blocks and of the large ones."""
    large = frozenset(name for name in names if len(blocks[name]) == BlockSize.LARGE)
    return frozenset(names) - large, large


def before_pins(blocks: Mapping[Reference, bytes]) -> Pins:
    """What a store of an earlier version gets: one pin over all that there is."""
    return {(0, BEFORE_PINS): Pin(None, True, False, *sized(blocks, blocks))}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a store holds: the first so many of the blocks that were ever kept, and pins."""

    blocks: int = 0
    pins: Pins = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Window:
    """The facts of which one must hold. `is_exact`: nothing else may be there."""

    allowed: Sequence[Facts]
    is_exact: bool
    failed: Sequence[Facts]
    """What would hold after steps that failed: some of it may."""
    is_evicting: bool

    def fits_pins(self, facts: Facts, found: Pins) -> bool:
        """Whether these can be the pins, with what is allowed to be there."""
        return all(
            any(
                pin.fits(found.get(key), is_evicting=self.is_evicting)
                if (pin := one.pins.get(key)) is not None
                else key not in found
                for one in (facts, *self.failed)
            )
            for key in facts.pins.keys() | found.keys()
        )


class History:
    """Steps, each marked in the records when it begins and when it is answered."""

    def __init__(self, mark: Callable[[int], None]) -> None:
        self.blocks: dict[Reference, bytes] = {}
        """All that was ever put, whether it was answered or not."""
        self.order: list[Reference] = []
        """What was kept, in this order."""
        self.facts = [Facts()]
        self.is_evicting = False
        """Blocks without a pin may go."""
        self._failures: dict[int, Facts] = {}
        self._mark = mark
        self._known: set[Reference] = set()

    @property
    def has_failed(self) -> bool:
        """Whether some step did not succeed."""
        return bool(self._failures)

    @property
    def now(self) -> Facts:
        """What holds when nothing is under way."""
        return self.facts[-1]

    def step(self, after: Facts, do: Callable[[], object], expected: type[Exception]) -> bool:
        """Do something after which `after` holds; tells whether it was done."""
        index = len(self.facts)
        self.facts.append(after)
        self._mark(2 * index)
        try:
            do()
        except expected:
            # It may be there after all: what failed may have been to say so.
            self._failures[index] = after
            self.facts[-1] = self.facts[-2]
            self._mark(2 * index + 1)
            return False
        self._mark(2 * index + 1)
        return True

    def put(
        self,
        blocks: dict[Reference, bytes],
        do: Callable[[], object],
        expected: type[Exception],
        answers_early: bool = False,
        refusals: Callable[[], Collection[Reference]] = frozenset,
    ) -> bool:
        """Keep blocks as one step."""
        self.blocks |= blocks
        new = [name for name in blocks if name not in self._known]
        pins = {key: pin.with_arrived(blocks) for key, pin in self.now.pins.items()}
        after = Facts(len(self.order) + len(new), pins)
        self.order += new
        if answers_early:
            self._mark(2 * len(self.facts) + 1)
        is_done = self.step(after, do, expected)
        refused = refusals() if is_done else frozenset[Reference]()
        if refused:
            # What was refused completes no pin.
            kept = {name: block for name, block in blocks.items() if name not in refused}
            before = self.facts[-2].pins
            pins = {key: pin.with_arrived(kept) for key, pin in before.items()}
            self.facts[-1] = Facts(after.blocks, pins)
        if is_done:
            self._known.update(new)
        else:
            del self.order[len(self.order) - len(new) :]
        return is_done

    def correct(self, pins: Pins) -> None:
        """After the last step these pins are so: what of them had gone was not known."""
        self.facts[-1] = replace(self.now, pins=self.now.pins | pins)

    def restart(self, facts: Facts, present: Iterable[Reference]) -> None:
        """Go on from what was found after a crash."""
        self.order = [name for name in self.blocks if name in set(present)]
        self._known = set(self.order)
        self.facts = [replace(facts, blocks=len(self.order))]
        self._failures = {}

    def window(self, marks: Sequence[int], *, loses_answered: bool) -> Window:
        """What may hold after these marks; `loses_answered`: a power cut takes back what it can."""
        begun = max((mark // 2 for mark in marks if mark % 2 == 0), default=0)
        done = max((mark // 2 for mark in marks if mark % 2), default=0)
        first = 0 if loses_answered else done
        failed = [facts for index, facts in self._failures.items() if index <= begun]
        is_exact = not self.is_evicting and not failed
        return Window(self.facts[first : max(begun, done) + 1], is_exact, failed, self.is_evicting)

    def fits(self, facts: Facts, present: set[Reference], *, is_exact: bool) -> bool:
        """Whether these blocks can be all that there is."""
        if not present <= self.blocks.keys():
            return False
        kept = set(self.order[: facts.blocks])
        if self.is_evicting:
            pins = [pin for pin in facts.pins.values() if pin.keep and not pin.is_loose]
            kept = set().union(*(pin.blocks for pin in pins))
        return present == kept if is_exact else kept <= present
