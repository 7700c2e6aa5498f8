"""Where build logs are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from guix_glue.local.build_logs import BuildLogs, LogFile
from guix_glue.model import StoreItem

DERIVER = "9ph6fa9lwp06gwqg8vdx6avbfi0f8671-app-1.2.3.drv"
ITEM_PATH = "/gnu/store/7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3"


def item(deriver: str | None) -> StoreItem:
    return StoreItem(ITEM_PATH, bytes(32), 120, (), deriver)


@pytest.mark.parametrize(("ending", "encoding"), [("", None), (".gz", "gzip"), (".bz2", "bzip2")])
def test_a_log(tmp_path: Path, ending: str, encoding: str | None) -> None:
    log = tmp_path / "drvs" / "9p" / f"h6fa9lwp06gwqg8vdx6avbfi0f8671-app-1.2.3.drv{ending}"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"built")
    assert BuildLogs(str(tmp_path)).find(item(DERIVER)) == LogFile(str(log), encoding)


def test_the_log_of_a_derivation_that_is_asked_for_by_its_name(tmp_path: Path) -> None:
    log = tmp_path / "drvs" / "9p" / f"{DERIVER[2:]}.bz2"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"built")
    logs = BuildLogs(str(tmp_path))
    assert logs.of_derivation(DERIVER) == LogFile(str(log), "bzip2")
    assert logs.of_derivation("9p/../../secret.drv") is None


def test_no_log(tmp_path: Path) -> None:
    logs = BuildLogs(str(tmp_path))
    assert logs.find(item(DERIVER)) is None
    assert logs.find(item(None)) is None
    assert BuildLogs(str(tmp_path / "nowhere")).find(item(DERIVER)) is None


def test_only_regular_files(tmp_path: Path) -> None:
    directory = tmp_path / "drvs" / "9p"
    (directory / f"{DERIVER[2:]}.gz").mkdir(parents=True)
    (directory / f"{DERIVER[2:]}.bz2").symlink_to("/etc/passwd")
    assert BuildLogs(str(tmp_path)).find(item(DERIVER)) is None


def test_a_deriver_that_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "drvs" / "xx").mkdir(parents=True)
    assert BuildLogs(str(tmp_path)).find(item("xx../../secret")) is None
