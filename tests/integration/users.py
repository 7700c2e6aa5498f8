"""Running a program as somebody who is not root, whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

import pytest

__all__ = ["as_a_user"]


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
