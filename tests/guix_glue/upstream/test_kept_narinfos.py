"""What is kept of others' narinfos."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from guix_glue.formats.narinfo import format_narinfo, format_unsigned, parse_narinfo
from guix_glue.kept.directory import CacheDirectory
from guix_glue.servers.url import parse_server
from guix_glue.upstream.kept_narinfos import MirrorCache, Mirrored
from tests.guix_glue.fetch.support import make_item, narinfo_of, plain_url


def test_what_is_kept_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    made = make_item(tmp_path / "file")
    directory = CacheDirectory(tmp_path / "cache")
    try:
        cache = MirrorCache(directory, "/gnu/store")
        narinfo = parse_narinfo(narinfo_of(made, [plain_url(made)]), store_dir="/gnu/store")
        parts = [f"{number:032d}" for number in range(5)]
        for age, part in enumerate(parts):
            item = replace(narinfo.item, path=f"/gnu/store/{part}-x")
            text = format_narinfo(format_unsigned(item), None, narinfo.urls)
            read = parse_narinfo(text, store_dir="/gnu/store")
            cache.keep(Mirrored(parse_server("http://x"), read, 1e12))
            os.utime(directory.path / "upstream" / part, (age, age))
        cache.trim(2)
        assert [part for part in parts if cache.find(part) is not None] == parts[3:]
        assert cache.count() == 2
    finally:
        directory.close()
