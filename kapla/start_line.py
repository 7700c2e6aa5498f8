"""What the log says first: which kaplad this is, and what it was told. Pure."""

from __future__ import annotations

from kapla import __version__
from kapla.config import Loaded
from kapla.sizes import size_text

__all__ = ["start_line"]


def start_line(loaded: Loaded) -> str:
    """Version, store, cap, and where settings come from."""
    config = loaded.config
    cap = "no max-size" if config.max_size is None else f"max-size {size_text(config.max_size)}"
    return f"kaplad {__version__}: store {config.store}, {cap}, settings from {_sources(loaded)}"


def _sources(loaded: Loaded) -> str:
    """The file, and what else there is, each once."""
    named = [] if loaded.file is None else [str(loaded.file)]
    for origins in loaded.origins.values():
        named += [origin for origin in origins if origin.startswith(("$", "--"))]
    return ", ".join(dict.fromkeys(named)) or "nowhere else than the defaults"
