"""How a long transfer says how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[int, int], None]
"""Told from the event loop how far it got: files done so far, bytes of content so far."""
