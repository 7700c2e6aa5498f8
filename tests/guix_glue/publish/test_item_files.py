"""What is listed of an item: small and large ones, and those that cannot be listed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from guix_glue.publish.item_files import list_item
from guix_glue.serving.reply import StreamBody


def test_a_small_item_is_listed_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    body = list_item(str(tmp_path))
    assert isinstance(body, bytes)
    assert list(json.loads(body)["root"]["entries"]) == ["a"]


def test_a_large_item_is_listed_as_it_is_sent(tmp_path: Path) -> None:
    names = [f"{number:04}{'x' * 200}" for number in range(1_500)]
    for name in names:
        (tmp_path / name).touch()
    body = list_item(str(tmp_path))
    assert isinstance(body, StreamBody)
    pieces = list(body.open())
    assert len(pieces) > 2
    assert sum(map(len, pieces)) == body.size
    assert list(json.loads(b"".join(pieces))["root"]["entries"]) == names


@pytest.mark.parametrize("what", ["nothing", "name", "pipe"])
def test_what_cannot_be_listed(tmp_path: Path, what: str) -> None:
    item = tmp_path / "item"
    if what != "nothing":
        item.mkdir()
    if what == "name":
        Path(os.fsdecode(os.fsencode(item) + b"/\xff")).touch()
    elif what == "pipe":
        os.mkfifo(item / "pipe")
    assert list_item(str(item)) is None
