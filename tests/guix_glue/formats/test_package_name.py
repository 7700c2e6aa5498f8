"""Names of items are split, and versions compared, as Guix does."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.formats.package_name import (
    PackageName,
    compare_versions,
    parse_package_name,
    version_key,
)

VERSIONS = st.text(alphabet="0012349.a-", max_size=8)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hello-2.12.1", PackageName("hello", "2.12.1")),
        ("gcc-13.2.0-lib", PackageName("gcc", "13.2.0", "lib")),
        ("font-adobe-100dpi", PackageName("font-adobe", "100dpi")),
        ("guix-1.4.0-18.4c94b9e", PackageName("guix", "1.4.0-18.4c94b9e")),
        ("x-1.0-rc1", PackageName("x", "1.0-rc1")),
        ("python-3.10.7-tk", PackageName("python", "3.10.7", "tk")),
        ("profile", PackageName("profile")),
        ("foo-lib", PackageName("foo-lib")),
        ("-1", PackageName("-1")),
        ("7zip-23.01", PackageName("7zip", "23.01")),
    ],
)
def test_names_are_split_at_the_first_hyphen_before_a_digit(name: str, parts: PackageName) -> None:
    assert parse_package_name(name) == parts


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_versions_are_compared_as_the_c_library_does(both: str, one: str, other: str) -> None:
    one, other = both + one, both + other
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        pytest.skip("another C library")
    expected = library.strverscmp(one.encode(), other.encode())
    assert sign(compare_versions(one, other)) == sign(expected)


def test_versions_in_order() -> None:
    ordered = ["", "000", "00", "01", "010", "09", "0", "1", "1.9", "1.10", "1.10a", "2", "9", "10"]
    assert sorted(sorted(ordered), key=version_key) == ordered
