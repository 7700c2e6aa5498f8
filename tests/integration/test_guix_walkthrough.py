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
    store = tmp_path / "try/store"
    item = re.search(rf"^{store}/[a-z0-9]{{32}}-greeting-1.0$", said, re.MULTILINE)
    assert item is not None, messages
    assert "ERIS: urn:eris:" in said
    assert said.count(f"{item[0]}\n") >= 2, messages
    assert len(re.findall(r"^success sha256:[a-z0-9]{52} \d+$", said, re.MULTILINE)) == 3, messages
    assert "hello\n" in said
    assert "good morning\n" in said
    # Out of blocks, by a delta, and at last, without the daemon, over HTTP.
    sources = re.findall(r"Downloading (\S+)", messages)
    assert [source.split(":")[0] for source in sources] == ["urn", "urn", "urn", "http"], messages
    delta = re.search(r"by a delta of (\d+) bytes against (\S+)", messages)
    assert delta is not None, messages
    assert f"{store}/{delta[2]}" == item[0]
    assert int(delta[1]) < 5_000
    (upgraded,) = store.glob("*-greeting-1.1")
    for fetched in (Path(item[0]), upgraded, tmp_path / "try/again"):
        assert (fetched / "run").is_symlink()
        assert os.listdir(fetched / "empty") == []
        assert (fetched / "bin" / "hello").stat().st_mode & 0o777 == 0o555
        assert (fetched / "bin" / "hello").stat().st_mtime == 1
