"""Targets of settings: files that people write."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from kapla.config import Misconfigured, Sources, load
from kapla.config.lines import key_lines
from kapla.database_url import parse_database_url
from kapla.errors import InvalidUrl
from kapla.given_urls import parse_store_urls
from kapla.urls import format_store_url
from tests.fuzz.cutting import as_text

__all__ = ["database_url", "settings_file", "store_group", "toml_lines"]


# Where there may be no home.
_FLAGS: Final = {"store": "/s", "listen": ["coap+unix:///l"]}


def settings_file(data: bytes) -> None:
    """Read a file of settings; what is wrong has a place, and is told in lines of its own."""
    with NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        try:
            loaded = load(Sources(file.name, _FLAGS, environment={}))
        except Misconfigured as error:
            assert error.problems
            assert all("\n" not in str(problem) for problem in error.problems)
        else:
            assert loaded.file == path


def database_url(data: bytes) -> None:
    """Read the URL of a database; what is shown of it is one too, and has no secret."""
    with suppress(ValueError):
        url = parse_database_url(as_text(data))
        again = parse_database_url(str(url))
        assert (str(again), again.where) == (str(url), url.where)
        assert not again.has_password
        assert url.where.isprintable()


def store_group(data: bytes) -> None:
    """Read the URLs of stores, some of them of groups; written again they are the same."""
    with suppress(InvalidUrl):
        for url in parse_store_urls(as_text(data)):
            (again,) = parse_store_urls(format_store_url(url))
            places = [(one.endpoint, one.store_path) for one in url.members]
            assert places == [(one.endpoint, one.store_path) for one in again.members]


def toml_lines(data: bytes) -> None:
    """Find lines of keys: of all those of the first level, in whatever is TOML."""
    text = as_text(data)
    lines = key_lines(text)
    with suppress(tomllib.TOMLDecodeError, RecursionError):
        assert {path[0] for path in lines} == set(tomllib.loads(text))
