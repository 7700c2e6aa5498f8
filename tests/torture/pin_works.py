"""Kinds of work with pins: see `tests.torture.works`, which has the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from eris.errors import ErisError
from eris.model import BlockSize, Reference
from kapla.pins import default_name
from kapla.storage.pins import BEFORE_PINS, Closing, PinChoice
from kapla.storage.port import Promise
from kapla.storage.sqlite.keeping.state import Hold
from tests.torture.blocks import new_blocks
from tests.torture.check_pins import stored_pins
from tests.torture.history import Facts, Fault, Pin, sized

if TYPE_CHECKING:
    from tests.torture.works import Session

__all__ = ["PIN_WORKS", "Opened"]

_OWNERS: Final = (0, 1000)
_NAMES: Final = ("a", "b", "c")
_MOST_PINS: Final = 100
_MOST_OPEN: Final = 3


@dataclass(slots=True)
class Opened:
    """An open pin as it should be."""

    number: int
    hold: Hold
    held: set[Reference] = field(default_factory=set)
    wanted: set[Reference] = field(default_factory=set)

    def arrived(self, names: set[Reference]) -> None:
        """These were kept."""
        self.held |= self.wanted & names
        self.wanted -= names


def open_pin(session: Session) -> None:
    """Begin one. Nothing is written."""
    if len(session.opened) < _MOST_OPEN:
        owner = session.random.choice(_OWNERS)
        number, hold, _ = session.writer.pins.begin(owner, None, b"token")
        session.opened.append(Opened(number, hold))


def put_under_pin(session: Session) -> None:
    """New blocks, and some that are there, which an open pin holds then."""
    if not session.opened:
        return open_pin(session)
    opened = session.random.choice(session.opened)
    size = session.random.choice((BlockSize.SMALL, BlockSize.SMALL, BlockSize.LARGE))
    blocks = new_blocks(session.random, size, session.random.randrange(1, 6))
    blocks |= session.some_known(4)
    promise = Promise(opened.hold, list(blocks), list(blocks.values()))
    if session.put(blocks, lambda: session.writer.put_many(blocks, [promise])):
        opened.held |= blocks.keys() - session.refused
    else:
        _give_up(session, opened)


def want(session: Session) -> None:
    """Ask under an open pin for what is there, and for what will come later."""
    if not session.opened:
        return open_pin(session)
    opened = session.random.choice(session.opened)
    there = set(session.some_known(6)) & session.present
    coming = new_blocks(session.random, BlockSize.SMALL, session.random.randrange(4))
    session.history.blocks |= coming
    session.coming |= coming
    found: set[Reference] = set()

    def do() -> None:
        found.update(session.writer.want(opened.number, opened.hold, [*there, *coming]))

    if not session.history.step(session.history.now, do, ErisError):
        return _give_up(session, opened)
    if not (found <= there if session.history.is_evicting else found == there):
        raise Fault("an open pin does not find what is there, or finds what is not")
    opened.held |= found
    opened.wanted |= coming.keys() | (there - found)


def put_wanted(session: Session) -> None:
    """What pins lack comes."""
    lacking = {name for pin in session.history.now.pins.values() for name in pin.wanted}
    lacking |= session.coming.keys()
    names = session.random.sample(sorted(lacking), min(len(lacking), 4))
    blocks = {name: session.history.blocks[name] for name in names}
    if blocks and session.put(blocks, lambda: session.writer.put_many(blocks)):
        for name in names:
            session.coming.pop(name, None)


def close_pin(session: Session) -> None:
    """An open pin becomes one with a name; another of this name goes."""
    if not session.opened:
        return
    opened = session.random.choice(session.opened)
    is_named, root = session.random.random() < 0.8, next(iter(sorted(opened.held)), None)
    if root is None:
        return
    name = session.random.choice(_NAMES) if is_named else None
    small, large = sized(session.history.blocks, opened.held)
    keep, lend, wanted = session.random.random() < 0.7, session.flip(), frozenset(opened.wanted)
    pin = Pin(root, keep, lend, small, large, wanted, is_loose=not keep)
    closing = Closing(name, root, lend=pin.lend, keep=pin.keep, incomplete=bool(pin.wanted))
    key = (opened.hold.owner, name or default_name(root))
    after = replace(session.history.now, pins=session.history.now.pins | {key: pin})
    close = session.writer.pins.close
    if session.history.step(
        after, lambda: close(opened.number, opened.hold, closing, _MOST_PINS), ErisError
    ):
        session.opened.remove(opened)


def _give_up(session: Session, opened: Opened) -> None:
    """After something failed: what was there may be held, though it was not said."""
    session.opened.remove(opened)
    session.writer.pins.abandon(opened.number, opened.hold)


def abandon_pin(session: Session) -> None:
    """An open pin is given up."""
    if session.opened:
        _give_up(session, session.random.choice(session.opened))


def switch_pin(session: Session) -> None:
    """A pin is lent or kept, or no more."""
    key = _some_pin(session)
    if key is not None:
        pin, keep = session.history.now.pins[key], session.flip()
        is_loose = pin.is_loose or not (pin.keep and keep)
        pin = replace(pin, lend=session.flip(), keep=keep, is_loose=is_loose)
        after = replace(session.history.now, pins=session.history.now.pins | {key: pin})
        change = session.writer.pins.change
        chosen = PinChoice(*key)
        if session.history.step(
            after, lambda: change(chosen, lend=pin.lend, keep=pin.keep), ErisError
        ):
            _tighten(session, key)


def _tighten(session: Session, key: tuple[int, str]) -> None:
    """A pin that keeps again loses nothing more of what it has."""
    if session.history.is_evicting and session.history.now.pins[key].keep:
        stored = stored_pins(session.writer, session.writer._connection)
        session.history.correct({key: stored[key]})


def release_pin(session: Session) -> None:
    """A pin goes; seldom the one over all that there was."""
    key = _some_pin(session)
    if key is None or (key[1] == BEFORE_PINS and session.random.random() < 0.7):
        return
    pins = {other: pin for other, pin in session.history.now.pins.items() if other != key}
    after = Facts(session.history.now.blocks, pins)
    chosen = PinChoice(*key)
    session.history.step(after, lambda: session.writer.pins.release(chosen), ErisError)


def list_pins(session: Session) -> None:
    """What is told of pins while the store is open."""
    found, _ = session.writer.pins.page(None, (-1, ""), _MOST_PINS)
    told = {(one.owner, one.name): (one.small + one.large, one.missing) for one in found}
    wanted = {
        key: (len(pin.blocks), len(pin.wanted)) for key, pin in session.history.now.pins.items()
    }
    if told != wanted and not (session.history.has_failed or session.history.is_evicting):
        raise Fault(f"of pins is told {told}, and there should be {wanted}")


def _some_pin(session: Session) -> tuple[int, str] | None:
    keys = sorted(session.history.now.pins)
    return session.random.choice(keys) if keys else None


PIN_WORKS: Final[dict[Callable[[Session], None], int]] = {
    open_pin: 2,
    put_under_pin: 4,
    want: 3,
    put_wanted: 3,
    close_pin: 4,
    abandon_pin: 1,
    switch_pin: 1,
    release_pin: 1,
    list_pins: 1,
}
