"""Trees of `raw`, laid out on disk and read back."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.eris_fs.delta.raw import Link, Tree, name


def lay_out(tree: Tree, root: Path) -> Path:
    """Make a tree below a directory, which is made too."""
    root.mkdir(parents=True)
    for path, one in tree.items():
        where = os.path.join(os.fsencode(root), name(path))
        os.makedirs(os.path.dirname(where), exist_ok=True)
        if isinstance(one, Link):
            os.symlink(one.encode("utf-8", "surrogateescape"), where)
        elif one is None:
            os.mkdir(where)
        else:
            Path(os.fsdecode(where)).write_bytes(one)
            os.chmod(where, 0o755 if path.endswith("*") else 0o644)
    return root


def read_back(root: Path) -> dict[str, bytes | Link | None]:
    """What is below a directory."""
    found: dict[str, bytes | Link | None] = {}
    for way, directories, files in os.walk(os.fsencode(root)):
        if not directories and not files:
            found[_path(root, way)] = None
        for one in [*directories, *files]:
            where = os.path.join(way, one)
            if os.path.islink(where):
                target = os.readlink(where)
                found[_path(root, where)] = Link(target.decode("utf-8", "surrogateescape"))
            elif one in files:
                is_program = os.stat(where).st_mode & stat.S_IXUSR
                path = _path(root, where) + "*" * bool(is_program)
                found[path] = Path(os.fsdecode(where)).read_bytes()
    found.pop(".", None)
    return found


def _path(root: Path, where: bytes) -> str:
    return os.path.relpath(where, os.fsencode(root)).decode("utf-8", "surrogateescape")
