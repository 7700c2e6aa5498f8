"""Decoding by the command line: what is seen before anything is fetched."""

from __future__ import annotations

import sys

import pytest

from eris import ReadCapability
from kapla.cli.common import CommandError
from kapla.cli.decode import command

UNKNOWN = ReadCapability.from_bytes(bytes([10, 0]) + b"r" * 32 + b"k" * 32).to_urn()


def test_a_closed_output_is_seen_before_the_store_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(CommandError, match="standard output is closed") as caught:
        command.main(["--store-url", "coap+unix:///nowhere", UNKNOWN, "-"], standalone_mode=False)
    assert caught.value.exit_code == 7
