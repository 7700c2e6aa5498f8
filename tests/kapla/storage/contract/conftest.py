"""The same tests over each backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kapla.storage.contract.stores import Kind, of_database, of_file
from tests.postgres import the_server


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    """A store of each kind."""
    if request.param == "sqlite":
        return of_file(tmp_path)
    url = request.getfixturevalue("postgres_url")
    return of_database(url, lambda statement: the_server().execute(statement, url))
