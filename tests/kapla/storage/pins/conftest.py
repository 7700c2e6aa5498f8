"""The same tests over each backend."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from kapla.storage.postgresql.settings import PostgresSettings
from tests.kapla.storage.databases import settings_for
from tests.kapla.storage.pins.stores import Settings


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A store of each kind."""
    if request.param == "sqlite":
        return partial(settings_for, tmp_path)
    return partial(PostgresSettings.of, request.getfixturevalue("postgres_url"))
