"""fsspec's own tests of copying files out of a file system, on trees in a daemon.

Those of writing do not apply: what they find is only that nothing can be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec")

from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from kapla.doors.filesystem import ErisFileSystem
from kapla.doors.sync import open_store
from tests.integration.daemon import Daemon

Make = Callable[[Any, Any, str], str]


class ErisFixtures(AbstractFixtures):  # type: ignore[misc]
    """The trees that the tests want, made here and put into the daemon."""

    @pytest.fixture
    def fs(self, daemon: Daemon) -> ErisFileSystem:
        return ErisFileSystem(store_url=daemon.url)

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    def _put(self, make: Make, daemon: Daemon, tmp_path: Path) -> str:
        root = tmp_path / "made"
        root.mkdir()
        join = self._join
        source = make(LocalFileSystem(auto_mkdir=True), join, str(root))
        with open_store(daemon.url) as store:
            letters = store.put_tree(root).to_urn().removeprefix("urn:eris:")
        return letters + source.removeprefix(str(root))

    @staticmethod
    def _join(*parts: str) -> str:
        return "/".join(parts)

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, daemon: Daemon, tmp_path: Path) -> Iterator[str]:
        yield self._put(self._bulk_operations_scenario_0, daemon, tmp_path)

    @pytest.fixture
    def fs_glob_edge_cases_files(self, daemon: Daemon, tmp_path: Path) -> Iterator[str]:
        yield self._put(self._glob_edge_cases_files, daemon, tmp_path)

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(
        self, daemon: Daemon, tmp_path: Path
    ) -> Iterator[str]:
        yield self._put(self._dir_and_file_with_same_name_prefix, daemon, tmp_path)

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, daemon: Daemon, tmp_path: Path) -> Iterator[str]:
        yield self._put(self._10_files_with_hashed_names, daemon, tmp_path)


class TestGet(ErisFixtures, AbstractGetTests):  # type: ignore[misc]
    """Getting files, directories, lists and globs."""

    def test_get_directory_recursive(
        self, fs: ErisFileSystem, daemon: Daemon, tmp_path: Path, local_target: str
    ) -> None:
        """As fsspec's, which makes its source in the file system itself."""

        def make(local: Any, join: Any, root: str) -> str:
            local.touch(join(root, "src", "file"))
            return str(join(root, "src"))

        src = self._put(make, daemon, tmp_path)
        target = Path(local_target)
        fs.get(src, local_target, recursive=True)
        assert [file.relative_to(target).as_posix() for file in target.rglob("*")] == ["file"]
        fs.get(src, local_target, recursive=True)
        assert (target / "src" / "file").is_file()
        fs.get(f"{src}/", str(target / "other"), recursive=True)
        assert [file.name for file in (target / "other").rglob("*")] == ["file"]
