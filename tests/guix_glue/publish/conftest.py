"""One publisher over a few items, for all tests that only look."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guix_glue.publish.support import KEYS, Publisher, make_item, publishing


@pytest.fixture(scope="session")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of items with every oddity that a nar can express."""
    directory = tmp_path_factory.mktemp("items")
    make_item(directory, "notes.txt").write_bytes(b"just a file\n")
    make_item(directory, "sample.tar.gz").write_bytes(b"packed already\n")
    make_item(directory, "a+b=c?d").write_bytes(b"x")
    make_item(directory, "link").symlink_to("/gnu/store/nowhere")
    program = make_item(directory, "program")
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o555)
    tree = make_item(directory, "tree-1.0")
    (tree / "bin").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "bin" / "tool").write_bytes(b"#!/bin/sh\n" * 1000)
    (tree / "bin" / "tool").chmod(0o555)
    (tree / "bin" / "alias").symlink_to("tool")
    (tree / "b").write_bytes(b"")
    (tree / "B").write_bytes(b"1")
    (tree / "ünï").write_bytes(b"2" * 8191)
    (tree / "large").write_bytes(bytes(range(256)) * 4096)
    return directory


@pytest.fixture(scope="session")
def publisher(items: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    """A publisher of these, compressing in three ways."""
    with publishing(
        tmp_path_factory.mktemp("publisher"),
        "--items",
        items,
        *KEYS,
        *("-C", "zstd:3", "-C", "lzip:3", "-C", "gzip:9"),
        *("--ttl", "30d", "--negative-ttl", "1h"),
    ) as one:
        yield one


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB, where the cache of a test is."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    directory = tmp_path / "cache"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "kapla-test", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)
