"""docs/tutorials/guix.md, word for word: from nothing to an item that came out of blocks."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.integration.walkthrough import commands_in, follow, free_port


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_following_it_leads_to_the_item(tmp_path: Path) -> None:
    script = commands_in("tutorials/guix.md").replace("8181", str(free_port()))
    assert "kapla publish" in script
    # Whoever types is slower than this: the programs must have begun to listen.
    script = script.replace(
        "curl http:",
        "until curl -so /dev/null http://127.0.0.1:$PORT; do sleep 0.1; done; curl http:",
    )
    port = re.search(r"--port (\d+)", script)
    assert port is not None
    said, messages = follow(f"set -o pipefail\n{script}\nwait", tmp_path, PORT=port[1])
    item = re.search(r"^/gnu/store/[a-z0-9]{32}-greeting$", said, re.MULTILINE)
    assert item is not None, messages
    assert "ERIS: urn:eris:" in said
    assert said.count(f"{item[0]}\n") >= 2, messages
    assert len(re.findall(r"^success sha256:[a-z0-9]{52} \d+$", said, re.MULTILINE)) == 2, messages
    assert "hello\n" in said
    # The first time out of blocks, the second, without the daemon, over HTTP.
    sources = re.findall(r"Downloading (\S+)", messages)
    assert [source.split(":")[0] for source in sources] == ["urn", "urn", "http"], messages
    for name in ("fetched", "again"):
        fetched = tmp_path / "try" / name
        assert (fetched / "run").is_symlink()
        assert os.listdir(fetched / "empty") == []
        assert (fetched / "bin" / "hello").stat().st_mode & 0o777 == 0o555
        assert (fetched / "bin" / "hello").stat().st_mtime == 1
