"""Re-exports that are loaded when they are first used, so that a program pays for what it needs.

A package's `__init__` names them twice: as imports for type checkers, and in a table for here. A
test compares the two. A name that is also a module's cannot be re-exported in this way: the module
takes its place when it is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

__all__ = ["reexport"]


def reexport(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Make a package's `__getattr__`: `homes` names its modules, and what each is to provide."""
    home_of = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    def get(name: str) -> object:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        # The next time it is found without asking here.
        setattr(sys.modules[package], name, value)
        return value

    return get
