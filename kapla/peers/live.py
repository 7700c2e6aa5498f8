"""The peers that can be asked now, as all sessions see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from kapla.peers.session import Standing
from kapla.peers.source import Source

__all__ = ["Live", "LiveSources", "Watcher"]


class Live(NamedTuple):
    """A peer that can be asked."""

    source: Source
    standing: Standing


class Watcher(Protocol):
    """What is told when peers come and go, and when one may have room again."""

    def joined(self, number: int, standing: Standing) -> None:
        """There is one more."""
        ...

    def left(self, number: int) -> None:
        """One is there no more."""
        ...

    def has_room(self) -> None:
        """Something was answered, perhaps to another session."""
        ...


class LiveSources:
    """Peers by number; no number is used twice.

    `on_distrust` is told of a peer that gave a wrong block; it is not asked any more.
    """

    def __init__(self, *, on_distrust: Callable[[int, Live], None] | None = None) -> None:
        self._on_distrust = on_distrust
        self._live: dict[int, Live] = {}
        self._watchers: dict[Watcher, None] = {}
        # Those for whom something waits, in the order in which they are served.
        self._hungry: dict[Watcher, None] = {}
        self._count = 0

    def __iter__(self) -> Iterator[tuple[int, Live]]:
        return iter(self._live.items())

    def __len__(self) -> int:
        return len(self._live)

    def get(self, number: int) -> Live | None:
        """The peer of this number, if it is there still."""
        return self._live.get(number)

    def add(self, source: Source, standing: Standing | None = None) -> int:
        """A peer can be asked from now on; `standing`: what is known of it from before."""
        number = self._count
        self._count += 1
        live = self._live[number] = Live(source, standing or Standing())
        for watcher in list(self._watchers):
            watcher.joined(number, live.standing)
        return number

    def remove(self, number: int) -> None:
        """A peer can be asked no more; it need not be there."""
        if self._live.pop(number, None) is not None:
            for watcher in list(self._watchers):
                watcher.left(number)

    def distrust(self, number: int) -> None:
        """A peer gave a wrong block: it is removed, and whoever has its connection is told."""
        live = self._live.get(number)
        self.remove(number)
        if live is not None and self._on_distrust is not None:
            self._on_distrust(number, live)

    def watch(self, watcher: Watcher) -> None:
        """Tell this one, from now on."""
        self._watchers[watcher] = None

    def unwatch(self, watcher: Watcher) -> None:
        """Tell it nothing any more."""
        self._watchers.pop(watcher, None)
        self._hungry.pop(watcher, None)

    def set_hungry(self, watcher: Watcher, is_hungry: bool, was_served: bool) -> None:
        """Whether something waits there until a peer has room; whoever was served is last."""
        if was_served or not is_hungry:
            self._hungry.pop(watcher, None)
        if is_hungry:
            self._hungry[watcher] = None

    def answered(self) -> None:
        """A peer has answered: those that wait for it are served in turn."""
        for watcher in list(self._hungry):
            watcher.has_room()
