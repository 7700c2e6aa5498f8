"""What is fetched by a signed narinfo from a public server is noted, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from eris.encode import encode
from guix_glue.kept.public_items import item_mark
from guix_glue.kept.public_notes import PublicNotes
from tests.guix_glue.fetch.bringing import bring
from tests.guix_glue.fetch.fakes import running_server
from tests.guix_glue.fetch.proxy import running_proxy
from tests.guix_glue.fetch.support import make_item, publish

HOST = "cache.example.org"


@pytest.mark.parametrize(
    ("url", "is_noted"),
    [
        ("http://cache.example.org", True),
        ("http://user:secret@cache.example.org", False),
        ("the server itself", False),
    ],
)
def test_noted_or_not(tmp_path: Path, url: str, is_noted: bool) -> None:
    (tmp_path / "file").write_bytes(b"content " * 1000)
    made = make_item(tmp_path / "file")
    capability, _ = encode(b"a tree")
    notes = PublicNotes(str(tmp_path / "public-items"))
    with running_server() as server, running_proxy({HOST: server.url}) as proxy:
        publish(server, made, urn=capability.to_urn())
        asked = url if url.startswith("http") else server.url
        environ = {"http_proxy": proxy.url} if url.startswith("http") else {}
        bring(made, tmp_path / "item", asked, environ=environ, public=notes).assert_right(
            made, tmp_path / "item"
        )
    mark = item_mark(made.item.hash_part, made.item.nar_hash)
    assert notes.items.read() == ({mark} if is_noted else frozenset())
    assert notes.urns.read_all() == ({mark: capability.to_bytes()} if is_noted else {})
