"""Libraries that a lean installation leaves out, and what is said where one is needed.

`packaging/lean.txt` lists what stays.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LEFT_OUT", "explain"]

LEFT_OUT: Final = {
    "aiohappyeyeballs": "aiohappyeyeballs",
    "aiohttp": "aiohttp",
    "httptools": "httptools",
    "rich": "rich",
    "zeroconf": "zeroconf",
}
"""Names of modules, and of what is to be installed."""


def explain(error: BaseException) -> str | None:
    """What to install, if an error is that one of these is not there; None for all else."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    library = LEFT_OUT.get((error.name or "").partition(".")[0])
    if library is None:
        return None
    return f"this needs {library}, which a lean installation leaves out: pip install {library}"
