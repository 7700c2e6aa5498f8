"""The examples in the documents are those that are run here, and so they run."""

from __future__ import annotations

import re
import runpy
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon

EXAMPLES = Path(__file__).parent / "examples"
REPOSITORY = EXAMPLES.parents[3]
SCRIPTS = sorted(file for file in EXAMPLES.glob("*.py") if file.name != "__init__.py")


@pytest.fixture
def place(tmp_path: Path, directory: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the examples are run: with what they read, and the daemon as the default store."""
    shutil.copytree(directory, tmp_path / "notes", symlinks=True)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "people.csv").write_text("name,born\nAda,1815\n")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as photos:
        photos.writestr("cat.jpg", b"meow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ERIS_STORE_URL", daemon.url)
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_runs(script: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if script.stem == "filesystem":
        pytest.importorskip("fsspec")
    runpy.run_path(str(script))
    if script.stem == "synchronous":
        printed = capsys.readouterr().out
        assert "directory docs None\n" in printed
        assert "file guide.txt 26\n" in printed
        assert (place / "copy" / "guide.txt").exists()
    if script.stem == "failures":
        assert "the store does not have it: block" in capsys.readouterr().out


@pytest.mark.parametrize("document", ["docs/python.md", "README.md"])
def test_what_is_shown_is_run(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    run = [script.read_text() for script in SCRIPTS]
    shown = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shown = [block for block in shown if "kapla.doors" in block or document != "README.md"]
    assert shown
    missing = [block for block in shown if not any(block in script for script in run)]
    assert not missing, "\n".join(missing)
