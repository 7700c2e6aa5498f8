"""Sizes as the stock server takes them."""

from __future__ import annotations

import pytest

from guix_glue.publish.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("10M", 10 * 1024**2),
        ("10MiB", 10 * 1024**2),
        ("10 mib", 10 * 1024**2),
        ("10MB", 10_000_000),
        ("1.5GB", 1_500_000_000),
        ("0.5K", 512),
        ("2T", 2 * 1024**4),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1X", "10iB", "1e9", "1,5G", "1.G", "9" * 16, "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)
