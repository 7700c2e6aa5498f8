"""The rules that every path and symlink target of a tree must keep; pure functions.

Applied three times: to an index that is read, to a tree that is written, and again to a tree about
to be restored, because a tree is a plain mapping that anybody may have made.

Conflicts between paths are found by sorting: in the order of component tuples, whatever begins with
a path follows it immediately, so looking at neighbours is enough, and costs no table of directories
that an index of few bytes could blow up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from eris_fs.errors import TreeTooLarge, UnsafePath
from eris_fs.model import DEFAULT_LIMITS, Limits, Path

__all__ = [
    "UTF8_ERRORS",
    "check_path",
    "check_path_size",
    "check_target",
    "common_length",
    "name_fault",
    "order_paths",
    "raw_text",
]

UTF8_ERRORS: Final = {False: "strict", True: "surrogateescape"}
"""By `any_bytes`: what becomes of bytes that are no UTF-8, an error or what stands for them."""

_SPECIAL_NAMES: Final = frozenset({"", ".", ".."})
# Of a path that is too long, this many components are shown.
_SHOWN: Final = 8


def raw_text(text: str) -> bytes:
    """The bytes of a name or target: UTF-8, or in a packed tree any, whatever the system uses."""
    return text.encode("utf-8", "surrogateescape")


def name_fault(
    name: str, limits: Limits = DEFAULT_LIMITS, *, any_bytes: bool = False
) -> str | None:
    """Say what is wrong with one component of a path; None if it is fine.

    `any_bytes`: it may also stand for bytes that are no UTF-8.
    """
    if name in _SPECIAL_NAMES:
        return "an empty component" if not name else f"a component that is {name!r}"
    if "/" in name or "\0" in name:
        return "a component that holds a slash or a NUL"
    try:
        size = len(name.encode("utf-8", UTF8_ERRORS[any_bytes]))
    except UnicodeEncodeError:
        return "a component that is not Unicode"
    if size > limits.name_size:
        return f"a component of more than {limits.name_size} bytes"
    return None


def check_path(path: Path, limits: Limits = DEFAULT_LIMITS, *, any_bytes: bool = False) -> None:
    """Check one path by itself.

    Raises: UnsafePath.
    """
    check_path_size(path, limits)
    for name in path:
        if fault := name_fault(name, limits, any_bytes=any_bytes):
            raise UnsafePath(path, fault)


def check_path_size(path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Check the number of components of a path and its length.

    Raises: UnsafePath.
    """
    if len(path) > limits.depth:
        raise UnsafePath(path[:_SHOWN], f"more than {limits.depth} components")
    text = "/".join(path)
    # A letter has four bytes at most, so the common path is settled without encoding it.
    fits = len(text) * 4 <= limits.path_size
    if not fits and _size(text) > limits.path_size:
        raise UnsafePath(path[:_SHOWN], f"more than {limits.path_size} bytes")


def _size(text: str) -> int:
    try:
        return len(raw_text(text))
    except UnicodeEncodeError:
        return len(text.encode("utf-8", "surrogatepass"))


def check_target(
    path: Path, target: str, limits: Limits = DEFAULT_LIMITS, *, any_bytes: bool = False
) -> None:
    """Check the target of the symlink at `path`: anything that a kernel would store.

    Raises: UnsafePath.
    """
    try:
        size = len(target.encode("utf-8", UTF8_ERRORS[any_bytes]))
    except UnicodeEncodeError:
        raise UnsafePath(path, "a symlink target that is not Unicode") from None
    if not target or "\0" in target or size > limits.target_size:
        raise UnsafePath(
            path, f"a symlink target that is empty, holds NUL or exceeds {limits.target_size} bytes"
        )


def order_paths(paths: Iterable[Path], limits: Limits = DEFAULT_LIMITS) -> list[Path]:
    """Sort paths by component, so that each directory's are together; checks them as a whole.

    Raises: UnsafePath, if one occurs twice or lies under another; TreeTooLarge, if they and the
    directories they imply are more than `limits.entries`.
    """
    ordered = sorted(paths)
    total = 0
    before: Path | None = None
    for path in ordered:
        common = 0
        if before is not None:
            common = common_length(before, path)
            if common == len(before):
                fault = "it occurs twice" if path == before else "it lies under another entry"
                raise UnsafePath(path, fault)
        # One for the entry itself, and one for each directory that no path before it was in.
        total += max(1, len(path) - common)
        if total > limits.entries:
            raise TreeTooLarge("files and directories", limits.entries)
        before = path
    return ordered


def common_length(one: Path, other: Path) -> int:
    """Count the leading components that two paths share."""
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length
