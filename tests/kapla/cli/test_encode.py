"""Encoding by the command line: what only shows while something else happens."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eris import MemoryStore
from eris_fs import FileChanged
from kapla.cli import encode as encode_module
from kapla.cli import encoding
from tests.eris_fs.stores import HookedStore

_SIZE = 12 << 20


def test_a_file_that_is_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written to before it is read to its end, and its time put back."""
    path = tmp_path / "f"
    path.write_bytes(bytes(_SIZE))
    os.utime(path, (1.5e9, 1.5e9))

    def write(request: int) -> None:
        if request == 0:
            with path.open("r+b") as file:
                file.write(b"B")
            os.utime(path, (1.5e9, 1.5e9))

    @asynccontextmanager
    async def connect(_: str | None) -> AsyncIterator[HookedStore]:
        yield HookedStore(MemoryStore(), write)

    monkeypatch.setattr(encoding, "connect", connect)
    with pytest.raises(FileChanged, match="time of change"):
        encode_module.command.main([str(path), "--no-pin"], standalone_mode=False)
