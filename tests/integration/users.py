"""Doing things as somebody else, whoever runs the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

__all__ = ["as_a_user", "connected_as"]


@cache
def as_a_user() -> tuple[str, ...]:
    """What to put before a command; skips the test where there is no way.

    In a user namespace in which root is somebody else, all files can be reached as before, but only
    by their owner's rights.
    """
    if os.geteuid() != 0:
        return ()
    prefix = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
    if shutil.which(prefix[0]) is None:
        pytest.skip("the tests run as root, and there is no unshare to become somebody else")
    tried = subprocess.run([*prefix, "id", "-u"], capture_output=True, text=True, check=False)
    if tried.stdout.strip() != "1000":
        pytest.skip(f"the tests run as root, and cannot be somebody else: {tried.stderr.strip()}")
    return prefix


@contextlib.contextmanager
def connected_as(uid: int, path: Path) -> Iterator[socket.socket]:
    """A connection to a Unix socket that the kernel says to be of this uid.

    Skips the test if that cannot be: only root may be somebody else. The socket's file and its
    directory are opened to everybody.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can connect as somebody else")
    path.chmod(0o666)
    path.parent.chmod(0o711)
    with socket.socket(socket.AF_UNIX) as connection:
        # From inside its directory: those above it are not open to everybody.
        with contextlib.chdir(path.parent):
            # Who connects is what counts: the kernel notes it then, once and for all.
            os.seteuid(uid)
            try:
                connection.connect(path.name)
            finally:
                os.seteuid(0)
        yield connection
