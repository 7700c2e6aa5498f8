"""The Python of the documents is in files that are type-checked, and run here.

What is shown must stand in one of them as it is, or indented as a coroutine's lines are.
"""

from __future__ import annotations

import re
import runpy
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon, running_daemon
from tests.integration.walkthrough import DOCUMENTS

REPOSITORY = DOCUMENTS.parent
EXAMPLES = Path(__file__).parent / "examples"
NOT_RUN = {"__init__", "readme_daemon"}
SCRIPTS = sorted(file for file in EXAMPLES.glob("*.py") if file.stem not in NOT_RUN)
PAGES = ("README.md", "docs/tutorials/python.md")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the examples run: with what they read, and the daemon as the default store."""
    (tmp_path / "photo.jpg").write_bytes(bytes(range(256)) * 200)
    notes = tmp_path / "notes"
    (notes / "2026").mkdir(parents=True)
    (notes / "2026" / "june.txt").write_text("Dear diary\n")
    (notes / "today.txt").write_text("It is raining.\n")
    (notes / "guide.txt").write_text("first\nsecond\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ERIS_STORE_URL", daemon.url)
    return tmp_path


def shown_in(page: str, language: str) -> list[str]:
    text = (REPOSITORY / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_runs_and_says_what_the_page_shows(
    script: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(script))
    said = capsys.readouterr().out
    code = script.read_text()
    page = (REPOSITORY / "docs/tutorials/python.md").read_text()
    pairs = re.findall(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL
    )
    for shown, output in pairs:
        if shown in code:
            assert set(output.splitlines()) <= set(said.splitlines())


@pytest.mark.parametrize("page", PAGES)
def test_what_is_shown_is_run(page: str) -> None:
    files = REPOSITORY.glob("tests/**/examples/*.py")
    run = [file.read_text() for file in files]
    shown = shown_in(page, "python")
    assert shown
    missing = [
        block
        for block in shown
        if not any(block in code or textwrap.indent(block, "    ") in code for code in run)
    ]
    assert not missing, "\n".join(missing)
