"""What the name of a store item says: package, version, output; and which version is newer. Pure.

Guix and Nix write none of these down: a name is split as Guix does, and versions are compared as
Guix does, which is `strverscmp` of the GNU C library.

Source: `package-name->name+version` in (guix build utils), `version-compare` in (guix utils).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Final

__all__ = ["PackageName", "compare_versions", "parse_package_name", "version_key"]

# "The first hyphen followed by a digit is considered to introduce the version part."
_VERSION: Final = re.compile(r"-(?=[0-9])")
# What an output is called; a part of a version nearly always has a digit.
_OUTPUT: Final = re.compile(r"-([a-z]+)$")
_DIGITS: Final = "0123456789"


@dataclass(frozen=True, slots=True)
class PackageName:
    """The parts of `gcc-13.2.0-lib`: `gcc`, `13.2.0` and `lib`; what there is not is empty."""

    package: str
    version: str = ""
    output: str = ""


def parse_package_name(name: str) -> PackageName:
    """Split the name of an item, without its hash part."""
    package, *rest = _VERSION.split(name, maxsplit=1)
    if not rest or not package:
        return PackageName(name)
    output = _OUTPUT.search(rest[0])
    if output is None:
        return PackageName(package, rest[0])
    return PackageName(package, rest[0][: output.start()], output[1])


def compare_versions(one: str, other: str) -> int:
    """Tell which version is newer: positive if the first is, 0 if they are equal.

    Letters are compared one by one, runs of digits by their value. A run that begins with 0 counts
    as what stands behind a point: `1.01` is before `1.1`, and `1.010` before `1.09`.
    """
    same = _same_length(one, other)
    begun = _digits_before(one, same)
    mine, theirs = _digits_from(one, same), _digits_from(other, same)
    if begun.startswith("0"):
        # Of two runs that are nothing but zeros so far, the longer one is the smaller.
        if not begun.strip("0") and bool(mine) != bool(theirs):
            return -1 if mine else 1
    elif len(mine) != len(theirs) and (begun or _are_numbers(mine, theirs)):
        return len(mine) - len(theirs)
    return ord(one[same : same + 1] or "\0") - ord(other[same : same + 1] or "\0")


version_key = cmp_to_key(compare_versions)
"""A key to sort versions by, the oldest first."""


def _same_length(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _digits_before(text: str, end: int) -> str:
    return text[len(text[:end].rstrip(_DIGITS)) : end]


def _digits_from(text: str, start: int) -> str:
    rest = text[start:]
    return rest[: len(rest) - len(rest.lstrip(_DIGITS))]


def _are_numbers(*runs: str) -> bool:
    """Whether all of them are whole numbers, which have no zero in front."""
    return all(run and run[0] != "0" for run in runs)
