"""Which addresses are those of a local network."""

from __future__ import annotations

import pytest

from kapla.seeds.near import is_local_address


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.7.7",
        "::1",
        "fe80::1%eth0",
        "fd00::7",
        "::ffff:192.168.1.1",
    ],
)
def test_these_are(host: str) -> None:
    assert is_local_address(host)


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2001:db8::1", "::ffff:8.8.8.8", "-", "", "host", "::"],
)
def test_these_are_not(host: str) -> None:
    assert not is_local_address(host)
