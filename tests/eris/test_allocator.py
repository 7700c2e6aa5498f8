"""The allocator's settings, seen from outside: what is large is given back."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

# glibc puts large pieces into its heaps once a larger one was freed, and counts those it does not.
_PROGRAM = """
import ctypes
from eris.allocator import give_back_what_is_large

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Mallinfo2
{call}
larger = bytes(30 << 20)
del larger
before = mallinfo2().hblks
large = bytes(2 << 20)
print(mallinfo2().hblks - before)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="this C library tells nothing of its heaps"
)
@pytest.mark.parametrize(("call", "given_back"), [("", 0), ("give_back_what_is_large()", 1)])
def test_what_is_large_has_pages_of_its_own(call: str, given_back: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(call=call)], capture_output=True, check=True
    )
    assert int(done.stdout) == given_back
